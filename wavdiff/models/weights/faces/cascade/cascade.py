"""For diffusers; needs the package wavdiff."""

from wavdiff import WaveletCascade

__all__ = ["WaveletCascade"]
