"""For diffusers; needs the package wavdiff."""

from wavdiff import WaveletCascadePipeline

__all__ = ["WaveletCascadePipeline"]
