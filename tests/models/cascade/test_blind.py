"""Blind denoisers: what they say of the noise, and that every verb takes them as it takes the others."""

import functools
from collections.abc import Callable

import pytest
import torch
from blind_models import (
    PUBLISHED,
    highpass,
    needs_release,
    random_cascade,
    random_network,
    randomise,
    smoothing_cascade,
)
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file
from test_tiling import walked
from torch import Tensor
from torch.nn.functional import avg_pool2d

from wavdiff.images.rectangle import Rectangle
from wavdiff.models import wavelets
from wavdiff.models.cascade.ascent import Ascent, start_level
from wavdiff.models.cascade.blind_denoisers import (
    BLIND_TOP,
    BlindDetailDenoiser,
    BlindLowpassDenoiser,
    to_pixels,
    top_observations,
)
from wavdiff.models.cascade.denoisers import DetailDenoiser
from wavdiff.models.cascade.folded_denoisers import FusedBlindDetailDenoiser, FusedBlindLowpassDenoiser
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.cascade.noise import expand, preconditioning
from wavdiff.models.cascade.published.importing import load_release
from wavdiff.models.cascade.published.release import find_release
from wavdiff.models.cascade.solvers import Ladder
from wavdiff.models.cascade.walk import stretch
from wavdiff.restoration.tasks import denoise_picture, is_local, knows_border, upscale_picture

pytestmark = pytest.mark.isa

LADDERS = (Ladder(steps=3, solver="sde-dpm", sigma_max=10.0), Ladder(steps=4, solver="sde-dpm", sigma_max=10.0))


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def lowpass_denoiser() -> BlindLowpassDenoiser:
    return BlindLowpassDenoiser(random_network(1, 1), std=0.5).eval()


def detail_denoiser(channels: int = 1) -> BlindDetailDenoiser:
    return BlindDetailDenoiser(random_network(4 * channels, 3 * channels), std=0.1).eval()


# --- one denoiser -----------------------------------------------------------------------------------------------------


def test_the_noise_is_as_homogeneous_as_the_network() -> None:
    low, details = lowpass_denoiser(), detail_denoiser()
    pixels, d, level = noise(2, 1, 9, 12).abs(), noise(2, 3, 9, 12), torch.ones(2)
    with torch.no_grad():

        def of_lowpass(p: Tensor) -> Tensor:
            return (2 * p - 1) - low(2 * p - 1, level)

        def of_details(p: Tensor, d: Tensor) -> Tensor:
            return d - details(d, level, 2 * p - 1)[0]

        for factor in (4.0, 0.25, 0.3):
            for one, other in (
                (of_lowpass(factor * pixels), factor * of_lowpass(pixels)),
                (of_details(factor * pixels, factor * d), factor * of_details(pixels, d)),
            ):
                assert torch.allclose(one, other, rtol=1e-4, atol=2e-5 * max(factor, 1))
        # To the last bit where only exponents change: the residual itself, before it is taken off.
        assert torch.equal(low._residual(4 * pixels, level), 4 * low._residual(pixels, level))


def test_black_without_noise_is_black() -> None:
    black = torch.full((1, 1, 8, 8), -1.0)
    with torch.no_grad():
        assert torch.equal(lowpass_denoiser()(black, torch.ones(1)), black)


def test_noise_levels_are_not_looked_at_and_the_coarse_image_stays() -> None:
    low, details = lowpass_denoiser(), detail_denoiser()
    x, d = noise(2, 1, 9, 12), noise(2, 3, 9, 12)
    with torch.no_grad():
        assert torch.equal(low(x, torch.tensor([0.1, 9.0])), low(x, torch.tensor([3.0, 0.0])))
        first, coarse = details(d, torch.tensor([0.1, 9.0]), x)
        again, _ = details(d, torch.tensor([3.0, 0.1]), x, x + 1, torch.tensor([0.5, 0.5]))
        assert torch.equal(first, again) and torch.equal(coarse, x)


def test_the_raw_output_and_the_loss_are_those_of_the_denoised_image() -> None:
    low, details = lowpass_denoiser(), detail_denoiser()
    levels = torch.tensor([0.2, 3.0])
    c_skip, c_out, _ = (expand(value, torch.zeros(2, 1, 1, 1)) for value in preconditioning(levels))
    x, clean, d, clean_d = (
        noise(2, 1, 9, 12),
        noise(2, 1, 9, 12, seed=1),
        noise(2, 3, 9, 12),
        noise(2, 3, 9, 12, seed=1),
    )
    with torch.no_grad():
        denoised = c_skip * x + c_out * low.output(x, levels)
        assert torch.allclose(0.5 * denoised, low(0.5 * x, 0.5 * levels), atol=1e-5)
        raw, correction = details.output(d, levels, x, x, levels)
        assert torch.allclose(0.1 * (c_skip * d + c_out * raw), details(0.1 * d, 0.1 * levels, x)[0], atol=1e-5)
        assert torch.equal(correction, torch.zeros_like(x))
        loss, same = low.loss(clean, x, 0.5 * levels)
        wanted = low(x, 0.5 * levels)
        assert torch.equal(same, wanted)
        assert torch.allclose(loss, ((wanted - clean) / (0.5 * c_out)).square().mean(dim=(1, 2, 3)), rtol=1e-4)
        loss, same, coarse = details.loss(clean_d, d, 0.1 * levels, clean, x, x + 1, levels)
        wanted, _ = details(d, 0.1 * levels, x)
        assert torch.equal(same, wanted) and torch.equal(coarse, x)
        error = ((wanted - clean_d) / (0.1 * c_out)).square().sum(dim=(1, 2, 3)) / (4 * 9 * 12)  # over 4C, as there
        assert torch.allclose(loss, error, rtol=1e-4)


def test_with_gradients_and_without_the_result_is_the_same() -> None:
    low, x, level = lowpass_denoiser(), noise(2, 1, 9, 12), torch.ones(2)
    with_graph = low(x, level)
    with torch.no_grad():
        assert torch.allclose(low(x, level), with_graph, atol=1e-5)
    with_graph.square().sum().backward()
    assert all(parameter.grad is not None for parameter in low.parameters())
    double = lowpass_denoiser().double()
    with torch.no_grad():
        assert torch.allclose(double(x.double(), level.double()).float(), with_graph, atol=1e-4)


def test_under_autocast_a_mean_is_computed_in_float32() -> None:
    low, x, level = lowpass_denoiser(), noise(2, 1, 9, 12), torch.ones(2)
    with torch.no_grad():
        exact = low(x, level)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(low(x, level), exact)
            rough = low(x, level, precise=False)
    assert 0 < float((rough - exact).abs().max()) < 0.2


# --- changed weights are seen -----------------------------------------------------------------------------------------


def fused_step(low: BlindLowpassDenoiser) -> None:
    optimizer = torch.optim.AdamW(low.parameters(), lr=0.1, fused=True)
    for parameter in low.parameters():
        parameter.grad = torch.ones_like(parameter)
    low.train()
    optimizer.step()
    low.eval()


def averaged_weights(low: BlindLowpassDenoiser) -> None:
    other = lowpass_denoiser()
    randomise(other, seed=5)
    EMAModel(other.parameters()).copy_to(low.parameters())
    low.eval()


def loaded(low: BlindLowpassDenoiser) -> None:
    low.load_state_dict({name: 0.5 * value for name, value in low.state_dict().items()})


def changed_in_place(low: BlindLowpassDenoiser) -> None:
    with torch.no_grad():
        next(low.parameters()).mul_(2)


def other_statistics(low: BlindLowpassDenoiser) -> None:
    low.network.scales[1].running_sd.mul_(2)


@pytest.mark.parametrize("change", [fused_step, averaged_weights, loaded, changed_in_place, other_statistics])
def test_the_chain_is_made_again_when_weights_change(change) -> None:
    low, x, level = lowpass_denoiser(), noise(1, 1, 9, 12), torch.ones(1)
    with torch.no_grad():
        before = low(x, level)
        assert torch.equal(low(x, level), before)
    change(low)
    with torch.no_grad():
        expected = x - 2 * low.network(to_pixels(x))
        assert not torch.allclose(before, expected, atol=1e-2)
        assert torch.allclose(low(x, level), expected, rtol=1e-4, atol=1e-4)


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
    check(lambda noisy: flat.lowpass(noisy, level), face())
    check(lambda noisy: cascade.lowpass(noisy, level), pyramid.coarse)
    check(lambda noisy: cascade.details[1](noisy, level, pyramid.coarse)[0], pyramid.details[1])


# --- pieces of the walk -----------------------------------------------------------------------------------------------


def test_details_are_imagined_from_noise_that_is_a_function_of_its_place() -> None:
    denoiser = detail_denoiser()
    whole = top_observations(denoiser, 1, 3, Rectangle(0, 80, 0, 90))
    part = top_observations(denoiser, 1, 3, Rectangle(60, 75, 10, 90))
    assert len(whole) == denoiser.mean_draws
    assert all(torch.equal(a[..., 60:75, 10:90], b) for a, b in zip(whole, part, strict=True))
    assert not torch.equal(whole[0], whole[1])
    assert not torch.equal(whole[0], top_observations(denoiser, 0, 3, Rectangle(0, 80, 0, 90))[0])
    assert float(torch.stack(whole).std()) == pytest.approx(BLIND_TOP * 0.1, rel=0.02)
    knowing = DetailDenoiser(torch.nn.Identity(), 0.1, 0.5)
    assert [float(d.abs().max()) for d in top_observations(knowing, 1, 3, Rectangle(0, 8, 0, 9))] == [0.0]


def test_a_walk_begins_where_its_settings_say() -> None:
    denoiser = lowpass_denoiser()
    assert start_level(Ladder(sigma_max=7.0), denoiser) == 7.0
    assert start_level(Ascent(sigma_0=0.8), denoiser) * denoiser.std / 2 == pytest.approx(0.8)  # of pixels in [0, 1]


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
    draw = functools.partial(cascade.sample, (1, 32, 32), [3], lowpass_ladder=LADDERS[0], detail_ladder=LADDERS[1])
    plain, stretched = draw(), draw(lowpass_range=(0.0, 0.8))
    assert torch.equal(stretched[0], stretch(plain[0], (0.0, 0.8)))
    assert torch.allclose(avg_pool2d(stretched[-1], 4), stretched[0], atol=1e-4)
    assert not torch.equal(stretched[-1], plain[-1])


def test_default_ladders_begin_where_blind_networks_can() -> None:
    assert random_cascade().ladder("lowpass").sigma_max == random_cascade().ladder("details").sigma_max == BLIND_TOP
    assert random_cascade(ladders={"details": {"sigma_max": 3.0}}).ladder("details").sigma_max == 3.0


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
    draws = top_observations(cascade.details[0], 0, 3, Rectangle(0, 8, 0, 8))
    mean = torch.stack([d - highpass(d) for d in draws]).mean(dim=0)
    assert torch.allclose(large, wavelets.join(small, mean), atol=1e-5)


# --- pictures, tile by tile -------------------------------------------------------------------------------------------


@functools.cache
def model(channels: int) -> WaveletCascade:
    return random_cascade(channels)


VERBS = {
    "denoise": {},
    "denoise sample": {"mode": "sample", "seed": 3, "ladders": LADDERS},
    "upscale": {"factor": 4},
    "upscale sample": {"factor": 4, "mode": "sample", "seed": 3, "ladder": LADDERS[1]},
}


@pytest.mark.parametrize(("cascade_channels", "channels"), [(1, 1), (1, 3), (3, 1), (3, 3)])
@pytest.mark.parametrize("size", [(7, 41), (61, 35)])
@pytest.mark.parametrize("verb", VERBS)
def test_tiled_equals_untiled(verb: str, size: tuple[int, int], cascade_channels: int, channels: int) -> None:
    image = noise(channels, *size).clamp(-1, 1)
    run = functools.partial(walked, verb.split()[0], image, model(cascade_channels), **VERBS[verb])
    whole, tiled = run(tile_pixels=10**9), run(tile_pixels=221, memory_bytes=1 << 10)
    assert float((tiled - whole).abs().max()) <= 1e-5 * max(1.0, float(whole.abs().max()))
    if verb == "upscale":
        assert float((avg_pool2d(tiled[None], 4)[0] - image).abs().max()) < 2e-6 * max(1.0, float(tiled.abs().max()))
    if verb == "denoise" and (cascade_channels, channels) == (1, 3):
        apart = torch.cat([run.func("denoise", image[k : k + 1], model(1)) for k in range(3)])
        assert float((apart - whole).abs().max()) <= 1e-5 * max(1.0, float(whole.abs().max()))


@pytest.mark.parametrize("gray", [False, True])
def test_folded_denoisers_equal_those_they_are_made_of(gray: bool) -> None:
    channels, seen = (3, 1) if gray else (1, 1)
    low = BlindLowpassDenoiser(random_network(channels, channels), std=0.5).eval()
    details = detail_denoiser(channels)
    x, d, level = noise(1, seen, 12, 10), noise(1, 3 * seen, 12, 10), torch.ones(1)

    def threefold(values: Tensor) -> Tensor:
        return values.repeat_interleave(channels // seen, dim=1)

    def folded(values: Tensor) -> Tensor:
        return values.unflatten(1, (-1, channels // seen)).mean(dim=2)

    with torch.inference_mode():
        for unit in (1.0, 0.1, 0.5):  # of what they are called with, in std: standardised, and library units
            fused = FusedBlindLowpassDenoiser(low, unit, gray=gray, dtype=torch.float32)
            size = 0.5 / unit
            assert torch.allclose(fused(x / size) * size, folded(low(threefold(x), level)), atol=1e-4)
            fused_details = FusedBlindDetailDenoiser(details, unit, gray=gray, dtype=torch.float32)
            size = 0.1 / unit
            answer, coarse = fused_details(d / size, x)
            assert torch.equal(coarse, x)
            assert torch.allclose(answer * size, folded(details(threefold(d), level, threefold(x))[0]), atol=1e-4)


def test_only_pictures_as_in_training_are_done_in_one_piece() -> None:
    local = random_cascade(size=64)  # its low-pass network sees 13x13 of 16x16
    seeing = random_cascade(size=32)  # ... of 8x8
    assert is_local(local) and is_local(seeing)
    assert not knows_border(local, (64, 64))
    assert knows_border(seeing, (32, 32)) and not knows_border(seeing, (32, 31))
    image = noise(1, 32, 32).clamp(-1, 1)
    parts: list[Tensor] = []
    denoise_picture(
        seeing, lambda a, b, c, d: image[:, a:b, c:d], (32, 32), 1, [0.2] * 3, lambda a, c, v: parts.append(v)
    )
    assert torch.allclose(parts[0][None], seeing.denoise(image[None], torch.tensor([0.2])), atol=1e-5)
    parts.clear()
    small = avg_pool2d(image, 4)
    upscale_picture(seeing, lambda a, b, c, d: small[:, a:b, c:d], (8, 8), 1, 4, lambda a, c, v: parts.append(v))
    assert torch.allclose(parts[0][None], seeing.upscale(small[None], 4), atol=1e-5)
