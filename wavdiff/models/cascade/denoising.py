"""The one function that everything here is about: what a denoiser is given, and what it answers.

    denoise(noisy, level, coarse=None) -> Denoised(mean, coarse),

in library units, is an estimate of E[x | noisy]. `coarse` is what is known of the next coarser image; the low-pass
image is the scale that has none. `denoisers` and `blind_denoisers` make it of networks, `folded_denoisers` at a fixed
level, and `verbs` of a whole cascade, for whole images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor


@dataclass(frozen=True)
class Coarse:
    """What is known of the coarse image x_j, (B, C, h, w) in library units.

    Attributes:
        estimate: x_j, or what the coarser scales made of it.
        observed: x_j as it was observed, with noise; None where `estimate` is exact.
        level: noise levels (B,) of `observed`; 0 or None where `estimate` is exact.
    """

    estimate: Tensor
    observed: Tensor | None = None
    level: Tensor | None = None


class Denoised(NamedTuple):
    """What a denoiser answers: the denoised coefficients and, of details, the coarse image, perhaps corrected."""

    mean: Tensor
    coarse: Tensor | None = None


class Denoiser(Protocol):
    """What walks, solvers and tests ask of a denoiser: a network's, a whole cascade, or an exact one.

    Attributes:
        std: rms of what it denoises over the training set, library units: the unit of standard levels.
        top: highest standard level that it is asked about.
        mean_draws: observations at the top level whose answers make the mean given the coarse image alone; 0: it is
            told its level, and given the most likely observation.
    """

    std: float
    top: float
    mean_draws: int

    def denoise(self, noisy: Tensor, level: Tensor, coarse: Coarse | None = None) -> Denoised:
        """Denoise (B, c, h, w) with noise levels (B,)."""
        ...
