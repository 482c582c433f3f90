"""Where `model_index.json` of saved models says that `WaveletCascade` is; diffusers looks here for its base class, too."""

from diffusers import ModelMixin

from wavdiff.models.cascade.model import WaveletCascade

__all__ = ["ModelMixin", "WaveletCascade"]
