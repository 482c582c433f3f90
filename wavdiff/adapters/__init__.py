"""A cascade inside other libraries and programs: what needs a library is in the module that has its name."""
