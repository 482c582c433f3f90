"""Blind denoisers: what they say of the noise, and that every verb takes them as it takes the others."""

import functools
from collections.abc import Callable

import pytest
import torch
from blind_models import (
    PUBLISHED,
    highpass,
    needs_bfloat16,
    needs_release,
    random_cascade,
    random_network,
    randomise,
    smoothing_cascade,
)
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file
from test_tiling import rounding, walked
from torch import Tensor
from torch.nn.functional import avg_pool2d

from wavdiff.images.rectangle import Rectangle
from wavdiff.models import wavelets
from wavdiff.models.cascade.ascent import UNIT, Ascent
from wavdiff.models.cascade.blind_denoisers import BLIND_TOP, BlindDenoiser, to_pixels
from wavdiff.models.cascade.denoisers import EDMDenoiser
from wavdiff.models.cascade.denoising import Coarse, Denoised
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.cascade.noise import expand, preconditioning
from wavdiff.models.cascade.published.importing import load_release
from wavdiff.models.cascade.published.release import find_release
from wavdiff.models.cascade.solvers import Schedule
from wavdiff.models.cascade.solving import start_level
from wavdiff.models.cascade.verbs import stretch
from wavdiff.models.cascade.walk import mean_at_top
from wavdiff.restoration.plain import Effort, Noise, Plain
from wavdiff.restoration.request import RestorationRequest
from wavdiff.restoration.tasks import Denoise, Upscale, is_local, knows_border

pytestmark = pytest.mark.isa
SCHEDULES = (Schedule(steps=3, solver="sde-dpm", sigma_max=10.0), Schedule(steps=4, solver="sde-dpm", sigma_max=10.0))


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def lowpass_denoiser() -> BlindDenoiser:
    return BlindDenoiser(random_network(1, 1), std=0.5).eval()


def detail_denoiser(channels: int = 1) -> BlindDenoiser:
    return BlindDenoiser(random_network(4 * channels, 3 * channels), std=0.1).eval()


# --- one denoiser -----------------------------------------------------------------------------------------------------


def test_the_noise_is_as_homogeneous_as_the_network() -> None:
    low, details = lowpass_denoiser(), detail_denoiser()
    pixels, d, level = noise(2, 1, 9, 12).abs(), noise(2, 3, 9, 12), torch.ones(2)
    with torch.no_grad():

        def of_lowpass(p: Tensor) -> Tensor:
            return (2 * p - 1) - low.denoise(2 * p - 1, level).mean

        def of_details(p: Tensor, d: Tensor) -> Tensor:
            return d - details.denoise(d, level, Coarse(2 * p - 1)).mean

        for factor in (4.0, 0.25, 0.3):
            for one, other in (
                (of_lowpass(factor * pixels), factor * of_lowpass(pixels)),
                (of_details(factor * pixels, factor * d), factor * of_details(pixels, d)),
            ):
                assert torch.allclose(one, other, rtol=1e-4, atol=2e-5 * max(factor, 1))
        # To the last bit where only exponents change: the residual itself, before it is taken off.
        assert torch.equal(low._noise(4 * pixels, level), 4 * low._noise(pixels, level))


def test_black_without_noise_is_black() -> None:
    black = torch.full((1, 1, 8, 8), -1.0)
    with torch.no_grad():
        assert torch.equal(lowpass_denoiser().denoise(black, torch.ones(1)).mean, black)


def test_noise_levels_are_not_looked_at_and_the_coarse_image_stays() -> None:
    low, details = lowpass_denoiser(), detail_denoiser()
    x, d = noise(2, 1, 9, 12), noise(2, 3, 9, 12)
    with torch.no_grad():
        one, other = (low.denoise(x, torch.tensor(level)) for level in ([0.1, 9.0], [3.0, 0.0]))
        assert torch.equal(one.mean, other.mean) and one.coarse is None
        first, coarse = details.denoise(d, torch.tensor([0.1, 9.0]), Coarse(x))
        again, _ = details.denoise(d, torch.tensor([3.0, 0.1]), Coarse(x, x + 1, torch.tensor([0.5, 0.5])))
        assert torch.equal(first, again) and torch.equal(coarse, x)


def test_the_loss_is_that_of_the_denoised_image() -> None:
    low, details = lowpass_denoiser(), detail_denoiser()
    levels = torch.tensor([0.2, 3.0])
    c_out = expand(preconditioning(levels)[1], torch.zeros(2, 1, 1, 1))
    x, clean, d, clean_d = (
        noise(2, 1, 9, 12),
        noise(2, 1, 9, 12, seed=1),
        noise(2, 3, 9, 12),
        noise(2, 3, 9, 12, seed=1),
    )
    with torch.no_grad():
        loss, (same, _) = low.loss(clean, x, 0.5 * levels)
        wanted = low.denoise(x, 0.5 * levels).mean
        assert torch.equal(same, wanted)
        assert torch.allclose(loss, ((wanted - clean) / (0.5 * c_out)).square().mean(dim=(1, 2, 3)), rtol=1e-4)
        loss, (same, coarse) = details.loss(clean_d, d, 0.1 * levels, Coarse(x, x + 1, levels), clean)
        wanted = details.denoise(d, 0.1 * levels, Coarse(x)).mean
        assert torch.equal(same, wanted) and torch.equal(coarse, x)
        error = ((wanted - clean_d) / (0.1 * c_out)).square().sum(dim=(1, 2, 3)) / (4 * 9 * 12)  # over 4C, as there
        assert torch.allclose(loss, error, rtol=1e-4)


def test_with_gradients_and_without_the_result_is_the_same() -> None:
    low, x, level = lowpass_denoiser(), noise(2, 1, 9, 12), torch.ones(2)
    with_graph = low.denoise(x, level).mean
    with torch.no_grad():
        assert torch.allclose(low.denoise(x, level).mean, with_graph, atol=1e-5)
    with_graph.square().sum().backward()
    assert all(parameter.grad is not None for parameter in low.parameters())
    double = lowpass_denoiser().double()
    with torch.no_grad():
        assert torch.allclose(double.denoise(x.double(), level.double()).mean.float(), with_graph, atol=1e-4)


def test_under_autocast_a_mean_is_computed_in_float32() -> None:
    low, x, level = lowpass_denoiser(), noise(2, 1, 9, 12), torch.ones(2)
    with torch.no_grad():
        exact = low.denoise(x, level).mean
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(low.denoise(x, level).mean, exact)


@needs_bfloat16
def test_the_steps_of_a_solver_are_computed_in_the_precision_asked_for() -> None:
    low, x = lowpass_denoiser(), noise(2, 1, 9, 12)
    with torch.inference_mode():
        exact, rough = (low.at(1.0, gray=False, dtype=t).denoise(x).mean for t in (torch.float32, torch.bfloat16))
    assert 0 < float((rough - exact).abs().max()) < 0.2


# --- changed weights are seen -----------------------------------------------------------------------------------------


def fused_step(low: BlindDenoiser) -> None:
    optimizer = torch.optim.AdamW(low.parameters(), lr=0.1, fused=True)
    for parameter in low.parameters():
        parameter.grad = torch.ones_like(parameter)
    low.train()
    optimizer.step()
    low.eval()


def averaged_weights(low: BlindDenoiser) -> None:
    other = lowpass_denoiser()
    randomise(other, seed=5)
    EMAModel(other.parameters()).copy_to(low.parameters())
    low.eval()


def loaded(low: BlindDenoiser) -> None:
    low.load_state_dict({name: 0.5 * value for name, value in low.state_dict().items()})


def changed_in_place(low: BlindDenoiser) -> None:
    with torch.no_grad():
        next(low.parameters()).mul_(2)


def other_statistics(low: BlindDenoiser) -> None:
    low.network.scales[1].running_sd.mul_(2)


@pytest.mark.parametrize("change", [fused_step, averaged_weights, loaded, changed_in_place, other_statistics])
def test_the_chain_is_made_again_when_weights_change(change) -> None:
    low, x, level = lowpass_denoiser(), noise(1, 1, 9, 12), torch.ones(1)
    with torch.no_grad():
        before = low.denoise(x, level).mean
        assert torch.equal(low.denoise(x, level).mean, before)
    change(low)
    with torch.no_grad():
        expected = x - 2 * low.network(to_pixels(x))
        assert not torch.allclose(before, expected, atol=1e-2)
        assert torch.allclose(low.denoise(x, level).mean, expected, rtol=1e-4, atol=1e-4)


# --- what the released networks know of noise -------------------------------------------------------------------------


@functools.cache
def released(name: str = "multi_scale/celebA_160x160_gray", receptive_field: int | None = None) -> WaveletCascade:
    return load_release(find_release(PUBLISHED / name, receptive_field))


@functools.cache
def face() -> Tensor:
    return 2 * load_file(PUBLISHED / "reference.safetensors")["clean"] - 1


@needs_release
@pytest.mark.parametrize("sigma", [0.05, 0.2, 0.8])
def test_the_size_of_the_residual_is_the_noise_level(sigma: float) -> None:
    flat, cascade = released("flat/celebA_160x160_gray", 43), released()
    pyramid = wavelets.decompose(face(), 2)

    def check(denoise: Callable[[Tensor], Tensor], clean: Tensor) -> None:
        noisy = clean + 2 * sigma * noise(*clean.shape)
        with torch.no_grad():
            denoised = denoise(noisy)
        seen, left = ((x.square().mean() / 4).item() for x in (noisy - denoised, denoised - clean))
        # A posterior mean's error and the noise that it removes are orthogonal: together they are the noise.
        assert (seen + left) ** 0.5 == pytest.approx(sigma, rel=0.08)
        assert seen**0.5 == pytest.approx(sigma, rel=0.2)

    level = torch.ones(1)
    check(lambda noisy: flat.lowpass.denoise(noisy, level).mean, face())
    check(lambda noisy: cascade.lowpass.denoise(noisy, level).mean, pyramid.coarse)
    coarse = Coarse(pyramid.coarse)
    check(lambda noisy: cascade.details[1].denoise(noisy, level, coarse).mean, pyramid.details[1])


# --- pieces of the walk -----------------------------------------------------------------------------------------------


def top_observations(denoiser: EDMDenoiser | BlindDenoiser, scale: int, where: Rectangle) -> list[Tensor]:
    """What the mean of the details given the coarse image alone is made of."""
    seen: list[Tensor] = []

    def answer(noisy: Tensor, coarse: Coarse | None) -> Denoised:
        assert coarse is not None and coarse.observed is None
        seen.append(noisy)
        return Denoised(noisy)

    mean = mean_at_top(denoiser, scale, torch.zeros(1, 1, where.height, where.width), where, answer)
    assert torch.allclose(mean, torch.stack(seen).mean(dim=0))
    return seen


def test_details_are_imagined_from_noise_that_is_a_function_of_its_place() -> None:
    denoiser = detail_denoiser()
    whole = top_observations(denoiser, 1, Rectangle(0, 80, 0, 90))
    part = top_observations(denoiser, 1, Rectangle(60, 75, 10, 90))
    assert len(whole) == denoiser.mean_draws
    assert all(torch.equal(a[..., 60:75, 10:90], b) for a, b in zip(whole, part, strict=True))
    assert not torch.equal(whole[0], whole[1])
    assert not torch.equal(whole[0], top_observations(denoiser, 0, Rectangle(0, 80, 0, 90))[0])
    assert float(torch.stack(whole).std()) == pytest.approx(BLIND_TOP * 0.1, rel=0.02)
    knowing = EDMDenoiser(torch.nn.Identity(), 0.1, 0.5)
    assert [float(d.abs().max()) for d in top_observations(knowing, 1, Rectangle(0, 8, 0, 9))] == [0.0]


def test_a_walk_begins_where_its_settings_say() -> None:
    denoiser = lowpass_denoiser()
    assert start_level(Schedule(sigma_max=7.0), denoiser) == 7.0 * denoiser.std
    assert UNIT * start_level(Ascent(sigma_0=0.8), denoiser) == pytest.approx(0.8)  # of pixels in [0, 1]


def test_stretching_puts_the_darkest_and_the_brightest_at_the_limits() -> None:
    images = torch.stack([noise(1, 8, 8), 0.1 * noise(1, 8, 8, seed=1) + 3])
    stretched = to_pixels(stretch(images, (0.1, 0.8)))
    assert torch.allclose(stretched.amin(dim=(1, 2, 3)), torch.tensor(0.1), atol=1e-6)
    assert torch.allclose(stretched.amax(dim=(1, 2, 3)), torch.tensor(0.8), atol=1e-6)
    for before, after in zip(images, stretched, strict=True):  # each is changed by one factor and one offset
        assert float(torch.corrcoef(torch.stack([before.flatten(), after.flatten()]))[0, 1]) > 1 - 1e-5
    assert torch.equal(stretch(torch.ones(1, 1, 4, 4), (0.0, 0.8)), torch.full((1, 1, 4, 4), -1.0))  # no contrast


def test_a_drawn_lowpass_image_is_stretched_and_the_details_see_it_so() -> None:
    cascade = random_cascade(lowpass_range=[0.0, 0.8])
    assert cascade.lowpass_range == (0.0, 0.8) and random_cascade().lowpass_range is None
    draw = functools.partial(
        cascade.sample, (1, 32, 32), [3], lowpass_schedule=SCHEDULES[0], detail_schedule=SCHEDULES[1]
    )
    plain, stretched = draw(), draw(lowpass_range=(0.0, 0.8))
    assert torch.equal(stretched[0], stretch(plain[0], (0.0, 0.8)))
    assert torch.allclose(avg_pool2d(stretched[-1], 4), stretched[0], atol=1e-4)
    assert not torch.equal(stretched[-1], plain[-1])


def test_default_schedules_begin_where_blind_networks_can() -> None:
    assert random_cascade().schedule("lowpass").sigma_max == random_cascade().schedule("details").sigma_max == BLIND_TOP
    assert random_cascade(ladders={"details": {"sigma_max": 3.0}}).schedule("details").sigma_max == 3.0


def test_a_mean_over_pixels_is_what_the_exact_network_says() -> None:
    cascade = smoothing_cascade(16)
    noisy = noise(1, 1, 16, 16)
    pyramid = wavelets.decompose(noisy, 1)
    with torch.no_grad():
        walk = cascade.denoise_walk(noisy, torch.ones(1))
    low = 2 * (to_pixels(pyramid.coarse) - highpass(to_pixels(pyramid.coarse))) - 1
    assert torch.allclose(walk[0], low, atol=1e-5)
    details = pyramid.details[0] - highpass(pyramid.details[0])
    assert torch.allclose(walk[-1], wavelets.join(low, details), atol=1e-5)


def test_imagined_details_are_the_mean_over_their_draws() -> None:
    cascade = smoothing_cascade(16)
    small = noise(1, 1, 8, 8)
    large = cascade.upscale(small, 2)
    draws = top_observations(cascade.details[0], 0, Rectangle(0, 8, 0, 8))
    mean = torch.stack([d - highpass(d) for d in draws]).mean(dim=0)
    assert torch.allclose(large, wavelets.join(small, mean), atol=1e-5)


# --- pictures, tile by tile -------------------------------------------------------------------------------------------


@functools.cache
def model(channels: int) -> WaveletCascade:
    return random_cascade(channels)


VERBS = {
    "denoise": {},
    "denoise sample": {"seed": 3, "schedule": SCHEDULES[0]},
    "upscale": {"factor": 4},
    "upscale sample": {"factor": 4, "seed": 3, "schedule": SCHEDULES[1]},
}


@pytest.mark.parametrize(("cascade_channels", "channels"), [(1, 1), (1, 3), (3, 1), (3, 3)])
@pytest.mark.parametrize("size", [(7, 41), (61, 35)])
@pytest.mark.parametrize("verb", VERBS)
def test_tiled_equals_untiled(verb: str, size: tuple[int, int], cascade_channels: int, channels: int) -> None:
    image = noise(channels, *size).clamp(-1, 1)
    run = functools.partial(walked, verb.split()[0], image, model(cascade_channels), **VERBS[verb])
    whole, tiled = run(tile_pixels=10**9), run(tile_pixels=221, memory_bytes=1 << 10)
    assert float((tiled - whole).abs().max()) <= rounding(model(cascade_channels), whole)
    if verb == "upscale":
        assert float((avg_pool2d(tiled[None], 4)[0] - image).abs().max()) < 2e-6 * max(1.0, float(tiled.abs().max()))
    if verb == "denoise" and (cascade_channels, channels) == (1, 3):
        apart = torch.cat([run.func("denoise", image[k : k + 1], model(1)) for k in range(3)])
        assert float((apart - whole).abs().max()) <= rounding(model(1), whole)


@pytest.mark.parametrize("gray", [False, True])
def test_folded_denoisers_equal_those_they_are_made_of(gray: bool) -> None:
    channels, seen = (3, 1) if gray else (1, 1)
    low = BlindDenoiser(random_network(channels, channels), std=0.5).eval()
    details = detail_denoiser(channels)
    x, d, level = noise(1, seen, 12, 10), noise(1, 3 * seen, 12, 10), torch.ones(1)

    def threefold(values: Tensor) -> Tensor:
        return values.repeat_interleave(channels // seen, dim=1)

    def folded(values: Tensor) -> Tensor:
        return values.unflatten(1, (-1, channels // seen)).mean(dim=2)

    with torch.inference_mode():
        answer = low.at(0.3, gray=gray, dtype=torch.float32).denoise(x)
        assert torch.allclose(answer.mean, folded(low.denoise(threefold(x), level).mean), atol=1e-4)
        answer = details.at(0.3, gray=gray, dtype=torch.float32).denoise(d, None, Coarse(x))
        assert torch.equal(answer.coarse, x)
        expected = details.denoise(threefold(d), level, Coarse(threefold(x))).mean
        assert torch.allclose(answer.mean, folded(expected), atol=1e-4)


def test_only_pictures_as_in_training_are_done_in_one_piece() -> None:
    local = random_cascade(size=64)  # its low-pass network sees 13x13 of 16x16
    seeing = random_cascade(size=32)  # ... of 8x8
    assert is_local(local) and is_local(seeing)
    assert not knows_border(local, (64, 64))
    assert knows_border(seeing, (32, 32)) and not knows_border(seeing, (32, 31))
    image = noise(1, 32, 32).clamp(-1, 1)
    parts: list[Tensor] = []
    given = Plain(lambda where: where.of(image), (32, 32), 1)
    task = Denoise(seeing, RestorationRequest("denoise"))
    task.run(given, Noise([0.2] * 3), lambda where, values: parts.append(values), Effort())
    assert torch.allclose(parts[0][None], seeing.denoise(image[None], torch.tensor([0.2])).mean, atol=1e-5)
    parts.clear()
    small = avg_pool2d(image, 4)
    larger = Upscale(seeing, RestorationRequest("upscale", factor=4))
    larger.run(Plain(lambda where: where.of(small), (8, 8), 1), None, lambda where, v: parts.append(v), Effort())
    assert torch.allclose(parts[0][None], seeing.upscale(small[None], 4), atol=1e-5)
