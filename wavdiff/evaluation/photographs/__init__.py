"""Photographs at their own size: denoising and enlarging beside references."""
