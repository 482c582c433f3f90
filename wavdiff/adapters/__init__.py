"""Cascades inside other libraries; every module here needs the library that it is named after."""
