"""Noise levels: how they are drawn in training, and the schedule that sampling walks down.

All levels here are in standardised units (the data of a scale has rms 1) unless a name says otherwise, so that one
preconditioning, one loss weighting and one schedule serve every scale.

Source: Karras, Aittala, Aila, Laine, "Elucidating the Design Space of Diffusion-Based Generative Models" (NeurIPS
2022, arXiv 2206.00364): eq. 5 (schedule), table 1 (preconditioning, log-normal training levels).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from wavdiff.system.errors import WavdiffError

SIGMA_MAX = 80.0
"""Top of the schedule, standardised units: here a denoiser sees (almost) nothing but noise."""


def expand(levels: Tensor, like: Tensor) -> Tensor:
    """Noise levels (B,) as (B, 1, 1, 1), in the dtype of `like`, to multiply a batch (B, C, H, W)."""
    return levels.to(like).reshape(-1, *[1] * (like.ndim - 1))


def preconditioning(levels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(c_skip, c_out, c_in) for sigma_data = 1 (Karras et al. 2022, table 1); each of the shape of `levels`."""
    energy = levels.square() + 1
    return 1 / energy, levels / energy.sqrt(), 1 / energy.sqrt()


@dataclass(frozen=True)
class NoiseDistribution:
    """Training noise levels.

    Two populations: for *denoising*, one level for the whole image, log-uniform between `image_min` and `image_max`
    (in [0, 1] image units); for *synthesis*, a level of its own at every scale, log-normal in standardised units, and
    for details a fraction `top_fraction` at SIGMA_MAX, because "upscale --mode mean" is one call there.
    """

    image_min: float = 0.008
    image_max: float = 0.7
    log_mean: float = -0.4
    log_std: float = 1.5
    top_fraction: float = 0.25

    def __post_init__(self) -> None:
        if not 0 < self.image_min < self.image_max:
            raise WavdiffError(
                f"noise levels need 0 < image_min < image_max, got {self.image_min} and {self.image_max}"
            )
        if not 0 <= self.top_fraction <= 1:
            raise WavdiffError(f"noise.top_fraction must be in [0, 1], got {self.top_fraction}")

    def draw_image_levels(self, count: int, generator: torch.Generator) -> Tensor:
        """(count,) levels for whole images in *library* units (images in [-1, 1]): twice the [0, 1] level."""
        low, high = math.log(2 * self.image_min), math.log(2 * self.image_max)
        return (low + (high - low) * torch.rand(count, generator=generator)).exp()

    def draw_levels(self, count: int, generator: torch.Generator, *, top: bool) -> Tensor:
        """(count,) standardised levels for synthesis; with `top`, a fraction of them at SIGMA_MAX."""
        levels = (self.log_mean + self.log_std * torch.randn(count, generator=generator)).exp()
        at_top = torch.rand(count, generator=generator) < (self.top_fraction if top else 0.0)
        return torch.where(at_top, SIGMA_MAX, levels.clamp(max=SIGMA_MAX))
