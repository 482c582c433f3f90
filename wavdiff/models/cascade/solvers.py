"""Schedules of noise levels, and the one recurrence that walks down them.

Every scale is solved with levels in standard units (sigma_data = 1), so one schedule serves all of them: the reverse
process starts at a standard level and ends at zero. Starting at the top with pure noise draws a sample; starting at a
lower level with a noisy observation draws from the posterior, because the observation *is* the forward process at its
noise level.

Every solver here is linear in the state, the last two denoised states and the noise, so that a walk is a list of
numbers (`recurrence`), and can be made place by place over an array that does not fit into memory. Levels come from
diffusers, and the numbers are those of its schedulers (tested equal): DPM-Solver++ 2M and its SDE variant (Lu et al.
2022, arXiv 2211.01095, eq. 9 and algorithm 2; lambda = -log sigma), Euler, and Heun's method (Karras et al. 2022,
algorithm 1 without churn), whose second call returns to the state before the first.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import Tensor

from wavdiff.models.cascade.noise import SIGMA_MAX
from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import shown

Solver = Literal["dpm", "sde-dpm", "heun", "euler"]
SOLVERS: tuple[str, ...] = get_args(Solver)
MOST_STEPS = 10_000
LARGEST_LEVEL = 1e6
Counted = Callable[[str, Sequence[int]], None]
"""counted(scale, calls): network calls that every image needed there."""


@dataclass(frozen=True)
class Schedule:
    """Noise levels that a scale walks down, and the solver that walks.

    Attributes:
        steps: levels; "heun" makes 2 steps - 1 network calls, the others one a step.
        solver: "dpm" (DPM-Solver++ 2M), "sde-dpm" (the same, stochastic), "heun" or "euler".
        sigma_max: first level, standard units.
        sigma_min: last level before zero, standard units.
        rho: how strongly levels crowd at the bottom (Karras et al. 2022, eq. 5).
        correctors: network calls at every level before the step down, each of which takes a part `corrector_step` of
            the noise away and puts as much back: Langevin dynamics at that level, which forgets the errors of the
            levels above (the correctors of Song et al., "Score-based generative modeling through SDEs", ICLR 2021,
            algorithm 2). Steps are then of first order; "heun" has none.
        corrector_step: h in (0, 1]; 1 draws all noise anew. The noise keeps its level exactly, the image does not: of
            a Gaussian image of variance v, correctors without end would leave (1 - h/2) / (1 - h e/2) of the variance
            v + sigma^2, with e = sigma^2 / (v + sigma^2). Few large ones are far from that; many should be small.
        noise_scale: of the noise that "sde-dpm" adds, as a multiple of what it should be: networks trained for least
            squares take a little too much away, and somewhat more than 1 makes up for it (S_noise of Karras et al.
            2022, section 4). 1 is right for an exact denoiser.

    Raises:
        WavdiffError: a value out of its range.
    """

    steps: int = 18
    solver: Solver = "dpm"
    sigma_max: float = SIGMA_MAX
    sigma_min: float = 0.01
    rho: float = 7.0
    correctors: int = 0
    corrector_step: float = 0.5
    noise_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.solver not in SOLVERS:
            raise WavdiffError(f"solver must be one of {', '.join(SOLVERS)}, got {shown(self.solver)}")
        for name in ("steps", "correctors"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, numbers.Integral):
                raise WavdiffError(f"{name} must be a whole number, got {shown(value)}")
        if not 1 <= self.steps <= MOST_STEPS:
            rule = "at least 1" if self.steps < 1 else f"at most {MOST_STEPS}"
            raise WavdiffError(f"steps must be {rule}, got {shown(self.steps)}")
        if not 0 <= self.correctors <= MOST_STEPS or (self.correctors and self.solver == "heun"):
            rule = "0 with heun" if self.solver == "heun" else f"between 0 and {MOST_STEPS}"
            raise WavdiffError(f"correctors must be {rule}, got {shown(self.correctors)}")
        for name in ("sigma_max", "sigma_min", "rho", "corrector_step", "noise_scale"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, numbers.Real):
                raise WavdiffError(f"{name} must be a number, got {shown(value)}")
        if not self.sigma_max <= LARGEST_LEVEL:
            raise WavdiffError(f"sigma_max must be at most {LARGEST_LEVEL:g}, got {shown(self.sigma_max)}")
        if not 1 <= self.rho <= 100:
            raise WavdiffError(f"rho must be in [1, 100], got {shown(self.rho)}")
        if not 0 < self.corrector_step <= 1:
            raise WavdiffError(f"corrector_step must be in (0, 1], got {self.corrector_step}")
        if not 0.5 <= self.noise_scale <= 2:
            raise WavdiffError(f"noise_scale must be in [0.5, 2], got {self.noise_scale}")
        if not 0 < self.sigma_min < self.sigma_max:
            raise WavdiffError(
                f"the schedule needs 0 < sigma_min < sigma_max, got {self.sigma_min} and {self.sigma_max}"
            )

    @property
    def calls(self) -> int:
        """Network calls that one walk makes."""
        return 2 * self.steps - 1 if self.solver == "heun" else self.steps * (1 + self.correctors)

    def beginning_at(self, standard_level: float) -> Schedule:
        """The schedule, starting at a level (standard units) instead of its own top.

        It has no correctors: they would forget the observation that the walk begins at.
        """
        sigma_min = min(self.sigma_min, standard_level / 4)
        return dataclasses.replace(self, sigma_max=standard_level, sigma_min=sigma_min, correctors=0)

    def levels(self) -> list[float]:
        """The levels from `sigma_max` to `sigma_min` and zero, standard units, as diffusers has them."""
        from diffusers import EDMEulerScheduler

        scheduler: Any = EDMEulerScheduler(
            sigma_min=self.sigma_min, sigma_max=self.sigma_max, sigma_data=1.0, rho=self.rho
        )
        scheduler.set_timesteps(self.steps)
        return [float(level) for level in scheduler.sigmas.double()]


@dataclass(frozen=True)
class Step:
    """One network call of a solver and what becomes of the state: state y + denoised D + before D' + noise std z.

    D is the denoised state of this call, D' that of the call before; z is standard normal, std the unit of levels.
    """

    level: float
    state: float
    denoised: float
    before: float = 0.0
    noise: float = 0.0

    def apply(self, state: Tensor, denoised: Tensor, before: Tensor | None, noise: Tensor | None) -> Tensor:
        """The state after the step; `noise` in library units. What a step does not use may be None."""
        result = self.state * state + self.denoised * denoised
        if self.before and before is not None:
            result = result + self.before * before
        return result if noise is None else result + self.noise * noise


def recurrence(schedule: Schedule) -> list[Step]:
    """The walk down a schedule as numbers."""
    levels = schedule.levels()
    steps: list[Step] = []
    for index, (level, following) in enumerate(zip(levels[:-1], levels[1:], strict=True)):
        ratio = following / level
        if schedule.solver == "heun":
            steps.append(Step(level, ratio, 1 - ratio))
            if following > 0:
                change = following - level
                kept = 1 + change / (2 * level)
                steps.append(
                    Step(
                        following,
                        kept / ratio + change / (2 * following),
                        -change / (2 * following),
                        -kept * (1 - ratio) / ratio - change / (2 * level),
                    )
                )
            continue
        kept = 1 - schedule.corrector_step
        corrector = Step(level, kept, schedule.corrector_step, noise=level * math.sqrt(1 - kept**2))
        steps += [corrector] * schedule.correctors
        stochastic = schedule.solver == "sde-dpm"
        rest = 1 - ratio**2 if stochastic else 1 - ratio
        state, noise = (ratio**2, schedule.noise_scale * following * rest**0.5) if stochastic else (ratio, 0.0)
        slope = 0.0
        if schedule.solver != "euler" and not schedule.correctors and index > 0 and following > 0:
            slope = rest / 2 * math.log(level / following) / math.log(levels[index - 1] / level)
        steps.append(Step(level, state, rest + slope, -slope, noise))
    return steps
