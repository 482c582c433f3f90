"""The paper's sampler: stochastic ascent of the log prior, with steps that the image itself decides.

A denoiser's residual d(y) = y - D(y) points away from the images, by about the noise that is in y:
sigma = ||d|| / sqrt(N) estimates its level. Step t goes a part h of the way and adds less noise than it removed:

    y <- y - h_t d + gamma_t z,    gamma_t = sigma_t sqrt((1 - beta h_t)^2 - (1 - h_t)^2),

so that the level is multiplied by about 1 - beta h a step. beta = 1 adds none; a small beta needs many steps and
explores more. h_t is h_0 or grows as h_0 t / (1 + h_0 (t - 1)). The walk ends at the level sigma_L, with a last step to
D(y).

Every image has its own sigma and its own end. Levels are in units of pixels in [0, 1], at every scale.

Source: Z. Kadkhodaie, E. P. Simoncelli, "Solving linear inverse problems using the prior implicit in a denoiser"
(2020, arXiv 2007.13640), algorithm 1; Kadkhodaie, Guth, Mallat, Simoncelli (ICLR 2023), algorithms 1 and 2, for
cascades. Their code ends where std(y) / sigma reaches 1 / sigma_L ("snr"), the printed algorithm where sigma falls
below sigma_L ("sigma").
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from diffusers import SchedulerMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from torch import Tensor

from wavdiff.models.cascade.noise import expand
from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import shown

STOPPINGS = ("snr", "sigma")
DIVERGED = 1.5
"""A noise level, in units of pixels, from which a walk does not come back."""
UNIT = 0.5
"""Pixels in [0, 1] per library unit."""


@dataclass(frozen=True)
class Ascent:
    """How a scale is sampled by stochastic ascent.

    Attributes:
        beta: part of the step that is not given back as noise, in [0, 1]; 0 never ends.
        h0: size of the first step, in (0, 1].
        sigma_0: noise level of the start, units of pixels in [0, 1].
        sigma_l: noise level of the end.
        growing: whether steps grow.
        mean: of the pixels at the start of a low-pass image; details start at zero mean.
        stopping: "snr" or "sigma" (see the module).
        most_steps: where a walk is given up.
    """

    beta: float = 0.5
    h0: float = 0.01
    sigma_0: float = 1.0
    sigma_l: float = 0.01
    growing: bool = True
    stopping: str = "snr"
    most_steps: int = 100_000
    mean: float = 0.5

    def __post_init__(self) -> None:
        for name in ("beta", "h0", "sigma_0", "sigma_l", "mean"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
                raise WavdiffError(f"{name} must be a number, got {shown(value)}")
        if not 0 < self.beta <= 1:
            raise WavdiffError(f"beta must be in (0, 1], got {self.beta}")
        if not 0 < self.h0 <= 1:
            raise WavdiffError(f"h0 must be in (0, 1], got {self.h0}")
        if not 0 < self.sigma_l < self.sigma_0 < DIVERGED:
            raise WavdiffError(f"sigma_l < sigma_0 < {DIVERGED:g} are needed, got {self.sigma_l} and {self.sigma_0}")
        if not 0 <= self.mean <= 1:
            raise WavdiffError(f"mean must be in [0, 1], got {self.mean}")
        if self.stopping not in STOPPINGS:
            raise WavdiffError(f"stopping must be one of {', '.join(STOPPINGS)}, got {shown(self.stopping)}")
        if self.most_steps < 1:
            raise WavdiffError(f"most_steps must be at least 1, got {self.most_steps}")


LOWPASS_ASCENT = Ascent(beta=0.01, sigma_l=0.05, growing=False, mean=0.0)
DETAIL_ASCENT = Ascent(beta=1.0, sigma_l=0.015)
"""Settings of the authors' demonstrations, which begin around black."""


class StochasticAscentScheduler(SchedulerMixin, ConfigMixin):
    """One step of the ascent for a batch, in diffusers' manner; the timesteps are not known beforehand.

    Args: see `Ascent`.

    Attributes:
        iteration: number of the next step, from 1.
        active: (B,) bool, images whose walk has not ended; None before the first step.
        sigma: (B,) noise level that the last residual says, units of pixels.
        calls: (B,) network calls that every image has needed.
        diverged: (B,) bool, images given up.
    """

    order = 1

    @register_to_config
    def __init__(
        self,
        beta: float = 0.5,
        h0: float = 0.01,
        sigma_0: float = 1.0,
        sigma_l: float = 0.01,
        growing: bool = True,
        stopping: str = "snr",
        most_steps: int = 100_000,
        mean: float = 0.5,
    ) -> None:
        self.ascent = Ascent(beta, h0, sigma_0, sigma_l, growing, stopping, most_steps, mean)
        self.set_timesteps()

    @property
    def init_noise_sigma(self) -> float:
        """Standard deviation of the start, units of pixels."""
        return self.ascent.sigma_0

    def set_timesteps(self) -> None:
        """Begin a new walk."""
        self.iteration = 1
        self.active: Tensor | None = None
        self.sigma = self.calls = self.diverged = torch.zeros(0)

    def scale_model_input(self, sample: Tensor, timestep: int | None = None) -> Tensor:
        """The sample as it is."""
        return sample

    def step_size(self, iteration: int) -> float:
        """h_t."""
        h0 = self.ascent.h0
        return h0 * iteration / (1 + h0 * (iteration - 1)) if self.ascent.growing else h0

    def step(
        self,
        residual: Tensor,
        timestep: int | None,
        sample: Tensor,
        generators: Sequence[torch.Generator],
        unit: float = 1.0,
    ) -> Tensor:
        """The state after one step; images whose walk has ended are y - d(y) and stay so.

        Args:
            residual: d(y), the noise that the network sees in `sample`, (B, C, H, W).
            timestep: not used; the scheduler counts.
            sample: y, (B, C, H, W).
            generators: one per image.
            unit: pixels per unit of `sample`.
        """
        ascent = self.ascent
        if self.active is None:
            self.active = torch.ones(len(sample), dtype=torch.bool, device=sample.device)
            self.calls = torch.zeros(len(sample), dtype=torch.long, device=sample.device)
            self.diverged = torch.zeros_like(self.active)
        flat = residual.flatten(1).float()
        sigma = unit * flat.norm(dim=1) / math.sqrt(flat.shape[1])
        spread = unit * sample.flatten(1).float().std(dim=1) if ascent.stopping == "snr" else torch.ones_like(sigma)
        self.calls += self.active
        there = sigma <= ascent.sigma_l * spread
        lost = ~(sigma <= DIVERGED)  # also where it is not a number
        bad = self.active & (lost | ~there & (self.iteration >= ascent.most_steps))
        ending = self.active & (there | bad)
        going = self.active & ~ending
        h = self.step_size(self.iteration)
        gamma = sigma / unit * math.sqrt(max((1 - ascent.beta * h) ** 2 - (1 - h) ** 2, 0.0))
        moved = sample - h * residual
        if ascent.beta < 1:
            for row in going.nonzero().flatten().tolist():
                z = torch.randn(sample.shape[1:], generator=generators[row], device=generators[row].device)
                moved[row] += gamma[row] * z.to(moved)
        result = torch.where(expand(ending, sample).bool(), sample - residual, sample)
        result = torch.where(expand(going, sample).bool(), moved, result)
        self.sigma = torch.where(self.active, sigma, self.sigma) if len(self.sigma) else sigma
        self.diverged = self.diverged | bad
        self.active = going
        self.iteration += 1
        return result


def make_ascent_scheduler(ascent: Ascent) -> StochasticAscentScheduler:
    """The scheduler with these settings."""
    return StochasticAscentScheduler(**asdict(ascent))


@dataclass(frozen=True)
class Ascended:
    """What an ascent ends with.

    Attributes:
        state: (B, C, H, W), the last denoised states.
        calls: network calls of every image.
        diverged: whether an image was given up.
    """

    state: Tensor
    calls: list[int]
    diverged: list[bool]


def ascend(
    denoise: Callable[[Tensor, Tensor], Tensor],
    start: Tensor,
    ascent: Ascent,
    generators: Sequence[torch.Generator],
) -> Ascended:
    """Walk from `start` until every image has ended.

    All images go through the network until the last one has ended, so that an image does not depend on its company.

    Args:
        denoise: denoised (B, C, H, W) of a state and its noise levels (B,), library units. A denoiser that is told its
            noise level is told that of the step before.
        start: (B, C, H, W), library units, at the noise level `2 * ascent.sigma_0`.
        ascent: the settings.
        generators: one per image.
    """
    scheduler = make_ascent_scheduler(ascent)
    state = start
    levels = torch.full((len(start),), ascent.sigma_0 / UNIT, dtype=start.dtype, device=start.device)
    while scheduler.active is None or bool(scheduler.active.any()):
        residual = state - denoise(state, levels)
        state = scheduler.step(residual, scheduler.iteration, state, generators, UNIT)
        levels = (scheduler.sigma / UNIT).clamp(min=1e-6, max=DIVERGED / UNIT).to(levels)
    calls: Any = scheduler.calls
    return Ascended(state, calls.tolist(), scheduler.diverged.tolist())
