"""Distances to the nearest training image: what a model that copies gives away.

A low kernel distance can mean good images or copies. Copies lie far closer to their training image than new photographs
do; mirrored training images count too.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from wavdiff.system.errors import WavdiffError

_ROWS = 4096  # training images in one product


def nearest_training_distances(images: Tensor, training: Tensor, shifts: int = 0) -> tuple[Tensor, Tensor]:
    """How far the nearest training image of every image is, and which one that is.

    Args:
        images: (N, C, H, W) in [-1, 1].
        training: (M, C, H, W) in [-1, 1].
        shifts: also try every translation of the training images by up to this many pixels; the comparison is then
            over the central part of `images`, this many pixels in from each border.

    Returns:
        Root-mean-square pixel differences (N,), float32 (2 is black against white), and indices (N,) into `training`.

    Raises:
        WavdiffError: the shapes do not match, the training set is empty, or `shifts` leaves no pixel.
    """
    if images.ndim != 4 or training.ndim != 4 or images.shape[1:] != training.shape[1:]:
        raise WavdiffError(
            f"images {tuple(images.shape)} and training {tuple(training.shape)} must be (N, C, H, W) alike"
        )
    if len(training) == 0:
        raise WavdiffError("the training set is empty")
    height, width = images.shape[-2:]
    most = (min(height, width) - 1) // 2
    if not 0 <= shifts <= most:
        raise WavdiffError(f"shifts must lie in [0, {most}] for {height}x{width}, got {shifts}")

    def window(pictures: Tensor, top: int, left: int) -> Tensor:
        inner = pictures[..., top : top + height - 2 * shifts, left : left + width - 2 * shifts]
        return inner.float().flatten(1)

    centre = window(images, shifts, shifts)
    best = torch.full((len(images),), math.inf)
    indices = torch.zeros(len(images), dtype=torch.long)
    places = range(2 * shifts + 1)
    for start in range(0, len(training), _ROWS):
        part = training[start : start + _ROWS]
        for view, top, left in itertools.product((part, part.flip(-1)), places, places):
            candidates = window(view, top, left)
            # |a - b|^2 by a product finds the winner; its own distance is then taken from the difference, since the
            # product loses the digits of small distances
            winner = (candidates.square().sum(1) - 2.0 * centre @ candidates.T).argmin(1)
            distance = (centre - candidates[winner]).square().mean(1).sqrt()
            closer = distance < best
            best = torch.where(closer, distance, best)
            indices = torch.where(closer, winner + start, indices)
    return best, indices
