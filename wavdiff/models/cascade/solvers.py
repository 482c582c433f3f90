"""The one sampling loop, around diffusers' schedulers.

Every scale is solved in standardised units with sigma_data = 1, so one ladder serves all of them: the reverse process
starts at a standardised noise level and ends at zero. Starting at the top with pure noise draws a sample; starting at a
lower level with a noisy observation draws from the posterior, because the observation *is* the forward process at its
noise level.

The schedulers are diffusers' own: `EDMDPMSolverMultistepScheduler` (DPM-Solver++ 2M, deterministic, or its SDE
variant), `EDMEulerScheduler` and `HeunDiscreteScheduler` put on the same ladder. Randomness comes from one generator
per image.

Sources: Karras et al. 2022 (arXiv 2206.00364); Lu et al., "DPM-Solver++" (arXiv 2211.01095).
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from wavdiff.models.cascade.noise import SIGMA_MAX, expand, preconditioning
from wavdiff.models.cascade.random_numbers import draw_noise
from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import shown

Counted = Callable[[str, Sequence[int]], None]


def from_level(ladder: Ladder, level: float) -> Ladder:
    """The ladder, starting at `level` (standardised units) instead of its own top.

    It has no correctors: they would forget the observation that the walk begins at.
    """
    return dataclasses.replace(ladder, sigma_max=level, sigma_min=min(ladder.sigma_min, level / 4), correctors=0)


Solver = Literal["dpm", "sde-dpm", "heun", "euler"]


SOLVERS: tuple[str, ...] = get_args(Solver)


MOST_STEPS = 10_000


LARGEST_LEVEL = 1e6


RawOutput = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Ladder:
    """Noise levels a scale walks down, and the solver that walks.

    Attributes:
        steps: levels on the ladder; "heun" makes 2 steps - 1 network calls, the others one a step.
        solver: "dpm" (DPM-Solver++ 2M), "sde-dpm" (the same, stochastic), "heun" or "euler".
        sigma_max: first level, standardised units.
        sigma_min: last level before zero, standardised units.
        rho: how strongly levels crowd at the bottom (Karras et al. 2022, eq. 5).
        correctors: network calls at every level before the step down, each of which takes a part `corrector_step` of
            the noise away and puts as much back: Langevin dynamics at that level, which forgets the errors of the
            levels above (the correctors of Song et al., "Score-based generative modeling through SDEs", ICLR 2021,
            algorithm 2). Steps are then of first order; "heun" has none.
        corrector_step: h in (0, 1]; 1 draws all noise anew. The noise keeps its level exactly, the image does not: of
            a Gaussian image of variance v, correctors without end would leave (1 - h/2) / (1 - h e/2) of the variance
            v + sigma^2, with e = sigma^2 / (v + sigma^2). Few large ones are far from that; many should be small.
    """

    steps: int = 18
    solver: Solver = "dpm"
    sigma_max: float = SIGMA_MAX
    sigma_min: float = 0.01
    rho: float = 7.0
    correctors: int = 0
    corrector_step: float = 0.5

    def __post_init__(self) -> None:
        if self.solver not in SOLVERS:
            raise WavdiffError(f"solver must be one of {', '.join(SOLVERS)}, got {shown(self.solver)}")
        if isinstance(self.steps, bool) or not isinstance(self.steps, numbers.Integral):
            raise WavdiffError(f"steps must be a whole number, got {shown(self.steps)}")
        if not 1 <= self.steps <= MOST_STEPS:
            rule = "at least 1" if self.steps < 1 else f"at most {MOST_STEPS}"
            raise WavdiffError(f"steps must be {rule}, got {shown(self.steps)}")
        if isinstance(self.correctors, bool) or not isinstance(self.correctors, numbers.Integral):
            raise WavdiffError(f"correctors must be a whole number, got {shown(self.correctors)}")
        if not 0 <= self.correctors <= MOST_STEPS or (self.correctors and self.solver == "heun"):
            rule = "0 with heun" if self.solver == "heun" else f"between 0 and {MOST_STEPS}"
            raise WavdiffError(f"correctors must be {rule}, got {shown(self.correctors)}")
        for name in ("sigma_max", "sigma_min", "rho", "corrector_step"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, numbers.Real):
                raise WavdiffError(f"{name} must be a number, got {shown(value)}")
        if not self.sigma_max <= LARGEST_LEVEL:
            raise WavdiffError(f"sigma_max must be at most {LARGEST_LEVEL:g}, got {shown(self.sigma_max)}")
        if not 1 <= self.rho <= 100:
            raise WavdiffError(f"rho must be in [1, 100], got {shown(self.rho)}")
        if not 0 < self.corrector_step <= 1:
            raise WavdiffError(f"corrector_step must be in (0, 1], got {self.corrector_step}")
        if not 0 < self.sigma_min < self.sigma_max:
            raise WavdiffError(f"the ladder needs 0 < sigma_min < sigma_max, got {self.sigma_min} and {self.sigma_max}")

    @property
    def calls(self) -> int:
        """Network calls that one walk makes."""
        return 2 * self.steps - 1 if self.solver == "heun" else self.steps * (1 + self.correctors)


def make_scheduler(ladder: Ladder) -> Any:
    """A diffusers scheduler with its timesteps set to the ladder."""
    from diffusers import EDMDPMSolverMultistepScheduler, EDMEulerScheduler, HeunDiscreteScheduler

    settings = {"sigma_min": ladder.sigma_min, "sigma_max": ladder.sigma_max, "sigma_data": 1.0, "rho": ladder.rho}
    scheduler: Any
    if ladder.solver in ("dpm", "sde-dpm"):
        algorithm = "dpmsolver++" if ladder.solver == "dpm" else "sde-dpmsolver++"
        scheduler = EDMDPMSolverMultistepScheduler(**settings, algorithm_type=algorithm)
        scheduler.set_timesteps(ladder.steps)
        return scheduler
    scheduler = EDMEulerScheduler(**settings)
    scheduler.set_timesteps(ladder.steps)
    if ladder.solver == "heun":
        # diffusers' Heun derives its levels from betas; given the EDM ladder in its own layout, it steps along that.
        sigmas = scheduler.sigmas
        scheduler = HeunDiscreteScheduler(prediction_type="sample")
        scheduler.set_timesteps(ladder.steps)
        scheduler.sigmas = torch.cat([sigmas[:1], sigmas[1:-1].repeat_interleave(2), sigmas[-1:]])
        scheduler.set_begin_index(0)
    return scheduler


@dataclass(frozen=True)
class Step:
    """One network call of a solver and what becomes of the state: a state + b D + c D_before + e noise.

    D is the denoised state of this call, D_before that of the call before; noise is standard normal.
    """

    level: float
    state: float
    denoised: float
    before: float = 0.0
    noise: float = 0.0


def recurrence(ladder: Ladder) -> list[Step]:
    """The walk of `solve` as numbers.

    Every solver here is linear in the state, the last two denoised states and the noise, so a walk can be made place by
    place over an array that does not fit into memory. The numbers are those of diffusers' schedulers (tested equal):
    DPM-Solver++ 2M and its SDE variant (Lu et al. 2022, arXiv 2211.01095, eq. 9 and algorithm 2; lambda = -log sigma),
    Euler, and Heun's method (Karras et al. 2022, algorithm 1 without churn), whose second call returns to the state
    before the first.
    """
    first = make_scheduler(dataclasses.replace(ladder, solver="euler") if ladder.solver == "heun" else ladder)
    levels = [float(level) for level in first.sigmas.double()]
    steps: list[Step] = []
    for index, (level, following) in enumerate(zip(levels[:-1], levels[1:], strict=True)):
        ratio = following / level
        if ladder.solver == "heun":
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
        kept = 1 - ladder.corrector_step
        corrector = Step(level, kept, ladder.corrector_step, noise=level * math.sqrt(1 - kept**2))
        steps += [corrector] * ladder.correctors
        stochastic = ladder.solver == "sde-dpm"
        rest = 1 - ratio**2 if stochastic else 1 - ratio
        state, noise = (ratio**2, following * math.sqrt(rest)) if stochastic else (ratio, 0.0)
        slope = 0.0
        if ladder.solver != "euler" and not ladder.correctors and index > 0 and following > 0:
            slope = rest / 2 * math.log(level / following) / math.log(levels[index - 1] / level)
        steps.append(Step(level, state, rest + slope, -slope, noise))
    return steps


def solve(raw_output: RawOutput, start: Tensor, ladder: Ladder, generators: Sequence[torch.Generator]) -> Tensor:
    """Walk from `start` down the ladder to noise level zero.

    Args:
        raw_output: F(y, u) of the EDM preconditioning with sigma_data = 1, for y (B, C, H, W) and levels u (B,).
        start: the state at noise level `ladder.sigma_max`, standardised units, (B, C, H, W).
        ladder: levels and solver.
        generators: one per image; only "sde-dpm" and correctors draw from them.

    Returns:
        A sample (B, C, H, W), standardised units.
    """
    if ladder.correctors:
        return _solve_with_correctors(raw_output, start, ladder, generators)
    scheduler = make_scheduler(ladder)
    state = start
    for index, timestep in enumerate(scheduler.timesteps):
        # The network scales its own input; the scheduler wants to be asked all the same.
        scheduler.scale_model_input(state, timestep)
        heun = ladder.solver == "heun"
        # diffusers' Heun evaluates rung 0 once, then every rung twice: its list of levels is offset by one there.
        sigma = scheduler.sigmas[index]
        levels = torch.full((state.shape[0],), float(sigma), dtype=state.dtype, device=state.device)
        output = raw_output(state, levels)
        if heun:
            c_skip, c_out, _ = preconditioning(levels)
            output = expand(c_skip, state) * state + expand(c_out, state) * output
            state = scheduler.step(output, timestep, state, return_dict=False)[0]
        elif ladder.solver == "euler":
            state = scheduler.step(output, timestep, state, return_dict=False)[0]
        else:
            source = list(generators) if ladder.solver == "sde-dpm" else None
            state = scheduler.step(output, timestep, state, generator=source, return_dict=False)[0]
    return state


def _solve_with_correctors(
    raw_output: RawOutput, start: Tensor, ladder: Ladder, generators: Sequence[torch.Generator]
) -> Tensor:
    """As `solve`, along `recurrence`: diffusers' schedulers have no correctors."""
    state = start
    for step in recurrence(ladder):
        levels = torch.full((state.shape[0],), step.level, dtype=state.dtype, device=state.device)
        c_skip, c_out, _ = preconditioning(levels)
        denoised = expand(c_skip, state) * state + expand(c_out, state) * raw_output(state, levels)
        state = step.state * state + step.denoised * denoised
        if step.noise:
            state = state + step.noise * draw_noise(state.shape[1:], generators, state)
    return state
