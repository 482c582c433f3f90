"""Noise that was cut off at black and white."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from torch import Tensor

import wavdiff
from wavdiff.images.disk_array import Plane
from wavdiff.images.rectangle import Rectangle, bands
from wavdiff.restoration import clipped
from wavdiff.restoration.clipped import inverted_mean, write_unclipped


def photograph(name: str, size: int = 128) -> Tensor:
    """(3, H, W) in [-1, 1]."""
    values = torch.from_numpy(getattr(skimage.data, name)())
    top, left = ((side - size) // 2 for side in values.shape[:2])
    return values[top : top + size, left : left + size].permute(2, 0, 1) / 127.5 - 1


def noise(like: Tensor, sigma: float) -> Tensor:
    return 2 * sigma * torch.randn(like.shape, generator=torch.Generator().manual_seed(1))


def in_a_file(picture: Tensor) -> Tensor:
    """As 8 bits have it."""
    return ((picture.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1


def psnr(picture: Tensor, clean: Tensor) -> float:
    return float(-10 * ((picture.clamp(-1, 1) - clean) / 2).square().mean().log10())


@pytest.mark.parametrize("sigma", [0.02, 0.1, 0.4])
def test_the_mean_of_what_is_left_is_inverted(sigma: float) -> None:
    x = torch.linspace(0, 1, 11, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    seen = (x[:, None] + sigma * torch.randn(11, 400_000, generator=generator)).clamp(0, 1).mean(dim=1)
    assert torch.allclose(inverted_mean(seen, sigma), x, atol=0.012 * max(sigma, 0.1))
    assert (
        float(inverted_mean(torch.tensor([-0.5]), sigma)) == 0 and float(inverted_mean(torch.tensor([1.5]), sigma)) == 1
    )


@pytest.mark.parametrize(
    ("level", "gain", "lost"),
    [
        pytest.param(15, 0.2, 0.35, marks=pytest.mark.slow),
        (25, 0.5, 0.5),
        pytest.param(50, 1.2, 0.9, marks=pytest.mark.slow),
    ],
)
def test_cut_off_noise_costs_little(level: float, gain: float, lost: float) -> None:
    cascade, clean = wavdiff.load("photos"), photograph("coffee")
    noisy = clean + noise(clean, level / 255)
    whole = wavdiff.denoise(noisy, level / 255, model=cascade)
    cut, left, drawn = (
        wavdiff.denoise(in_a_file(noisy), level / 255, model=cascade, **settings)
        for settings in ({}, {"declip": False}, {"mode": "sample", "steps": 4})
    )
    assert psnr(cut, clean) > max(psnr(left, clean) + gain, psnr(whole, clean) - lost)
    black = clean < -0.97
    assert float((left - clean)[black].mean()) > 3 * abs(float((cut.clamp(-1, 1) - clean)[black].mean()))
    assert float(drawn.clamp(-1, 1)[black].mean()) < float(left[black].mean())


@pytest.mark.slow
def test_noise_that_was_not_cut_off_is_left_alone() -> None:
    cascade, clean = wavdiff.load("photos"), photograph("coffee")
    noisy = clean + noise(clean, 0.1)
    settings = {"model": cascade}
    assert torch.equal(wavdiff.denoise(noisy, 0.1, **settings), wavdiff.denoise(noisy, 0.1, declip=False, **settings))


@pytest.mark.slow
def test_the_quiet_shadows_of_a_camera_are_not_crushed() -> None:
    cascade, clean = wavdiff.load("photos"), photograph("coffee")
    clean = clean.clamp(min=-0.95)
    quiet = torch.where(clean < -0.4, 0.1, 1.0)  # a tenth of the noise in the shadows
    noisy = in_a_file(clean + quiet * noise(clean, 25 / 255))
    noisy[:, :4] = 1.0  # so that values sit at an end at all
    one, other = (wavdiff.denoise(noisy, 25 / 255, model=cascade, declip=declip) for declip in (True, False))
    shadows = clean < -0.6
    assert float((one - other)[shadows].abs().mean()) < 0.1 * 25 / 255


def test_the_correction_does_not_depend_on_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    clean = photograph("coffee")
    noisy = in_a_file(clean + noise(clean, 0.2))
    plane, results = Plane(3, 128, 128, in_memory=True), []
    plane.write(Rectangle(0, 128, 0, 128), 0.9 * noisy)
    for rows in (128, 37):
        result = torch.empty_like(clean)
        monkeypatch.setattr(clipped, "bands", lambda size, rows=rows: bands(size, rows))
        write_unclipped(plane, lambda w: w.of(noisy), 0.4, lambda w, v, result=result: w.of(result).copy_(v))  # type: ignore[misc]
        results.append(result)
    assert torch.equal(*results)


@pytest.mark.slow
def test_the_command_takes_it_back_or_leaves_it(tmp_path: Path, cli: Callable[..., Any]) -> None:
    clean = photograph("coffee", 96)
    noisy = ((in_a_file(clean + noise(clean, 0.2)) + 1) * 127.5).round().byte()
    Image.fromarray(noisy.permute(1, 2, 0).numpy()).save(tmp_path / "noisy.png")
    found = []
    for options in ((), ("--no-declip",), ("--samples", "2", "--steps", "2", "--interval", "0.9")):
        out = tmp_path / f"{len(found)}.png"
        done = cli("denoise", tmp_path / "noisy.png", "--sigma", "0.2", *options, "--out", out)
        assert done.code == 0, done.err
        found.append(torch.from_numpy(np.array(Image.open(out))).permute(2, 0, 1) / 127.5 - 1)
    mean, left, drawn = (psnr(picture, clean) for picture in found)
    assert mean > left + 1 and drawn > left
