"""Truths of the sampling loop: orders and variances on an exact Gaussian, equality with diffusers by hand."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import EDMDPMSolverMultistepScheduler, EDMEulerScheduler, HeunDiscreteScheduler
from gaussian import WhiteGaussian
from torch import Tensor

from wavdiff.models.cascade.denoising import Coarse, Denoised
from wavdiff.models.cascade.noise import expand, preconditioning
from wavdiff.models.cascade.solvers import SOLVERS, Schedule, recurrence
from wavdiff.models.cascade.solving import solve
from wavdiff.models.random_numbers import derive_generator, draw_noise
from wavdiff.system.errors import WavdiffError

DATA_STD = 0.6


EXACT = WhiteGaussian(DATA_STD**2)
"""D(y; s) = y a^2 / (a^2 + s^2) of data N(0, a^2); its standard unit is the library's."""


def generators(count: int, seed: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed + index) for index in range(count)]


def karras_levels(schedule: Schedule) -> np.ndarray:
    """Karras et al. 2022, eq. 5: noise levels, then zero."""
    ramp = np.linspace(0, 1, schedule.steps)
    top, bottom = schedule.sigma_max ** (1 / schedule.rho), schedule.sigma_min ** (1 / schedule.rho)
    return np.append((top + ramp * (bottom - top)) ** schedule.rho, 0.0)


def trajectory_end(schedule: Schedule) -> float:
    """Where the exact ODE takes 1 at sigma_max.

    The trajectory is x(s) = x(S) sqrt((a^2 + s^2) / (a^2 + S^2)) down to sigma_min; the last step, to zero, of every
    solver here is the denoiser itself, whatever the number of steps, so it belongs to the reference.
    """
    a2, last = DATA_STD**2, schedule.sigma_min**2
    return math.sqrt((a2 + last) / (a2 + schedule.sigma_max**2)) * a2 / (a2 + last)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1.0), ("dpm", 2.0), ("heun", 2.0)])
def test_solvers_converge_with_their_order(solver: str, order: float) -> None:
    start = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    counts = np.array([32, 64, 128, 256])
    errors = []
    for steps in counts:
        # sigma_min so large that its float32 levels (relative error 6e-8) are far below the truncation error.
        schedule = Schedule(steps=int(steps), solver=solver, sigma_max=10.0, sigma_min=0.05)  # type: ignore[arg-type]
        end = solve(EXACT, start, schedule, [0])
        errors.append(abs(float(end) / trajectory_end(schedule) - 1))
    slope = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert abs(slope - order) < 0.15, (slope, errors)
    # The last doubling alone: no step count hides behind the fit.
    assert abs(math.log2(errors[-2] / errors[-1]) - order) < 0.15, errors
    assert errors[-1] < (2e-2 if order == 1 else 1e-3)


@pytest.mark.parametrize("solver", ["euler", "dpm", "heun", "sde-dpm"])
def test_every_solver_ends_in_the_data_distribution(solver: str) -> None:
    # From 80 down to the default sigma_min: what `sample` does.
    schedule = Schedule(steps=96, solver=solver)  # type: ignore[arg-type]
    count = 40_000
    noise = torch.randn(1, 1, 200, 200, generator=generators(1)[0], dtype=torch.float64)
    end = solve(EXACT, schedule.sigma_max * noise, schedule, [9])
    # Standard error of a standard deviation: sqrt(1 / 2n) = 0.35 %; Euler is allowed its own error, O(1 / steps).
    tolerance = 4 / (2 * count) ** 0.5 + (0.1 if solver == "euler" else 0.015)
    assert abs(float(end.std()) / DATA_STD - 1) < tolerance
    assert abs(float(end.mean())) < 4 * DATA_STD / count**0.5


def test_stochastic_solver_has_the_right_variance_from_any_level() -> None:
    # Started at an observation y = x + S n, the SDE draws x from its posterior: mean y a^2/(a^2+S^2), and its variance.
    for level in (0.3, 1.0):
        schedule = Schedule(steps=192, solver="sde-dpm", sigma_max=level, sigma_min=0.005)
        y, count = 0.8, 40_000
        start = torch.full((1, 1, 200, 200), y, dtype=torch.float64)
        end = solve(EXACT, start, schedule, [2])
        gain = DATA_STD**2 / (DATA_STD**2 + level**2)
        std = math.sqrt(gain) * level
        assert abs(float(end.mean()) - gain * y) < 4 * std / count**0.5 + 2e-3 * std
        assert abs(float(end.std()) / std - 1) < 4 / (2 * count) ** 0.5 + 0.01


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 18])
def test_the_network_is_called_as_often_as_the_schedule_says(solver: str, steps: int) -> None:
    schedule = Schedule(steps=steps, solver=solver)  # type: ignore[arg-type]
    calls: list[float] = []

    class Counted(WhiteGaussian):
        def denoise(self, noisy: Tensor, level: Tensor, coarse: Coarse | None = None) -> Denoised:
            assert level.shape == (2,) and bool((level == level[0]).all())
            calls.append(float(level[0]))
            return super().denoise(noisy, level, coarse)

    end = solve(Counted(DATA_STD**2), torch.ones(2, 1, 2, 2), schedule, (0, 1))
    assert end.isfinite().all()
    assert len(calls) == schedule.calls == (2 * steps - 1 if solver == "heun" else steps)
    expected = karras_levels(schedule)[:-1]
    if solver == "heun":  # the first level once, every other one as a corrector and as the next predictor
        expected = np.concatenate([expected[:1], expected[1:].repeat(2)])
    np.testing.assert_allclose(calls, expected, rtol=2e-5)


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_levels_are_those_of_karras_and_of_diffusers(solver: str) -> None:
    schedule = Schedule(steps=12, solver=solver, sigma_max=20.0, sigma_min=0.03, rho=5.0)  # type: ignore[arg-type]
    np.testing.assert_allclose(schedule.levels(), karras_levels(schedule), rtol=2e-5)
    scheduler = oracle(schedule)
    # diffusers' two schedulers round the same levels differently, before these are raised to the power rho.
    np.testing.assert_allclose(
        [step.level for step in recurrence(schedule)],
        scheduler.sigmas[: schedule.calls].numpy(),
        rtol=2 * schedule.rho * np.finfo(np.float32).eps,
    )
    np.testing.assert_allclose(np.unique(scheduler.sigmas.numpy())[::-1], karras_levels(schedule), rtol=2e-5)


def oracle(schedule: Schedule) -> Any:
    """diffusers' scheduler of that name, on these levels."""
    names = ("sigma_min", "sigma_max", "rho")
    settings = {"sigma_data": 1.0, **{name: getattr(schedule, name) for name in names}}
    if schedule.solver in ("dpm", "sde-dpm"):
        kind = "dpmsolver++" if schedule.solver == "dpm" else "sde-dpmsolver++"
        scheduler: Any = EDMDPMSolverMultistepScheduler(**settings, algorithm_type=kind)
        scheduler.set_timesteps(schedule.steps)
        return scheduler
    scheduler = EDMEulerScheduler(**settings)
    scheduler.set_timesteps(schedule.steps)
    if schedule.solver == "euler":
        return scheduler
    # diffusers' Heun derives its levels from betas; given others in its own layout, it steps along those.
    levels = scheduler.sigmas
    scheduler = HeunDiscreteScheduler(prediction_type="sample")
    scheduler.set_timesteps(schedule.steps)
    scheduler.sigmas = torch.cat([levels[:1], levels[1:-1].repeat_interleave(2), levels[-1:]])
    scheduler.set_begin_index(0)
    return scheduler


def by_hand(
    schedule: Schedule,
    denoise: Callable[[Tensor, Tensor], Tensor],
    start: Tensor,
    source: Sequence[torch.Generator],
) -> Tensor:
    """diffusers' own usage: scale_model_input, step; it takes F of the EDM preconditioning, Heun takes D."""
    scheduler, state = oracle(schedule), start
    for index, timestep in enumerate(scheduler.timesteps):
        scheduler.scale_model_input(state, timestep)
        level = scheduler.sigmas[index].repeat(len(state)).to(state)
        output = denoise(state, level)
        if schedule.solver != "heun":
            c_skip, c_out, _ = preconditioning(level)
            output = (output - expand(c_skip, state) * state) / expand(c_out, state)
        extra = {"generator": list(source)} if schedule.solver == "sde-dpm" else {}
        state = scheduler.step(output, timestep, state, return_dict=False, **extra)[0]
    return state


@pytest.mark.parametrize("std", [1.0, 0.25])
@pytest.mark.parametrize("solver", SOLVERS)
def test_the_walk_equals_that_of_the_scheduler(solver: str, std: float) -> None:
    """In library units, where the scheduler's are standard ones: equal to the rounding of so many steps."""
    schedule = Schedule(steps=14, solver=solver, sigma_max=30.0, sigma_min=0.02)  # type: ignore[arg-type]
    start = 30 * draw_noise((1, 4, 4), generators(3), torch.zeros(()))
    source = [derive_generator(seed, "solve") for seed in (50, 51, 52)]
    expected = by_hand(schedule, lambda y, level: EXACT.denoise(y, level).mean, start, source)
    got = solve(WhiteGaussian((DATA_STD * std) ** 2, std), std * start, schedule, (50, 51, 52)) / std
    rounding = schedule.calls * torch.finfo(torch.float32).eps * float(start.abs().max())
    assert float((got - expected).abs().max()) < rounding
    assert float(expected.abs().max()) > 1000 * rounding


def test_heun_equals_the_textbook() -> None:
    schedule = Schedule(steps=9, solver="heun", sigma_max=30.0, sigma_min=0.02)
    state = start = 2.0
    levels = karras_levels(schedule)
    slope = lambda x, s: x * s / (DATA_STD**2 + s**2)  # noqa: E731  (x - D) / s
    for s, t in zip(levels[:-1], levels[1:], strict=True):
        guess = state + (t - s) * slope(state, s)
        state = guess if t == 0 else state + (t - s) * (slope(state, s) + slope(guess, t)) / 2
    end = solve(EXACT, torch.full((1, 1, 1, 1), start, dtype=torch.float64), schedule, [0])
    assert abs(float(end) / state - 1) < 1e-5


@pytest.mark.parametrize("solver", SOLVERS)
def test_an_image_does_not_depend_on_its_batch(solver: str) -> None:
    schedule = Schedule(steps=8, solver=solver)  # type: ignore[arg-type]
    start = 80 * draw_noise((1, 4, 4), generators(3), torch.zeros(()))
    together = solve(EXACT, start, schedule, range(20, 23))
    for index in range(3):
        alone = solve(EXACT, start[index : index + 1], schedule, [20 + index])
        assert torch.equal(alone, together[index : index + 1])
    # Only the stochastic solver draws, and its draws matter.
    again = solve(EXACT, start, schedule, range(70, 73))
    assert torch.equal(again, together) == (solver != "sde-dpm")


def test_noise_of_image_k_comes_from_generator_k() -> None:
    noise = draw_noise((3, 5, 5), generators(4), torch.zeros((), dtype=torch.float64))
    assert noise.shape == (4, 3, 5, 5) and noise.dtype == torch.float64
    for index in range(4):
        assert torch.equal(noise[index].float(), torch.randn(3, 5, 5, generator=generators(1, seed=index)[0]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"solver": "rk4"}, "solver must be one of dpm, sde-dpm, heun, euler, got 'rk4'"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"sigma_min": 0.0}, "0 < sigma_min < sigma_max, got 0.0 and 80.0"),
        ({"sigma_min": 2.0, "sigma_max": 1.0}, "got 2.0 and 1.0"),
    ],
)
def test_impossible_schedules_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(WavdiffError, match=message):
        Schedule(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 18])
def test_the_recurrence_is_the_walk_of_the_scheduler(solver: str, steps: int) -> None:
    def denoised(y: Tensor, levels: Tensor) -> Tensor:
        return 0.36 * y / (1 + expand(levels, y) ** 2) + 0.1 * torch.tanh(y)

    schedule = Schedule(steps=steps, solver=solver, sigma_max=10, sigma_min=0.05)  # type: ignore[arg-type]
    start = 10 * torch.randn(1, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = by_hand(schedule, denoised, start, [torch.Generator().manual_seed(1)])
    generator, state, before = torch.Generator().manual_seed(1), start, None
    walk = recurrence(schedule)
    assert len(walk) == schedule.calls
    for step in walk:
        clean = denoised(state, torch.tensor([step.level], dtype=torch.float64))
        noise = None
        if solver == "sde-dpm":  # which draws at every step
            noise = torch.randn(state.shape, generator=generator, dtype=torch.float64)
        state, before = step.apply(state, clean, before, noise), clean
    assert torch.allclose(state, expected, atol=2e-5)


# --- correctors ------------------------------------------------------------------------------------------------------


def shrinkage(level: float) -> float:
    """D(y) = y a^2 / (a^2 + s^2)."""
    return DATA_STD**2 / (DATA_STD**2 + level**2)


@pytest.mark.parametrize("solver", ["dpm", "sde-dpm", "euler"])
@pytest.mark.parametrize("step", [0.1, 0.5, 1.0])
def test_correctors_leave_the_variance_that_their_recursion_says(solver: str, step: float) -> None:
    schedule = Schedule(steps=9, solver=solver, sigma_max=20, correctors=3, corrector_step=step)  # type: ignore[arg-type]
    variance = 20.0**2
    for each in recurrence(schedule):
        assert each.before == 0
        variance = (each.state + each.denoised * shrinkage(each.level)) ** 2 * variance + each.noise**2
    noise = torch.randn(1, 1, 200, 200, generator=generators(1)[0], dtype=torch.float64)
    end = solve(EXACT, 20 * noise, schedule, [9])
    assert float(end.var()) == pytest.approx(variance, rel=4 * (2 / 40_000) ** 0.5)


@pytest.mark.parametrize("level", [0.05, 0.6, 5.0])
@pytest.mark.parametrize("step", [0.1, 0.5, 1.0])
def test_correctors_without_end_leave_what_the_documentation_says(level: float, step: float) -> None:
    schedule = Schedule(
        steps=1, solver="euler", sigma_max=level, sigma_min=level / 2, correctors=1, corrector_step=step
    )
    corrector = recurrence(schedule)[0]
    variance = 1.0
    for _ in range(100_000):
        variance = (corrector.state + corrector.denoised * shrinkage(level)) ** 2 * variance + corrector.noise**2
    whole = DATA_STD**2 + level**2
    assert variance / whole == pytest.approx((1 - step / 2) / (1 - step * level**2 / whole / 2), rel=1e-6)


def test_small_correctors_end_in_the_data_distribution_from_a_wrong_start() -> None:
    schedule = Schedule(steps=24, solver="sde-dpm", sigma_max=3, correctors=20, corrector_step=0.02)
    noise = torch.randn(1, 1, 200, 200, generator=generators(1)[0], dtype=torch.float64)
    ends = [solve(EXACT, scale * noise, schedule, [9]).std() for scale in (0.5, 6.0)]
    without = [
        solve(EXACT, scale * noise, dataclasses.replace(schedule, correctors=0), [9]).std() for scale in (0.5, 6.0)
    ]
    # The steps between are of first order: 24 of them lose 6 % of the deviation, with correctors or without.
    assert all(abs(float(end) / DATA_STD - 1) < 0.08 for end in ends), ends
    assert abs(float(ends[0] - ends[1])) < abs(float(without[0] - without[1])) / 3


def test_calls_are_counted_with_correctors_and_heun_has_none() -> None:
    schedule = Schedule(steps=5, solver="dpm", correctors=3)
    assert schedule.calls == 20 == len(recurrence(schedule))
    for settings, message in (
        ({"solver": "heun", "correctors": 1}, "correctors must be 0 with heun, got 1"),
        ({"correctors": -1}, "correctors must be between 0 and"),
        ({"correctors": 1.5}, "correctors must be a whole number"),
        ({"corrector_step": 0.0}, r"corrector_step must be in \(0, 1\], got 0"),
        ({"corrector_step": float("nan")}, "corrector_step must be in"),
    ):
        with pytest.raises(WavdiffError, match=message):
            Schedule(**settings)  # type: ignore[arg-type]


def test_images_with_correctors_do_not_depend_on_their_batch() -> None:
    schedule = Schedule(steps=4, solver="sde-dpm", sigma_max=5, correctors=2)
    start = 5 * draw_noise((1, 6, 6), generators(3), torch.zeros(1, dtype=torch.float64))
    together = solve(EXACT, start, schedule, range(5, 8))
    alone = solve(EXACT, start[1:2], schedule, [6])
    assert torch.equal(together[1:2], alone)
