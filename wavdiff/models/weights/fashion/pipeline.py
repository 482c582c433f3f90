"""For diffusers; needs PyPI's wavdiff."""

from wavdiff import WaveletCascadePipeline

__all__ = ["WaveletCascadePipeline"]
