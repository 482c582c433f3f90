"""Truths of the sampling loop: orders and variances on an exact Gaussian, equality with diffusers by hand."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from diffusers import EDMDPMSolverMultistepScheduler, EDMEulerScheduler
from torch import Tensor

from wavdiff.models.cascade.noise import expand, preconditioning
from wavdiff.models.cascade.random_numbers import draw_noise
from wavdiff.models.cascade.solvers import SOLVERS, Ladder, make_scheduler, recurrence, solve
from wavdiff.system.errors import WavdiffError

DATA_STD = 0.6


def gaussian_output(y: Tensor, levels: Tensor) -> Tensor:
    """F of the exact denoiser D(y; s) = y a^2 / (a^2 + s^2) of data N(0, a^2)."""
    c_skip, c_out, _ = preconditioning(levels)
    s = expand(levels, y)
    return (DATA_STD**2 / (DATA_STD**2 + s**2) - expand(c_skip, y)) / expand(c_out, y) * y


def generators(count: int, seed: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed + index) for index in range(count)]


def rungs(ladder: Ladder) -> np.ndarray:
    """Karras et al. 2022, eq. 5: noise levels, then zero."""
    ramp = np.linspace(0, 1, ladder.steps)
    top, bottom = ladder.sigma_max ** (1 / ladder.rho), ladder.sigma_min ** (1 / ladder.rho)
    return np.append((top + ramp * (bottom - top)) ** ladder.rho, 0.0)


def trajectory_end(ladder: Ladder) -> float:
    """Where the exact ODE takes 1 at sigma_max.

    The trajectory is x(s) = x(S) sqrt((a^2 + s^2) / (a^2 + S^2)) down to sigma_min; the last step, to zero, of every
    solver here is the denoiser itself, whatever the number of steps, so it belongs to the reference.
    """
    a2, last = DATA_STD**2, ladder.sigma_min**2
    return math.sqrt((a2 + last) / (a2 + ladder.sigma_max**2)) * a2 / (a2 + last)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1.0), ("dpm", 2.0), ("heun", 2.0)])
def test_solvers_converge_with_their_order(solver: str, order: float) -> None:
    start = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    counts = np.array([32, 64, 128, 256])
    errors = []
    for steps in counts:
        # sigma_min so large that the ladder's float32 rungs (relative error 6e-8) are far below the truncation error.
        ladder = Ladder(steps=int(steps), solver=solver, sigma_max=10.0, sigma_min=0.05)  # type: ignore[arg-type]
        end = solve(gaussian_output, start, ladder, generators(1))
        errors.append(abs(float(end) / trajectory_end(ladder) - 1))
    slope = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert abs(slope - order) < 0.15, (slope, errors)
    # The last doubling alone: no step count hides behind the fit.
    assert abs(math.log2(errors[-2] / errors[-1]) - order) < 0.15, errors
    assert errors[-1] < (2e-2 if order == 1 else 1e-3)


@pytest.mark.parametrize("solver", ["euler", "dpm", "heun", "sde-dpm"])
def test_every_solver_ends_in_the_data_distribution(solver: str) -> None:
    # From 80 down to the default sigma_min: what `sample` does.
    ladder = Ladder(steps=96, solver=solver)  # type: ignore[arg-type]
    count = 40_000
    noise = torch.randn(1, 1, 200, 200, generator=generators(1)[0], dtype=torch.float64)
    end = solve(gaussian_output, ladder.sigma_max * noise, ladder, generators(1, seed=9))
    # Standard error of a standard deviation: sqrt(1 / 2n) = 0.35 %; Euler is allowed its own error, O(1 / steps).
    tolerance = 4 / (2 * count) ** 0.5 + (0.1 if solver == "euler" else 0.015)
    assert abs(float(end.std()) / DATA_STD - 1) < tolerance
    assert abs(float(end.mean())) < 4 * DATA_STD / count**0.5


def test_stochastic_solver_has_the_right_variance_from_any_level() -> None:
    # Started at an observation y = x + S n, the SDE draws x from its posterior: mean y a^2/(a^2+S^2), and its variance.
    for level in (0.3, 1.0):
        ladder = Ladder(steps=192, solver="sde-dpm", sigma_max=level, sigma_min=0.005)
        y, count = 0.8, 40_000
        start = torch.full((1, 1, 200, 200), y, dtype=torch.float64)
        end = solve(gaussian_output, start, ladder, generators(1, seed=2))
        gain = DATA_STD**2 / (DATA_STD**2 + level**2)
        std = math.sqrt(gain) * level
        assert abs(float(end.mean()) - gain * y) < 4 * std / count**0.5 + 2e-3 * std
        assert abs(float(end.std()) / std - 1) < 4 / (2 * count) ** 0.5 + 0.01


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 18])
def test_the_network_is_called_as_often_as_the_ladder_says(solver: str, steps: int) -> None:
    ladder = Ladder(steps=steps, solver=solver)  # type: ignore[arg-type]
    calls: list[float] = []

    def output(y: Tensor, levels: Tensor) -> Tensor:
        assert levels.shape == (2,) and bool((levels == levels[0]).all())
        calls.append(float(levels[0]))
        return gaussian_output(y, levels)

    end = solve(output, torch.ones(2, 1, 2, 2), ladder, generators(2))
    assert end.isfinite().all()
    assert len(calls) == ladder.calls == (2 * steps - 1 if solver == "heun" else steps)
    expected = rungs(ladder)[:-1]
    if solver == "heun":  # the first rung once, every other one as a corrector and as the next predictor
        expected = np.concatenate([expected[:1], expected[1:].repeat(2)])
    np.testing.assert_allclose(calls, expected, rtol=2e-5)


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_ladder_is_that_of_karras(solver: str) -> None:
    ladder = Ladder(steps=12, solver=solver, sigma_max=20.0, sigma_min=0.03, rho=5.0)  # type: ignore[arg-type]
    sigmas = np.unique(make_scheduler(ladder).sigmas.numpy())[::-1]
    np.testing.assert_allclose(sigmas, rungs(ladder), rtol=2e-5)


def by_hand(scheduler, start: Tensor, steps: int, source: Sequence[torch.Generator] | None) -> Tensor:  # type: ignore[no-untyped-def]
    """diffusers' own usage: set_timesteps, scale_model_input, step."""
    scheduler.set_timesteps(steps)
    state = start
    for index, timestep in enumerate(scheduler.timesteps):
        scheduler.scale_model_input(state, timestep)
        output = gaussian_output(state, scheduler.sigmas[index].repeat(len(state)).to(state))
        extra = {} if source is None else {"generator": list(source)}
        state = scheduler.step(output, timestep, state, **extra).prev_sample
    return state


@pytest.mark.parametrize("solver", ["dpm", "sde-dpm", "euler"])
def test_the_loop_equals_the_scheduler_by_hand(solver: str) -> None:
    ladder = Ladder(steps=14, solver=solver, sigma_max=30.0, sigma_min=0.02)  # type: ignore[arg-type]
    settings = {"sigma_min": 0.02, "sigma_max": 30.0, "sigma_data": 1.0, "rho": 7.0}
    if solver == "euler":
        scheduler = EDMEulerScheduler(**settings)
    else:
        kind = "dpmsolver++" if solver == "dpm" else "sde-dpmsolver++"
        scheduler = EDMDPMSolverMultistepScheduler(**settings, algorithm_type=kind)
    start = 30 * draw_noise((1, 4, 4), generators(3), torch.zeros(()))
    source = generators(3, seed=50) if solver == "sde-dpm" else None
    expected = by_hand(scheduler, start, 14, source)
    assert torch.equal(solve(gaussian_output, start, ladder, generators(3, seed=50)), expected)


def test_heun_equals_the_textbook() -> None:
    ladder = Ladder(steps=9, solver="heun", sigma_max=30.0, sigma_min=0.02)
    state = start = 2.0
    levels = rungs(ladder)
    slope = lambda x, s: x * s / (DATA_STD**2 + s**2)  # noqa: E731  (x - D) / s
    for s, t in zip(levels[:-1], levels[1:], strict=True):
        guess = state + (t - s) * slope(state, s)
        state = guess if t == 0 else state + (t - s) * (slope(state, s) + slope(guess, t)) / 2
    end = solve(gaussian_output, torch.full((1, 1, 1, 1), start, dtype=torch.float64), ladder, generators(1))
    assert abs(float(end) / state - 1) < 1e-5


@pytest.mark.parametrize("solver", SOLVERS)
def test_an_image_does_not_depend_on_its_batch(solver: str) -> None:
    ladder = Ladder(steps=8, solver=solver)  # type: ignore[arg-type]
    start = 80 * draw_noise((1, 4, 4), generators(3), torch.zeros(()))
    together = solve(gaussian_output, start, ladder, generators(3, seed=20))
    for index in range(3):
        alone = solve(gaussian_output, start[index : index + 1], ladder, generators(1, seed=20 + index))
        assert torch.equal(alone, together[index : index + 1])
    # Only the stochastic solver draws, and its draws matter.
    again = solve(gaussian_output, start, ladder, generators(3, seed=70))
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
def test_impossible_ladders_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(WavdiffError, match=message):
        Ladder(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 18])
def test_the_recurrence_is_the_walk_of_the_scheduler(solver, steps):
    def denoised(y: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        u = expand(levels, y)
        return 0.36 * y / (1 + u**2) + 0.1 * torch.tanh(y)

    def raw_output(y: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        c_skip, c_out, _ = preconditioning(levels)
        return (denoised(y, levels) - expand(c_skip, y) * y) / expand(c_out, y)

    ladder = Ladder(steps=steps, solver=solver, sigma_max=10, sigma_min=0.05)
    start = 10 * torch.randn(1, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = solve(raw_output, start, ladder, [torch.Generator().manual_seed(1)])
    generator, state, before = torch.Generator().manual_seed(1), start, torch.zeros_like(start)
    walk = recurrence(ladder)
    assert len(walk) == ladder.calls
    for step in walk:
        clean = denoised(state, torch.tensor([step.level], dtype=torch.float64))
        noise = torch.zeros_like(state)
        if solver == "sde-dpm":  # which draws at every step
            noise = torch.randn(state.shape, generator=generator, dtype=torch.float64)
        state = step.state * state + step.denoised * clean + step.before * before + step.noise * noise
        before = clean
    assert torch.allclose(state, expected, atol=2e-5)


# --- correctors ------------------------------------------------------------------------------------------------------


def shrinkage(level: float) -> float:
    """D(y) = y a^2 / (a^2 + s^2)."""
    return DATA_STD**2 / (DATA_STD**2 + level**2)


@pytest.mark.parametrize("solver", ["dpm", "sde-dpm", "euler"])
@pytest.mark.parametrize("step", [0.1, 0.5, 1.0])
def test_correctors_leave_the_variance_that_their_recursion_says(solver: str, step: float) -> None:
    ladder = Ladder(steps=9, solver=solver, sigma_max=20, correctors=3, corrector_step=step)  # type: ignore[arg-type]
    variance = 20.0**2
    for each in recurrence(ladder):
        assert each.before == 0
        variance = (each.state + each.denoised * shrinkage(each.level)) ** 2 * variance + each.noise**2
    noise = torch.randn(1, 1, 200, 200, generator=generators(1)[0], dtype=torch.float64)
    end = solve(gaussian_output, 20 * noise, ladder, generators(1, seed=9))
    assert float(end.var()) == pytest.approx(variance, rel=4 * (2 / 40_000) ** 0.5)


@pytest.mark.parametrize("level", [0.05, 0.6, 5.0])
@pytest.mark.parametrize("step", [0.1, 0.5, 1.0])
def test_correctors_without_end_leave_what_the_documentation_says(level: float, step: float) -> None:
    ladder = Ladder(steps=1, solver="euler", sigma_max=level, sigma_min=level / 2, correctors=1, corrector_step=step)
    corrector = recurrence(ladder)[0]
    variance = 1.0
    for _ in range(100_000):
        variance = (corrector.state + corrector.denoised * shrinkage(level)) ** 2 * variance + corrector.noise**2
    whole = DATA_STD**2 + level**2
    assert variance / whole == pytest.approx((1 - step / 2) / (1 - step * level**2 / whole / 2), rel=1e-6)


def test_small_correctors_end_in_the_data_distribution_from_a_wrong_start() -> None:
    ladder = Ladder(steps=24, solver="sde-dpm", sigma_max=3, correctors=20, corrector_step=0.02)
    noise = torch.randn(1, 1, 200, 200, generator=generators(1)[0], dtype=torch.float64)
    ends = [solve(gaussian_output, scale * noise, ladder, generators(1, seed=9)).std() for scale in (0.5, 6.0)]
    without = [
        solve(gaussian_output, scale * noise, dataclasses.replace(ladder, correctors=0), generators(1, seed=9)).std()
        for scale in (0.5, 6.0)
    ]
    # The steps between are of first order: 24 of them lose 6 % of the deviation, with correctors or without.
    assert all(abs(float(end) / DATA_STD - 1) < 0.08 for end in ends), ends
    assert abs(float(ends[0] - ends[1])) < abs(float(without[0] - without[1])) / 3


def test_calls_are_counted_with_correctors_and_heun_has_none() -> None:
    ladder = Ladder(steps=5, solver="dpm", correctors=3)
    assert ladder.calls == 20 == len(recurrence(ladder))
    for settings, message in (
        ({"solver": "heun", "correctors": 1}, "correctors must be 0 with heun, got 1"),
        ({"correctors": -1}, "correctors must be between 0 and"),
        ({"correctors": 1.5}, "correctors must be a whole number"),
        ({"corrector_step": 0.0}, r"corrector_step must be in \(0, 1\], got 0"),
        ({"corrector_step": float("nan")}, "corrector_step must be in"),
    ):
        with pytest.raises(WavdiffError, match=message):
            Ladder(**settings)  # type: ignore[arg-type]


def test_images_with_correctors_do_not_depend_on_their_batch() -> None:
    ladder = Ladder(steps=4, solver="sde-dpm", sigma_max=5, correctors=2)
    start = 5 * draw_noise((1, 6, 6), generators(3), torch.zeros(1, dtype=torch.float64))
    together = solve(gaussian_output, start, ladder, generators(3, seed=5))
    alone = solve(gaussian_output, start[1:2], ladder, generators(1, seed=6))
    assert torch.equal(together[1:2], alone)
