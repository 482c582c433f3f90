"""One solver for every denoiser: of one scale, of whole images, exact ones; what it draws has the right law."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from blind_models import random_network
from gaussian import GaussianCascade, GaussianLowpass, rows, smooth_covariance, wiener, worst_and_mean_score
from torch import Tensor

from wavdiff.models import wavelets
from wavdiff.models.cascade.blind_denoisers import BlindDenoiser
from wavdiff.models.cascade.canvas import WholeCanvas
from wavdiff.models.cascade.denoisers import EDMDenoiser
from wavdiff.models.cascade.denoising import Coarse, Denoised, Denoiser
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.cascade.networks import LocalNetwork
from wavdiff.models.cascade.noise import SIGMA_MAX
from wavdiff.models.cascade.solvers import SOLVERS, Schedule
from wavdiff.models.cascade.solving import solve
from wavdiff.models.random_numbers import draw_noise

SIDE = 8
LOCAL = {"kind": "local", "width": 8, "depth": 4, "receptive_field": 5}


def randomised(module: Any, seed: int = 0) -> Any:
    """A module in float64, so that batches of other sizes agree closely, without a zero in it."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module.double().eval()


def network_cascade(levels: int) -> WaveletCascade:
    cascade = WaveletCascade((SIDE, SIDE), 1, "haar", LOCAL, [LOCAL] * levels, 0.5, [0.06, 0.1][:levels])
    cascade.autocast = False
    return randomised(cascade)


DENOISERS: dict[str, Callable[[], Denoiser]] = {
    "network": lambda: EDMDenoiser(randomised(LocalNetwork(1, 1, width=8, depth=4, receptive_field=5)), 0.4),
    "blind network": lambda: BlindDenoiser(random_network(1, 1).double(), 0.4),
    "cascade of one scale": lambda: network_cascade(0),
    "cascade": lambda: network_cascade(2),
    "exact": lambda: GaussianLowpass(smooth_covariance(SIDE)),
    "exact cascade": GaussianCascade,
}


def noise(count: int, seed: int = 0) -> Tensor:
    generators = [torch.Generator().manual_seed(seed + k) for k in range(count)]
    return draw_noise((1, SIDE, SIDE), generators, torch.zeros((), dtype=torch.float64))


def from_the_top(denoiser: Denoiser, schedule: Schedule, seeds: Sequence[int], start: Tensor) -> Tensor:
    with torch.no_grad():
        return solve(denoiser, schedule.sigma_max * denoiser.std * start, schedule, seeds)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", DENOISERS)
def test_the_same_solver_drives_every_denoiser(name: str, solver: str) -> None:
    denoiser = DENOISERS[name]()
    schedule = Schedule(steps=6, solver=solver, sigma_max=denoiser.top)  # type: ignore[arg-type]
    start = noise(3)
    drawn = from_the_top(denoiser, schedule, [5, 6, 7], start)
    assert drawn.shape == start.shape and drawn.isfinite().all()
    assert torch.equal(from_the_top(denoiser, schedule, [5, 6, 7], start), drawn)
    # An image depends on its own seed and start only.
    part = from_the_top(denoiser, schedule, [7, 5], start[[2, 0]])
    torch.testing.assert_close(part, drawn[[2, 0]], rtol=0, atol=1e-9 * float(drawn.abs().max()))
    # Only the stochastic solver draws, and its draws matter.
    other = from_the_top(denoiser, schedule, [8, 9, 10], start)
    assert torch.equal(other, drawn) == (solver != "sde-dpm")


EXACT = {name: DENOISERS[name] for name in ("exact", "exact cascade")}


def assert_law(drawn: Tensor, mean: Tensor, covariance: Tensor) -> None:
    """Scores as in the tests of the walk: 2,080 entries of a covariance, in standard errors."""
    worst, mean_square, worst_mean = worst_and_mean_score(rows(drawn), mean, covariance)
    assert worst < 5 and worst_mean < 4.5 and mean_square < 1 + 4 * (2 / 2080) ** 0.5


@pytest.mark.parametrize("solver", ["dpm", "sde-dpm", "heun"])
@pytest.mark.parametrize("name", EXACT)
def test_from_the_top_it_draws_from_the_prior(name: str, solver: str) -> None:
    denoiser, covariance = EXACT[name](), smooth_covariance(SIDE)
    schedule = Schedule(steps=96, solver=solver, sigma_max=denoiser.top)  # type: ignore[arg-type]
    drawn = from_the_top(denoiser, schedule, range(800), noise(800, seed=100))
    assert_law(drawn, torch.zeros(SIDE**2, dtype=torch.float64), covariance)


@pytest.mark.parametrize("level", [0.1, 0.5])
@pytest.mark.parametrize("name", EXACT)
def test_from_a_noisy_observation_it_draws_from_the_posterior(name: str, level: float) -> None:
    denoiser, covariance, count = EXACT[name](), smooth_covariance(SIDE), 800
    observed = GaussianCascade().draw(1) + level * noise(1, seed=3)
    schedule = Schedule(steps=64, solver="sde-dpm").beginning_at(level / denoiser.std)
    drawn = solve(denoiser, observed.expand(count, -1, -1, -1), schedule, range(count))
    gain = wiener(covariance, level)
    assert_law(drawn, gain @ observed.flatten(), covariance - gain @ covariance)


@pytest.mark.parametrize("solver", ["dpm", "heun"])
@pytest.mark.parametrize("name", EXACT)
def test_from_many_noisy_observations_a_deterministic_solver_draws_from_the_prior(name: str, solver: str) -> None:
    """The probability flow carries the law of noisy images to that of clean ones, one to one."""
    denoiser, level, count = EXACT[name](), 0.5, 800
    observed = GaussianCascade().draw(count) + level * noise(count, seed=3)
    schedule = Schedule(steps=48, solver=solver).beginning_at(level / denoiser.std)  # type: ignore[arg-type]
    drawn = solve(denoiser, observed, schedule, range(count))
    assert_law(drawn, torch.zeros(SIDE**2, dtype=torch.float64), smooth_covariance(SIDE))


def test_an_exact_cascade_is_the_exact_denoiser_of_whole_images() -> None:
    """Step after step: what is drawn is the same."""
    start = noise(2)
    schedule = Schedule(steps=12, solver="sde-dpm", sigma_max=20.0)
    cascade, whole = GaussianCascade(), GaussianLowpass(smooth_covariance(SIDE))
    one, other = (from_the_top(denoiser, schedule, [0, 1], start) for denoiser in (cascade, whole))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


@pytest.mark.parametrize("levels", [0, 1, 2])
def test_a_cascade_knows_the_rms_of_whole_images(levels: int) -> None:
    cascade = GaussianCascade(levels=levels)
    assert cascade.std == pytest.approx(float(cascade.covariance.diagonal().mean()) ** 0.5)


class Watched:
    """A denoiser that notes the standard levels it is asked about."""

    mean_draws = 0

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser, self.std, self.top = denoiser, denoiser.std, denoiser.top
        self.asked: list[float] = []

    def denoise(self, noisy: Tensor, level: Tensor, coarse: Coarse | None = None) -> Denoised:
        self.asked.append(float(level.max()) / self.std)
        return self.denoiser.denoise(noisy, level, coarse)


@pytest.mark.parametrize("tops", [(SIGMA_MAX, SIGMA_MAX, SIGMA_MAX), (10.0, SIGMA_MAX, 5.0)])
def test_at_its_top_no_scale_of_a_cascade_is_asked_beyond_its_own(tops: tuple[float, ...]) -> None:
    cascade = GaussianCascade()
    scales = [Watched(denoiser) for denoiser in (cascade.lowpass, *cascade.details)]
    for scale, top in zip(scales, tops, strict=True):
        scale.top = top
    cascade.lowpass, cascade.details = scales[0], scales[1:]
    from_the_top(cascade, Schedule(steps=3, sigma_max=cascade.top), [0], noise(1))
    used = [max(scale.asked) / scale.top for scale in scales]
    assert all(len(scale.asked) == 3 for scale in scales)
    assert max(used) == pytest.approx(1, rel=1e-6) and min(used) < 1


def test_solving_a_scale_given_its_coarse_image_is_the_step_of_a_cascade() -> None:
    cascade, schedule = GaussianCascade(), Schedule(steps=5, solver="dpm")
    details, count = cascade.details[0], 3
    coarse = noise(count)[..., :4, :4].contiguous()
    canvas = WholeCanvas((SIDE, SIDE), 1, coarse, range(count))
    start = (
        schedule.sigma_max * details.std * canvas.noise(("details", 0), "start", 3, next(canvas.sweep(1, details))[0])
    )
    drawn = solve(details, start, schedule, range(count), coarse)
    fine = cascade.upscale(coarse, 2, seeds=range(count), schedule=schedule)
    torch.testing.assert_close(wavelets.join(coarse, drawn), fine, rtol=0, atol=1e-12)
