"""What one training example consists of: an image and all the chance that its losses need.

Everything random about an example is drawn from its own seed, so the loss of an example does not depend on the batch,
the process or the worker it meets, and an interrupted run continues exactly.

One field of white noise on the image serves every scale: the wavelet transform is orthonormal up to a factor of 2 a
level, so 2^j times the noise's own coefficients at scale j are white, of unit variance and independent between scales.
"""

from __future__ import annotations

from typing import TypedDict, cast

import torch
from torch import Tensor

from wavdiff.data import ExampleDataset, ImageSource
from wavdiff.data.order import TrainingKey
from wavdiff.data.protocols import EncodedImage
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


class TrainingExamples(torch.utils.data.Dataset[TrainingBatch]):
    """Examples by key ((index, seed, strength), denoising).

    Args:
        images: the augmented images.
        noise: distribution of noise levels.
        levels: number of detail scales J.
        low_repeats: noise draws of every image for the low-pass network, at least 1.
        gray: part of the examples that are made gray, with the same noise in all channels.
    """

    def __init__(
        self, images: ExampleDataset, noise: NoiseDistribution, levels: int, low_repeats: int, gray: float = 0.0
    ) -> None:
        self.images = images
        self.noise = noise
        self.levels = levels
        self.low_repeats = low_repeats
        self.gray = gray

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    def __getitem__(self, key: TrainingKey) -> TrainingBatch:
        """One example; every value is a tensor without the batch dimension."""
        example, denoising = key
        image = self.images[example]
        generator = torch.Generator().manual_seed(example[1] >> 1)
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
            "label": self._label(example[0]),  # type: ignore[typeddict-item]  # a list once collated
        }

    def _label(self, image: int | EncodedImage) -> str:
        return image.label if isinstance(image, EncodedImage) else cast(ImageSource, self.images.source).label(image)
