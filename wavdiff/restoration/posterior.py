"""Many draws from the posterior: their mean, their standard deviation per pixel and per octave, and intervals.

The true picture x and N exact draws z_k are, given the data, independent and of one distribution. Where that is
Gaussian,

    (x - mean z) / (s sqrt(1 + 1/N))  ~  Student's t with N - 1 degrees of freedom,

s being the unbiased standard deviation of the draws, so that mean +- t s sqrt(1 + 1/N) holds x with the stated
probability at any N >= 2: few draws give wide intervals, not wrong ones. (The interval for one further observation of
a normal sample; Hahn and Meeker, "Statistical Intervals", 1991.)

Octave k of a picture are the details d_k of its wavelet pyramid; its standard deviation at a place is the root of the
mean variance of the three bands and all channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from wavdiff.models import wavelets
from wavdiff.system.errors import WavdiffError


@dataclass(frozen=True)
class Summary:
    """What N draws of one picture, or of a rectangle of it, say.

    Attributes:
        mean: (C, h, w), library units.
        std: (C, h, w), unbiased over draws, library units.
        octaves: per octave, finest first, (1, h_k, w_k), library units.
    """

    mean: Tensor
    std: Tensor
    octaves: tuple[Tensor, ...]

    def bounds(self, probability: float, draws: int) -> tuple[Tensor, Tensor]:
        """Lower and upper image (C, h, w) of the interval that holds a pixel with `probability`."""
        reach = interval_reach(probability, draws) * self.std
        return self.mean - reach, self.mean + reach


def summarise(draws: Tensor, octaves: int) -> Summary:
    """Summary of draws (N, C, h, w), N >= 2.

    Sides that are not multiples of 2^octaves are padded by repeating the last row and column, as in `wavelets`.
    """
    if draws.shape[0] < 2:
        raise WavdiffError(f"a standard deviation needs at least 2 draws, got {draws.shape[0]}")
    pyramid = wavelets.decompose(draws, octaves)
    maps = tuple(details.var(dim=0).mean(dim=0, keepdim=True).sqrt() for details in pyramid.details)
    return Summary(draws.mean(dim=0), draws.std(dim=0), maps)


def interval_reach(probability: float, draws: int) -> float:
    """Half the width of the interval, in standard deviations of the draws: t sqrt(1 + 1/N)."""
    if not 0 < probability < 1:
        raise WavdiffError(f"the probability of an interval must lie between 0 and 1, got {probability}")
    if draws < 2:
        raise WavdiffError(f"an interval needs at least 2 draws, got {draws}")
    return student_quantile((1 + probability) / 2, draws - 1) * (1 + 1 / draws) ** 0.5


def student_quantile(probability: float, degrees: int) -> float:
    """Quantile of Student's t for a probability of at least 1/2.

    With t = sqrt(n) tan(a) the density becomes proportional to cos(a)^(n-1), which is summed and inverted.
    """
    angle = np.linspace(0, np.pi / 2, 200_001)
    density = np.cos(angle) ** (degrees - 1)
    mass = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return float(np.sqrt(degrees) * np.tan(np.interp((2 * probability - 1) * mass[-1], mass, angle)))


def coverage(truth: Tensor, draws: Tensor, probability: float, octaves: int) -> dict[str, float]:
    """Part of the values that their interval holds: of pixels, and of the details of every octave.

    Args:
        truth: (C, h, w).
        draws: (N, C, h, w).
        probability: of the interval.
        octaves: number of octaves.

    Returns:
        {"pixels": ..., "octave 1": ..., ...}; octave 1 is the finest.
    """
    reach = interval_reach(probability, draws.shape[0])

    def held(true: Tensor, values: Tensor) -> float:
        return float(((true - values.mean(dim=0)).abs() <= reach * values.std(dim=0)).float().mean())

    result = {"pixels": held(truth, draws)}
    true_details = wavelets.decompose(truth[None], octaves).details
    for octave, details in enumerate(wavelets.decompose(draws, octaves).details):
        result[f"octave {octave + 1}"] = held(true_details[octave][0], details)
    return result
