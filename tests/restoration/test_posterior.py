import math

import pytest
import torch
from gaussian import WhiteGaussian
from torch import Tensor

from wavdiff.models import wavelets
from wavdiff.models.cascade.joint_walk import POSTERIOR
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.restoration.posterior import coverage, interval_reach, student_quantile, summarise
from wavdiff.restoration.tiled import TiledCanvas, denoise_tiled
from wavdiff.system.errors import WavdiffError

LEVELS = 2


@pytest.mark.parametrize(("degrees", "expected"), [(1, 6.3138), (2, 2.9200), (7, 1.8946), (15, 1.7531), (99, 1.6604)])
def test_student_quantiles_are_those_of_the_tables(degrees, expected):
    assert student_quantile(0.95, degrees) == pytest.approx(expected, abs=2e-4)
    assert student_quantile(0.5, degrees) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("draws", [2, 3, 8, 32])
def test_intervals_of_exact_draws_hold_what_they_say(draws):
    generator = torch.Generator().manual_seed(draws)
    scale = torch.rand(1, 256, 256, generator=generator) + 0.5
    values = scale * torch.randn(draws + 1, 1, 256, 256, generator=generator)
    measured = coverage(values[0], values[1:], 0.9, 2)
    assert set(measured) == {"pixels", "octave 1", "octave 2"}
    assert all(0.88 < part < 0.92 for part in measured.values()), measured


def test_a_summary_is_mean_and_unbiased_deviation():
    draws = torch.randn(5, 3, 10, 7, generator=torch.Generator().manual_seed(0))
    summary = summarise(draws, 1)
    assert torch.allclose(summary.mean, draws.mean(0)) and torch.allclose(summary.std, draws.std(0))
    details = wavelets.decompose(draws, 1).details[0]
    assert torch.allclose(summary.octaves[0][0].square(), details.var(dim=0).mean(dim=0))
    lower, upper = summary.bounds(0.9, 5)
    assert torch.allclose((upper - lower) / 2, 2.13185 * math.sqrt(1.2) * summary.std, rtol=1e-4)
    for wrong in (lambda: summarise(draws[:1], 1), lambda: interval_reach(1.0, 5), lambda: interval_reach(0.9, 1)):
        with pytest.raises(WavdiffError):
            wrong()


VARIANCES = {"low": 0.8, "1": 1.2, "0": 0.5}


@pytest.fixture(scope="module")
def exact() -> WaveletCascade:
    network = {"kind": "local", "width": 4, "depth": 2, "receptive_field": 3}
    cascade = WaveletCascade((32, 32), 1, "haar", network, [network] * LEVELS, 0.5, [0.1, 0.2])

    def shrinking(name: str) -> WhiteGaussian:
        model = cascade.denoiser(name)
        return WhiteGaussian(VARIANCES[name] * model.std**2, model.std, model.network)

    cascade.details = torch.nn.ModuleList(shrinking(str(scale)) for scale in range(LEVELS))
    cascade.lowpass = shrinking("low")
    return cascade


def gaussian_picture(cascade: WaveletCascade, size: int, generator: torch.Generator) -> Tensor:
    def draw(channels: int, side: int, std: float, name: str) -> Tensor:
        return std * VARIANCES[name] ** 0.5 * torch.randn(1, channels, side, side, generator=generator)

    coarse = draw(1, size >> LEVELS, cascade.lowpass.std, "low")
    details = [draw(3, size >> (k + 1), cascade.details[k].std, str(k)) for k in range(LEVELS)]
    return wavelets.reconstruct(wavelets.Pyramid(coarse, tuple(details), (size, size)))[0]


def walked(cascade: WaveletCascade, noisy: Tensor, level: float | list[float], seed: int = 0, **settings) -> Tensor:
    result = torch.empty_like(noisy)

    canvas = TiledCanvas(cascade, 1, seed=seed, precision=torch.float32, tile_pixels=3000)
    levels = level if isinstance(level, list) else [level] * (LEVELS + 1)
    denoise_tiled(
        canvas,
        lambda where: where.of(noisy),
        noisy.shape[1:],
        levels,
        lambda where, values: where.of(result).copy_(values),
        **settings,
    )
    return result


@pytest.mark.parametrize("level", [0.1, 0.4])
def test_posterior_draws_of_an_exact_gaussian_model_are_calibrated(exact, level):
    generator = torch.Generator().manual_seed(1)
    truth = gaussian_picture(exact, 192, generator)
    noisy = truth + level * torch.randn(truth.shape, generator=generator)
    mean = walked(exact, noisy, level)
    draws = torch.stack([walked(exact, noisy, level, k, schedule=POSTERIOR) for k in range(12)])
    measured = coverage(truth, draws, 0.9, LEVELS)
    assert all(0.88 < part < 0.92 for part in measured.values()), measured

    def error(estimate: Tensor) -> float:
        return float((estimate - truth).square().mean())

    # A draw lies 3 dB under the mean, the mean of N draws 10 log10(1 + 1/N).
    one = sum(error(draw) for draw in draws) / len(draws)
    assert 10 * math.log10(one / error(mean)) == pytest.approx(10 * math.log10(2), abs=0.15)
    together = error(draws.mean(dim=0))
    assert 10 * math.log10(together / error(mean)) == pytest.approx(10 * math.log10(1 + 1 / 12), abs=0.15)


def test_noise_that_differs_from_scale_to_scale_is_drawn_away_scale_by_scale(exact):
    """Every scale has its own posterior; one without noise stays as it is."""
    levels, count = [0.1, 0.5, 1e-7], 24
    generator = torch.Generator().manual_seed(4)
    noise = wavelets.decompose(torch.randn(1, 1, 64, 64, generator=generator), LEVELS)
    scaled = tuple(level * part for level, part in zip(levels, noise.details, strict=False))
    noisy = (
        gaussian_picture(exact, 64, generator)
        + wavelets.reconstruct(wavelets.Pyramid(levels[-1] * noise.coarse, scaled, (64, 64)))[0]
    )
    draws = torch.stack([walked(exact, noisy, levels, k, schedule=POSTERIOR) for k in range(count)])
    got, given = wavelets.decompose(draws, LEVELS), wavelets.decompose(noisy[None], LEVELS)
    assert torch.allclose(got.coarse, given.coarse.expand_as(got.coarse), atol=1e-4)
    for scale in range(LEVELS):
        # Far from the border, where the frame is the picture's own mirror image and has its noise.
        inner = slice(12 >> scale, -(12 >> scale))
        values, seen = (each.details[scale][..., inner, inner] for each in (got, given))
        variance = VARIANCES[str(scale)] * exact.details[scale].std ** 2
        share = variance / (variance + (levels[scale] / 2 ** (scale + 1)) ** 2)
        expected = variance * (1 - share)
        errors = (2 / values.numel()) ** 0.5
        assert float((values - share * seen).square().mean()) == pytest.approx(expected, rel=5 * errors + 0.02)
        missed = float((values.mean(dim=0) - share * seen[0]).square().mean())
        assert missed == pytest.approx(expected / count, rel=5 * errors * count**0.5 + 0.05)


def test_the_mean_of_an_exact_gaussian_model_is_the_posterior_mean(exact):
    generator = torch.Generator().manual_seed(2)
    truth = gaussian_picture(exact, 64, generator)
    level = 0.3
    noisy = truth + level * torch.randn(truth.shape, generator=generator)
    pyramid = wavelets.decompose(noisy[None], LEVELS)
    stds = {"low": exact.lowpass.std, "0": exact.details[0].std, "1": exact.details[1].std}

    def shrunk(values: Tensor, name: str, scale: int) -> Tensor:
        variance = VARIANCES[name] * stds[name] ** 2
        return values * variance / (variance + (level / 2**scale) ** 2)

    details = tuple(shrunk(d, str(k), k + 1) for k, d in enumerate(pyramid.details))
    expected = wavelets.reconstruct(wavelets.Pyramid(shrunk(pyramid.coarse, "low", LEVELS), details, (64, 64)))[0]
    assert torch.allclose(walked(exact, noisy, level), expected, atol=1e-5)
