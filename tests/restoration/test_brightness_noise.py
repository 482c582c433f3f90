"""Noise that grows with brightness: found where it is, not found where it is not, and removed without bias."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_noise_level import eight_bits, photograph
from torch import Tensor

import wavdiff
from wavdiff.images.rectangle import Rectangle
from wavdiff.restoration import restore_file
from wavdiff.restoration.brightness_noise import NoiseCurve, measure_curve
from wavdiff.restoration.octave_noise import flat_windows
from wavdiff.restoration.request import RestorationRequest
from wavdiff.system.errors import WavdiffError

PHOTOGRAPHS = (
    "coffee",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("astronaut", "chelsea", "rocket")),
)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def camera(clean: Tensor, gain: float, read: float) -> Tensor:
    counted = torch.poisson(clean / gain, generator=generator()) * gain
    return counted + read * torch.randn(clean.shape, generator=generator())


def measured(picture: Tensor, **settings: bool) -> NoiseCurve | None:
    windows = flat_windows(lambda where: where.of(2 * picture - 1), (picture.shape[1], picture.shape[2]), 32)
    assert windows is not None
    return measure_curve(windows, **settings)


def psnr(picture: Tensor, clean: Tensor) -> float:
    return float(-10 * (picture.clamp(0, 1) - clean).square().mean().log10())


@pytest.mark.parametrize("peak", [30, 100, 300])
@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_poisson_noise_of_photographs_is_measured(name: str, peak: int) -> None:
    found = measured(eight_bits(camera(photograph(name), 1 / peak, 0.0)))
    assert found is not None and found.gain == pytest.approx(1 / peak, rel=0.2)
    assert found.level(0.7) == pytest.approx((0.7 / peak) ** 0.5, rel=0.1)


def test_read_noise_is_told_from_gain() -> None:
    found = measured(eight_bits(camera(photograph("coffee"), 0.004, 8 / 255)))
    assert found is not None and found.gain == pytest.approx(0.004, rel=0.2)
    assert 255 * found.read_noise == pytest.approx(8, abs=2)


@pytest.mark.parametrize("sigma", [0, 2, 5, 15, 25, 50])
@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_white_noise_does_not_grow(name: str, sigma: float) -> None:
    clean = photograph(name)
    noisy = clean + sigma / 255 * torch.randn(clean.shape, generator=generator())
    assert measured(eight_bits(noisy)) is None
    assert measured(noisy) is None


def test_a_picture_without_contrast_has_no_curve() -> None:
    assert measured(eight_bits(0.5 + 0.1 * torch.randn(1, 64, 64, generator=generator()))) is None
    assert measured(torch.full((3, 64, 64), 0.3), needed=True) is None


@pytest.mark.parametrize("read", [0.0, 0.02])
@pytest.mark.parametrize("gain", [1 / 20, 1 / 200])
def test_the_transform_makes_noise_white_and_its_inverse_is_unbiased(gain: float, read: float) -> None:
    curve, place = NoiseCurve(gain, read), Rectangle(0, 400, 0, 500)
    for value in (0.2, 0.5, 0.9):
        noisy = camera(torch.full((1, 400, 500), value), gain, read)
        stable = curve.stabilising(lambda where, noisy=noisy: 2 * noisy - 1)(place)  # type: ignore[misc]
        assert float(stable.std()) / 2 == pytest.approx(curve.sigma, rel=0.05)
        back = torch.empty_like(noisy)
        curve.unstabilising(lambda where, values, back=back: back.copy_(values))(  # type: ignore[misc]
            place, stable.mean().expand_as(stable)
        )
        assert float((back.mean() + 1) / 2) == pytest.approx(value, rel=0.003, abs=0.001)


@pytest.mark.slow
@pytest.mark.parametrize(("gain", "read", "better"), [(1 / 30, 0.0, 0.2), (0.004, 4 / 255, 0.3)])
def test_denoising_gains_from_the_curve(gain: float, read: float, better: float) -> None:
    clean = photograph("chelsea")[:, 54:246, 129:321]
    noisy = 2 * eight_bits(camera(clean, gain, read)) - 1
    white, found, told = (
        psnr((wavdiff.denoise(noisy, **how) + 1) / 2, clean)
        for how in ({"noise": "white"}, {}, {"gain": gain, "read_noise": read})
    )
    assert found > white + better and told > white + better and abs(found - told) < 0.4


@pytest.mark.slow
def test_the_command_says_it_and_draws_along_the_curve(tmp_path: Path, cli: Callable[..., Any]) -> None:
    noisy = eight_bits(camera(photograph("coffee")[:, 100:228, 200:328], 0.01, 0.0))
    file = tmp_path / "noisy.png"
    Image.fromarray((noisy * 255).byte().permute(1, 2, 0).numpy()).save(file)
    result = cli("denoise", file, "--out", tmp_path / "clean.png")
    assert result.code == 0 and "noise grows with brightness: variance = 0.0" in result.err
    cascade = wavdiff.load("photos")
    for memory in (1 << 20, 1 << 30):  # whatever the tiles
        given = {"gain": 0.01, "read_noise": 1 / 255, "samples": 2, "steps": 2, "seed": 3, "memory_bytes": memory}
        done = restore_file(cascade, file, tmp_path / f"{memory}.png", RestorationRequest("denoise", **given))
        assert any("noise grows" in line for line in done.messages)
    one, other = (np.asarray(Image.open(tmp_path / f"{memory}.png")).astype(int) for memory in (1 << 20, 1 << 30))
    assert abs(one - other).max() <= 1
    assert cli("denoise", file, "--gain", "0.01", "--sigma", "0.1").code == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"noise": "pink"}, "noise must be auto, white or poisson, got 'pink'"),
        ({"gain": 0.0}, "gain must lie between 0 and 1, got 0"),
        ({"gain": float("nan")}, "gain must lie between 0 and 1, got nan"),
        ({"gain": 0.1, "read_noise": -1.0}, "read_noise must be in"),
        ({"read_noise": 0.1}, "read_noise 0.1 needs a gain"),
        ({"gain": 0.1, "sigma": 0.1}, "grows with brightness"),
        ({"noise": "poisson", "sigma": 0.1}, "grows with brightness"),
        ({"gain": 0.1, "noise": "white"}, "grows with brightness"),
        ({"gain": 0.1, "colour": "luma"}, "luma"),
    ],
)
def test_what_does_not_go_together_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(WavdiffError, match=message):
        RestorationRequest("denoise", **settings)


def test_a_curve_that_is_asked_for_and_not_there_is_an_error() -> None:
    with pytest.raises(WavdiffError, match="no noise that grows with brightness was found"):
        wavdiff.denoise(torch.zeros(3, 64, 64), noise="poisson")
