"""What one training example consists of: an image and all the chance that its losses need.

Everything random about an example is drawn from its own seed, so the loss of an example does not depend on the batch,
the process or the worker it meets, and an interrupted run continues exactly.

One field of white noise on the image serves every scale: the wavelet transform is orthonormal up to a factor of 2 a
level, so 2^j times the noise's own coefficients at scale j are white, of unit variance and independent between scales.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import torch
from torch import Tensor

from wavdiff.models.cascade.noise import NoiseDistribution


class TrainingBatch(TypedDict):
    """A batch of examples; B images, J detail scales, R extra noise draws for the low-pass network."""

    image: Tensor  # (B, C, H, W) in [-1, 1]
    noise: Tensor  # (B, C, H, W), standard normal
    denoising: Tensor  # (B,) bool: teaches denoising (True) or synthesis
    image_level: Tensor  # (B,) noise level of the image, library units; used where denoising
    levels: Tensor  # (B, J + 1) standardised levels of scales 0..J-1 and the low-pass image; used otherwise
    low_noise: Tensor  # (B, R, C, h, w)
    low_levels: Tensor  # (B, R)
    label: list[str]  # names of the images
    crop: Tensor  # (B, 2) in [0, 1): where the crop of the detail scales lies


@dataclass(frozen=True)
class NoisyExamples:
    """How examples are made of images.

    Attributes:
        noise: distribution of noise levels.
        levels: number of detail scales J.
        low_repeats: noise draws of every image for the low-pass network, at least 1.
        gray: part of the examples that are made gray, with the same noise in all channels.
    """

    noise: NoiseDistribution
    levels: int
    low_repeats: int
    gray: float = 0.0

    def draw(self, image: Tensor, generator: torch.Generator, denoising: bool) -> dict[str, Tensor]:
        """One example of `image` (C, H, W): the tensors of a `TrainingBatch` without the batch dimension."""
        channels, height, width = image.shape
        low = (height >> self.levels, width >> self.levels)
        extra = self.low_repeats - 1
        details = [self.noise.draw_levels(1, generator, top=True) for _ in range(self.levels)]
        lowpass = self.noise.draw_levels(1 + extra, generator, top=False)
        noise = torch.randn(image.shape, generator=generator)
        image_level = self.noise.draw_image_levels(1, generator)[0]
        low_noise = torch.randn(extra, channels, *low, generator=generator)
        crop = torch.rand(2, generator=generator)
        if self.gray and float(torch.rand((), generator=generator)) < self.gray:
            image = image.mean(dim=0, keepdim=True).repeat(channels, 1, 1)
            noise = noise[:1].repeat(channels, 1, 1)
            low_noise = low_noise[:, :1].repeat(1, channels, 1, 1)
        return {
            "image": image,
            "noise": noise,
            "denoising": torch.tensor(denoising),
            "image_level": image_level,
            "levels": torch.cat([*details, lowpass[:1]]),
            "low_noise": low_noise,
            "low_levels": lowpass[1:],
            "crop": crop,
        }
