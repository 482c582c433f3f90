"""Sliced Wasserstein distance between sets of images, over patches of their wavelet coefficients.

Two sets that a detail network cannot tell apart have the same patches at every scale. Every image gives patches of the
three detail bands of every scale, and of its low-pass image, at places drawn once for all images; a patch is projected
onto random directions, and the distance is the mean over directions of the one-dimensional Wasserstein-1 distance.

Source: J. Rabin, G. Peyre, J. Delon, M. Bernot, "Wasserstein barycenter and its application to texture mixing" (2011);
over patches of a pyramid as in Karras, Aila, Laine, Lehtinen, "Progressive growing of GANs" (ICLR 2018), with the
wavelet pyramid in place of the Laplacian one.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from wavdiff.models import wavelets
from wavdiff.system.errors import WavdiffError

PATCH = 7  # pixels a side
PATCHES = 64  # of an image and scale
DIRECTIONS = 128


def patch_projections(
    images: Tensor, levels: int, scales: list[Tensor] | None = None, wavelet: str = "haar", seed: int = 0
) -> tuple[list[Tensor], list[Tensor]]:
    """Projected patches of every scale, finest first, the low-pass image last.

    Args:
        images: (N, C, H, W) in [-1, 1].
        levels: wavelet levels J.
        scales: rms of every band, as another call returned them, so that two sets are measured alike; None: those of
            `images`.
        wavelet: orthogonal PyWavelets filter.
        seed: of places and directions.

    Returns:
        J + 1 tensors (N, patches, directions), and the rms values.

    Raises:
        WavdiffError: the low-pass image is smaller than a patch.
    """
    pyramid = wavelets.decompose(images, levels, wavelet)
    if min(pyramid.coarse.shape[-2:]) < PATCH:
        raise WavdiffError(f"patches of {PATCH}x{PATCH} need a low-pass image at least so large, got {images.shape}")
    bands = [*pyramid.details, pyramid.coarse - pyramid.coarse.mean(dim=(1, 2, 3), keepdim=True)]
    if scales is None:
        scales = [band.square().mean(dim=(0, 2, 3), keepdim=True).sqrt().clamp(min=1e-6) for band in bands]
    generator = torch.Generator().manual_seed(seed)
    projected = []
    for band, rms in zip(bands, scales, strict=True):
        patches = functional.unfold(band / rms, PATCH)  # (N, values, places)
        places = torch.randperm(patches.shape[-1], generator=generator)[:PATCHES]
        directions = torch.randn(patches.shape[1], DIRECTIONS, generator=generator)
        directions = directions / directions.norm(dim=0)
        projected.append(patches[..., places].transpose(1, 2) @ directions)
    return projected, scales


def wasserstein(one: Tensor, other: Tensor) -> float:
    """Mean over directions of the Wasserstein-1 distance between projected patches.

    Args:
        one, other: (N, patches, directions); N may differ: the larger set is then read at the quantiles of the smaller.
    """
    a, b = (values.flatten(0, 1).sort(dim=0).values for values in (one, other))
    if len(a) > len(b):
        a, b = b, a
    quantiles = ((torch.arange(len(a)) + 0.5) / len(a) * len(b)).long()
    return float((a - b[quantiles]).abs().mean())
