"""For diffusers; needs PyPI's wavdiff."""

from wavdiff import WaveletCascade

__all__ = ["WaveletCascade"]
