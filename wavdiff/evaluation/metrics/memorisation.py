"""Distances to the nearest training image: what a model that copies gives away."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from wavdiff.system.errors import WavdiffError


def nearest_training_distances(images: Tensor, training: Tensor, shifts: int = 0) -> tuple[Tensor, Tensor]:
    """Return, for every image, how far its nearest training image is, and which one that is.

    A model that copies shows distances far below those of new photographs. Mirrored training images count too.

    Args:
        images: (N, C, H, W) in [-1, 1].
        training: (M, C, H, W) in [-1, 1].
        shifts: Also try every translation of the training images by up to this many pixels; the comparison is then
            over the central part of `images`, this many pixels in from each border.

    Returns:
        Root-mean-square pixel differences (N,), float32 (2 is black against white), and indices (N,) into `training`.

    Raises:
        WavdiffError: The shapes do not match, the training set is empty, or `shifts` leaves no pixel.
    """
    if images.ndim != 4 or training.ndim != 4 or images.shape[1:] != training.shape[1:]:
        raise WavdiffError(
            f"images {tuple(images.shape)} and training {tuple(training.shape)} must be (N, C, H, W) alike"
        )
    if len(training) == 0:
        raise WavdiffError("the training set is empty")
    height, width = images.shape[-2:]
    if shifts < 0 or 2 * shifts >= min(height, width):
        raise WavdiffError(
            f"shifts must lie in [0, {(min(height, width) - 1) // 2}] for {height}x{width}, got {shifts}"
        )
    inner_height, inner_width = height - 2 * shifts, width - 2 * shifts
    centre = images[..., shifts : shifts + inner_height, shifts : shifts + inner_width].float().flatten(1)
    best = torch.full((len(images),), math.inf)
    indices = torch.zeros(len(images), dtype=torch.long)
    start = 0
    for part in training.float().split(4096):
        for view in (part, part.flip(-1)):
            for top in range(2 * shifts + 1):
                for left in range(2 * shifts + 1):
                    window = view[..., top : top + inner_height, left : left + inner_width].flatten(1)
                    # |a - b|^2 by a product finds the winner; its own distance is then taken from the difference,
                    # since the product loses the digits of small distances
                    scores = window.square().sum(1) - 2.0 * centre @ window.T
                    winner = scores.argmin(1)
                    distance = (centre - window[winner]).square().mean(1).sqrt()
                    closer = distance < best
                    best = torch.where(closer, distance, best)
                    indices = torch.where(closer, winner + start, indices)
        start += len(part)
    return best, indices
