"""The one function that everything here is about: what a denoiser is given, and what it answers.

    denoise(noisy, level, coarse=None) -> Denoised(mean, coarse),

in library units, is an estimate of E[x | noisy]. `coarse` is what is known of the next coarser image; the low-pass
image is the scale that has none. `denoisers` and `blind_denoisers` make it of networks, `folded_denoisers` at a fixed
level, and `verbs` of a whole cascade, for whole images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

LEAST_DRAWN = 0.02
"""Lowest level of draws, standard units: about one in a hundred training examples of synthesis lies below it."""


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


def least_known(least: float, std: float, coarse_level: Tensor | None, like: Tensor) -> Tensor:
    """The lowest level (B,) at which a network knows its scale; below it, it is not asked (see `short_step`).

    Args:
        least: noise on this scale of the weakest noise in an image that denoising was trained for, library units.
        std: rms of the scale.
        coarse_level: of details: noise levels of the coarse image, 0 where it is exact; None: exact, or no details.
        like: levels (B,).
    """
    drawn = torch.full_like(like, min(least, LEAST_DRAWN * std))
    return drawn if coarse_level is None else torch.where(coarse_level > 0, least, drawn)


def short_step(level: Tensor, least: Tensor) -> tuple[Tensor, Tensor]:
    """The level to ask a network about, and the share of its step from the observation that is taken.

    By Tweedie's formula the step is D(y, s) - y = s^2 grad log p_s(y), and the score of images with little noise hardly
    depends on how little: below `least` the step is that at `least` times (s / least)^2, so that D(y, s) tends to y
    as s tends to 0, whatever the network would say there.
    """
    asked = torch.maximum(level, least * (1 - 1e-4))
    return asked, (level / asked).square()


def shortened(answer: Tensor, start: Tensor, share: Tensor) -> Tensor:
    """`share` (B,) of the step from `start` (B, c, h, w) to `answer`; where it is 1, `answer` to the bit."""
    part = share.to(start).reshape(-1, 1, 1, 1)
    return torch.where(part < 1, start + part * (answer - start), answer)


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
