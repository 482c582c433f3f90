"""Where `model_index.json` says that `WaveletCascade` is; diffusers looks for its base class here, too."""

from diffusers import ModelMixin

from wavdiff.models.cascade.model import WaveletCascade

__all__ = ["ModelMixin", "WaveletCascade"]
