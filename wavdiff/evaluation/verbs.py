"""The two verbs that are evaluated, as the library offers them; the only place here that calls them."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from wavdiff import api
from wavdiff.cascade import WaveletCascade

Mode = Literal["mean", "sample"]


def denoised(cascade: WaveletCascade, noisy: Tensor, sigma: float, mode: Mode = "mean", seed: int = 0) -> Tensor:
    """Denoise pictures (N, C, H, W) in [-1, 1] plus noise of `sigma` ([0, 1] units); picture k has seed `seed` + k."""
    result: Tensor = api.denoise(noisy, sigma, model=cascade, mode=mode, seed=seed)
    return result


def enlarged(cascade: WaveletCascade, small: Tensor, factor: int, mode: Mode = "mean", seed: int = 0) -> Tensor:
    """Enlarge pictures (N, C, H, W) in [-1, 1] by a power of two; picture k has seed `seed` + k."""
    result: Tensor = api.upscale(small, factor, model=cascade, mode=mode, seed=seed)
    return result


def can_enlarge(cascade: WaveletCascade, factor: int) -> bool:
    """Whether the cascade has the scales for it; a network without scales enlarges nothing."""
    return factor <= 2**cascade.levels
