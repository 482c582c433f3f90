"""Draws from the posterior beside its mean: a test that needs nothing but the clean picture.

Let x be the clean picture, y what is given, m = E[x | y] and e = E|x - m|^2. A draw z from the posterior, given y, has
the distribution of x and is independent of it, so that

    E|z - x|^2 = 2 e,                         10 log10 2 = 3.01 dB under the mean,
    E|mean of N draws - x|^2 = (1 + 1/N) e,   10 log10(1 + 1/N) dB under it.

Draws further down are too bold (they add what is not there), draws further up too timid (they leave out what is). A
mean mode that is not quite the posterior mean moves both towards zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from wavdiff.evaluation import metrics
from wavdiff.evaluation.scores import Scores
from wavdiff.models.random_numbers import derive_generator


def expected_gaps(draws: int) -> Scores:
    """What exact draws give in `measure_draws`, in dB."""
    return {"one_draw": -10 * math.log10(2), "mean_of_draws": -10 * math.log10(1 + 1 / draws)}


def measure_draws(
    draw: Callable[..., Tensor],
    given: Tensor,
    mean: Tensor,
    clean: Tensor,
    draws: int,
    purpose: tuple[object, ...],
) -> tuple[Scores, Tensor]:
    """Draw, and compare with mean mode.

    Args:
        draw: from what is given and `seed` to a draw.
        given: the noisy or the small picture, (1, C, h, w).
        mean: the answer of mean mode, (1, C, H, W).
        clean: the truth, (1, C, H, W).
        draws: N, at least 1.
        purpose: what the seeds follow from: seed of the evaluation, picture, task.

    Returns:
        `one_draw`, the PSNR of a draw (averaged over the N), and `mean_of_draws`, that of the mean of all N (limited to
        the range after averaging), both minus the PSNR of `mean`, in dB; and the first draw.
    """
    base = float(metrics.psnr(mean, clean)[0])

    def gap(estimate: Tensor) -> float:
        return float(metrics.psnr(estimate, clean)[0]) - base

    total = torch.zeros_like(clean)
    single: list[float] = []
    for index in range(draws):
        sample = draw(given, seed=derive_generator(0, "evaluation draw", *purpose, index).initial_seed() % 2**31)
        if not single:
            first = sample
        total += sample
        single.append(gap(sample))
    return {"one_draw": round(math.fsum(single) / draws, 4), "mean_of_draws": round(gap(total / draws), 4)}, first
