"""The paper's stochastic ascent on priors whose denoisers are exact, where every step can be foretold."""

import dataclasses
import math
import warnings
from collections.abc import Callable

import pytest
import torch
from blind_models import PUBLISHED, needs_release, random_cascade, smoothing_cascade
from safetensors.torch import load_file
from torch import Tensor

from wavdiff import api
from wavdiff.models.cascade.ascent import (
    DETAIL_ASCENT,
    DIVERGED,
    LOWPASS_ASCENT,
    UNIT,
    Ascended,
    Ascent,
    StochasticAscentScheduler,
    ascend,
    make_ascent_scheduler,
)
from wavdiff.models.cascade.blind_denoisers import to_pixels
from wavdiff.models.cascade.canvas import WholeCanvas
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.cascade.noise import expand
from wavdiff.models.cascade.published.importing import load_release
from wavdiff.models.cascade.published.release import find_release
from wavdiff.models.cascade.verbs import stretch
from wavdiff.models.cascade.walk import draw_details
from wavdiff.models.random_numbers import derive_generator, draw_noise
from wavdiff.system.errors import WavdiffError

SHAPE = (1, 64, 64)
Residual = Callable[[Tensor], Tensor]


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def start(ascent: Ascent, *seeds: int) -> Tensor:
    images = [torch.randn(SHAPE, generator=torch.Generator().manual_seed(1000 + seed)) for seed in seeds]
    return ascent.sigma_0 / UNIT * torch.stack(images)


def white_residual(spread: float) -> Residual:
    """y - E[x | y] for x ~ N(0, spread^2) at every pixel: blind, as the noise level is seen in the norm of y.

    `spread` is in pixels; 0 is the prior of one black image.
    """

    def residual(y: Tensor) -> Tensor:
        power = UNIT**2 * y.square().mean(dim=(1, 2, 3))
        level = (power - spread**2).clamp(min=0)
        return expand(level / power.clamp(min=1e-20), y) * y

    return residual


def denoising(residual: Residual) -> Callable[[Tensor, Tensor], Tensor]:
    """A denoiser of library units with that residual; it does not look at the level that it is told."""
    return lambda y, level: y - residual(y)


def walk(residual: Residual, ascent: Ascent, *seeds: int, begin: Tensor | None = None) -> Ascended:
    return ascend(denoising(residual), start(ascent, *seeds) if begin is None else begin, ascent, generators(*seeds))


def step_sizes(ascent: Ascent, count: int) -> list[float]:
    h0 = ascent.h0
    return [h0 * t / (1 + h0 * (t - 1)) if ascent.growing else h0 for t in range(1, count + 1)]


# --- the law of a step ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("growing", [False, True])
@pytest.mark.parametrize("beta", [0.1, 0.5, 1.0])
def test_the_noise_level_falls_by_one_minus_beta_h(beta: float, growing: bool) -> None:
    ascent = Ascent(beta=beta, h0=0.05, sigma_0=0.9, sigma_l=0.05, growing=growing, stopping="sigma")
    scheduler = make_ascent_scheduler(ascent)
    y, residual, random = start(ascent, 0, 1), white_residual(0.0), generators(0, 1)
    expected = UNIT * y.square().mean(dim=(1, 2, 3)).sqrt()
    assert torch.allclose(expected, torch.tensor(scheduler.init_noise_sigma), rtol=0.05)
    for h in step_sizes(ascent, 12):
        y = scheduler.step(residual(y), None, y, random, UNIT)
        # Noise of 4,096 pixels is known to 2 % only; without noise the law is exact.
        assert torch.allclose(scheduler.sigma, expected, rtol=0.04 if beta < 1 else 1e-5)
        expected = (1 - beta * h) * scheduler.sigma


@pytest.mark.parametrize("growing", [False, True])
@pytest.mark.parametrize("beta", [0.2, 1.0])
def test_the_number_of_steps_is_that_of_the_closed_form(beta: float, growing: bool) -> None:
    ascent = Ascent(beta=beta, h0=0.02, sigma_l=0.03, growing=growing, stopping="sigma")
    result = walk(white_residual(0.0), ascent, 0, 1)
    level, steps = 1.0, 1
    while level > ascent.sigma_l:
        level *= 1 - beta * step_sizes(ascent, steps)[-1]
        steps += 1
    if not growing:
        assert steps == 1 + math.ceil(math.log(ascent.sigma_l) / math.log(1 - beta * ascent.h0))
    assert all(abs(calls - steps) <= max(1, (0.08 if beta < 1 else 0) * steps) for calls in result.calls), (
        result.calls,
        steps,
    )
    assert result.diverged == [False, False]
    assert float(result.state.abs().max()) < 1e-5  # the last step goes all the way: to the one image there is


def test_a_black_image_is_where_one_call_ends() -> None:
    result = walk(white_residual(0.0), Ascent(stopping="sigma"), 0, begin=torch.zeros(1, *SHAPE))
    assert result.calls == [1] and torch.equal(result.state, torch.zeros(1, *SHAPE))


@pytest.mark.parametrize("beta", [0.05, 0.5])
def test_samples_have_the_spread_of_the_prior(beta: float) -> None:
    """The variance of the exact walk is a recursion of numbers, which ends near that of the prior."""
    spread = 0.2
    ascent = Ascent(beta=beta, h0=0.1, sigma_l=0.02, growing=False, stopping="sigma")
    result = walk(white_residual(spread), ascent, 0, 1, 2, 3)
    level = 1.0 - spread**2  # of the start, whose power is 1, as the denoiser sees it
    sigma, steps = 1.0, 0
    while True:
        steps += 1
        power = level + spread**2
        shrink = level / power
        sigma = shrink * math.sqrt(power)
        if sigma <= ascent.sigma_l:
            break
        h = ascent.h0
        noise = sigma**2 * ((1 - beta * h) ** 2 - (1 - h) ** 2)
        level = (1 - h * shrink) ** 2 * power + noise - spread**2
    expected = (1 - shrink) * math.sqrt(power)
    measured = UNIT * result.state.std(dim=(1, 2, 3))
    assert torch.allclose(measured, torch.full((4,), expected), rtol=0.02)
    assert expected == pytest.approx(spread, rel=0.1)
    assert all(abs(calls - steps) <= max(2, 0.1 * steps) for calls in result.calls), (result.calls, steps)


def test_with_the_whole_step_taken_nothing_is_random() -> None:
    ascent = Ascent(beta=1.0, sigma_l=0.05, h0=0.1, stopping="sigma")
    begin, random = start(ascent, 0), generators(5)
    before = random[0].get_state()
    first = ascend(denoising(white_residual(0.1)), begin, ascent, random)
    assert torch.equal(random[0].get_state(), before)
    again = ascend(denoising(white_residual(0.1)), begin, ascent, generators(6))
    assert torch.equal(first.state, again.state) and first.calls == again.calls
    noisy = dataclasses.replace(ascent, beta=0.5)
    one, other = (ascend(denoising(white_residual(0.1)), begin, noisy, generators(k)).state for k in (5, 6))
    assert not torch.equal(one, other)


def test_steps_are_fixed_or_grow_towards_one() -> None:
    fixed = make_ascent_scheduler(Ascent(h0=0.01, growing=False))
    growing = make_ascent_scheduler(Ascent(h0=0.01))
    assert [fixed.step_size(t) for t in (1, 2, 1000)] == [0.01] * 3
    assert growing.step_size(1) == 0.01
    assert growing.step_size(100) == pytest.approx(1.0 / 1.99)  # 0.01 * 100 / (1 + 0.01 * 99)
    assert 0.999 < growing.step_size(10**6) < 1


# --- images by themselves ---------------------------------------------------------------------------------------------


def test_every_image_ends_by_itself_and_does_not_see_the_others() -> None:
    ascent = Ascent(beta=0.5, h0=0.05, sigma_l=0.05, stopping="sigma")
    begin = start(ascent, 0, 1, 2)
    begin[1] *= 0.2  # of less contrast: it begins nearer to its end
    together = walk(white_residual(0.1), ascent, 0, 1, 2, begin=begin)
    assert together.calls[1] < min(together.calls[0], together.calls[2])
    for row in range(3):
        alone = walk(white_residual(0.1), ascent, row, begin=begin[row : row + 1])
        assert alone.calls == [together.calls[row]]
        assert torch.equal(alone.state[0], together.state[row])
    turned = walk(white_residual(0.1), ascent, 2, 0, begin=begin[[2, 0]])
    assert torch.equal(turned.state, together.state[[2, 0]])


def test_an_image_that_has_ended_stays_as_it_is() -> None:
    scheduler = StochasticAscentScheduler(sigma_l=0.1, stopping="sigma")
    sample = torch.stack([torch.zeros(SHAPE), torch.ones(SHAPE)])
    residual = torch.stack([torch.full(SHAPE, 0.01), torch.full(SHAPE, 0.5)])
    first = scheduler.step(residual, 1, sample, generators(0, 1))
    assert torch.equal(first[0], sample[0] - residual[0])  # the last step goes all the way
    assert scheduler.active is not None and scheduler.active.tolist() == [False, True]
    second = scheduler.step(torch.full_like(residual, 0.7), 2, first, generators(0, 1))
    assert torch.equal(second[0], first[0]) and not torch.equal(second[1], first[1])
    assert scheduler.calls.tolist() == [1, 2]
    assert scheduler.sigma.tolist() == pytest.approx([0.01, 0.7], rel=1e-4)


def test_the_end_is_a_noise_level_or_a_ratio() -> None:
    sample = (
        torch.stack([torch.linspace(-1, 1, 4096).reshape(SHAPE)] * 2) * torch.tensor([1.0, 0.1])[:, None, None, None]
    )
    residual = torch.full_like(sample, 0.02)
    spread = float(sample[0].std())  # 0.58 and 0.058 around residuals of 0.02
    for stopping, ends in (("sigma", [True, True]), ("snr", [True, False])):
        scheduler = StochasticAscentScheduler(sigma_l=0.04, stopping=stopping)
        scheduler.step(residual, 1, sample, generators(0, 1))
        assert scheduler.active is not None and [not active for active in scheduler.active.tolist()] == ends, stopping
    assert 0.04 * 0.1 * spread < 0.02 < 0.04 * spread
    scheduler = StochasticAscentScheduler(sigma_l=0.04, stopping="snr")
    scheduler.step(0.25 * residual, 1, 0.25 * sample, generators(0, 1), unit=4.0)  # the same in other units
    assert scheduler.sigma.tolist() == pytest.approx([0.02, 0.02], rel=1e-4)
    assert scheduler.active is not None and scheduler.active.tolist() == [False, True]


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_walk_that_runs_away_is_given_up() -> None:
    ascent = Ascent(h0=0.2, beta=1.0, stopping="sigma")
    result = walk(lambda y: -0.9 * y, ascent, 0, 1)
    assert result.diverged == [True, True] and max(result.calls) < 10
    broken = walk(lambda y: y * float("nan"), ascent, 0)
    assert broken.diverged == [True] and broken.calls == [1]
    one = walk(lambda y: torch.cat([white_residual(0.0)(y[:1]), y[1:] * float("nan")]), ascent, 0, 1)
    assert one.diverged == [False, True] and one.state[0].isfinite().all()


def test_a_walk_that_never_ends_is_given_up() -> None:
    ascent = Ascent(h0=0.01, beta=0.1, stopping="sigma", most_steps=7)
    result = walk(white_residual(0.0), ascent, 0)
    assert result.diverged == [True] and result.calls == [7]
    # An image that is there with the last step that it has is not given up.
    ends = Ascent(beta=1.0, h0=0.5, sigma_l=0.1, growing=False, stopping="sigma")
    calls = walk(white_residual(0.0), ends, 0).calls[0]
    exact = walk(white_residual(0.0), dataclasses.replace(ends, most_steps=calls), 0)
    assert (exact.calls, exact.diverged) == ([calls], [False])
    short = walk(white_residual(0.0), dataclasses.replace(ends, most_steps=calls - 1), 0)
    assert (short.calls, short.diverged) == ([calls - 1], [True])


def test_a_cascade_warns_of_images_that_were_given_up() -> None:
    cascade = random_cascade(size=16)
    ascent = Ascent(most_steps=3)
    with pytest.warns(UserWarning, match="scale low: the ascent did not converge for seeds 5, 7$"):
        cascade.sample((1, 16, 16), [5, 7, 7], lowpass_schedule=ascent, stop_scale=2)


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"beta": 0}, r"beta must be in \(0, 1\], got 0"),
        ({"beta": 1.5}, r"beta must be in \(0, 1\], got 1.5"),
        ({"beta": float("nan")}, "beta must be a number, got nan"),
        ({"h0": 0.0}, r"h0 must be in \(0, 1\]"),
        ({"h0": True}, "h0 must be a number, got True"),
        ({"h0": "0.1"}, "h0 must be a number, got '0.1'"),
        ({"sigma_0": float("inf")}, "sigma_0 must be a number, got inf"),
        ({"sigma_l": 1.0}, "sigma_l < sigma_0"),
        ({"sigma_l": 0}, "sigma_l < sigma_0"),
        ({"sigma_0": DIVERGED}, "sigma_0 < 1.5"),
        ({"stopping": "soon"}, "stopping must be one of snr, sigma, got 'soon'"),
        ({"most_steps": 0}, "most_steps must be at least 1, got 0"),
    ],
)
def test_wrong_settings_name_the_rule(settings: dict, rule: str) -> None:
    with pytest.raises(WavdiffError, match=rule):
        Ascent(**settings)
    with pytest.raises(WavdiffError, match=rule):
        StochasticAscentScheduler(**settings)


# --- as a scheduler, and in a cascade ---------------------------------------------------------------------------------


def test_step_by_step_it_is_what_ascend_does(tmp_path) -> None:
    ascent = Ascent(beta=0.4, h0=0.05, sigma_l=0.05, sigma_0=0.8, stopping="sigma")
    make_ascent_scheduler(ascent).save_pretrained(tmp_path)
    scheduler = StochasticAscentScheduler.from_pretrained(tmp_path)
    assert scheduler.ascent == ascent and scheduler.order == 1
    residual, begin = white_residual(0.1), start(ascent, 0, 1)
    expected = walk(residual, ascent, 0, 1)
    for _ in range(2):  # a scheduler can be used again
        scheduler.set_timesteps()
        y, random = begin, generators(0, 1)
        while scheduler.active is None or bool(scheduler.active.any()):
            seen = scheduler.scale_model_input(y, scheduler.iteration)
            y = scheduler.step(residual(seen), scheduler.iteration, y, random, UNIT)
        assert scheduler.calls.tolist() == expected.calls
        assert torch.allclose(y, expected.state, atol=1e-4)


ENDS = Ascent(beta=0.5, h0=0.2, sigma_l=0.4)


def test_a_cascade_ascends_scale_by_scale() -> None:
    cascade = smoothing_cascade(32)
    cascade.autocast = False
    told: dict[str, list[int]] = {}
    walk = cascade.sample(
        (1, 32, 32),
        [4, 9],
        lowpass_schedule=ENDS,
        detail_schedule=dataclasses.replace(ENDS, beta=1.0),
        lowpass_range=(0.1, 0.9),
        counted=lambda name, calls: told.update({name: list(calls)}),
    )
    assert set(told) == {"low", "0"} and all(len(calls) == 2 and min(calls) > 1 for calls in told.values())
    random = [derive_generator(seed, "low") for seed in (4, 9)]
    begin = ENDS.sigma_0 / UNIT * draw_noise((1, 16, 16), random, torch.zeros(()))
    with torch.no_grad():
        expected = ascend(lambda y, level: cascade.lowpass.denoise(y, level).mean, begin, ENDS, random)
    assert expected.calls == told["low"]
    assert torch.allclose(walk[0], stretch(expected.state, (0.1, 0.9)), atol=1e-3)
    low = to_pixels(walk[0])
    assert torch.allclose(low.amin(dim=(1, 2, 3)), torch.tensor(0.1), atol=1e-5)


def test_drawn_in_any_company_an_image_is_the_same() -> None:
    cascade = smoothing_cascade(32)
    settings = {"ascents": (ENDS, ENDS), "lowpass_range": None}
    together = api.sample_walk(cascade, [0, 1, 2], batch_size=2, **settings)[-1]
    for seed in (0, 2):
        assert torch.equal(api.sample_walk(cascade, [seed], **settings)[-1][0], together[seed])
    scheduled = api.sample_walk(cascade, [0], lowpass_range=None)[-1]
    assert not torch.allclose(scheduled[0], together[0], atol=1e-2)


def test_the_settings_of_the_demonstrations() -> None:
    assert (LOWPASS_ASCENT.beta, LOWPASS_ASCENT.h0, LOWPASS_ASCENT.sigma_0) == (0.01, 0.01, 1.0)
    assert (LOWPASS_ASCENT.sigma_l, LOWPASS_ASCENT.growing, LOWPASS_ASCENT.stopping) == (0.05, False, "snr")
    assert (DETAIL_ASCENT.beta, DETAIL_ASCENT.h0, DETAIL_ASCENT.growing) == (1.0, 0.01, True)


@needs_release
@pytest.mark.slow
def test_released_details_take_as_many_calls_as_reported() -> None:
    """Published runs took 60 to 120 calls a detail scale."""
    cascade: WaveletCascade = load_release(find_release(PUBLISHED / "multi_scale" / "celebA_160x160_gray"))
    cascade.autocast = False
    clean = 2 * load_file(PUBLISHED / "reference.safetensors")["clean"] - 1
    coarse = torch.nn.functional.avg_pool2d(clean, 4).expand(2, -1, -1, -1)
    told: list[int] = []
    canvas = WholeCanvas((160, 160), 1, coarse, (0, 1))
    given, made = canvas.image(2), canvas.image(1)
    given.values = coarse
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_details(cascade, canvas, 1, given, made, DETAIL_ASCENT, counted=lambda name, calls: told.extend(calls))
    fine = made.values
    assert len(told) == 2 and all(40 <= calls <= 130 for calls in told), told
    # What was drawn is like the picture whose coarse half it was given: closer than the coarse half alone.
    half = torch.nn.functional.avg_pool2d(clean, 2)
    flat = coarse.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    assert torch.allclose(torch.nn.functional.avg_pool2d(fine, 2), coarse, atol=1e-5)
    assert float((fine - half).square().mean()) < float((flat - half).square().mean())
