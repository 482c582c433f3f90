"""Noise that is not white at all: impulses, and rows and columns that differ as wholes."""

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
from wavdiff.images.rectangle import Rectangle, tiles, whole
from wavdiff.restoration.impulses import cleaned_of_impulses, deviation_of, find_impulses
from wavdiff.restoration.line_noise import line_levels
from wavdiff.restoration.noise_estimation import estimate_noise_of

PICTURES = (
    "astronaut",
    "coffee",
    "chelsea",
    "rocket",
    "camera",
    "grass",
    "gravel",
    "page",
    "text",
    "hubble_deep_field",
)


def photograph(name: str) -> Tensor:
    """(C, H, W) in [-1, 1]."""
    values = np.atleast_3d(getattr(skimage.data, name)())
    return torch.from_numpy(values.copy()).permute(2, 0, 1) / 127.5 - 1


def noisy(clean: Tensor, sigma: float) -> Tensor:
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    return (((clean + 2 * sigma * noise).clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1


def with_impulses(picture: Tensor, share: float, *, white_only: bool = False) -> tuple[Tensor, Tensor]:
    """The picture with so many of its pixels black or white, and where."""
    chance = torch.rand(picture.shape[1:], generator=torch.Generator().manual_seed(1))
    white, black = chance < share / 2, chance > 1 - share / 2
    result = torch.where(white, 1.0, picture)
    return (result, white) if white_only else (torch.where(black, -1.0, result), white | black)


def replaced(picture: Tensor, wanted: bool | None = None) -> tuple[Tensor | None, list[str]]:
    messages: list[str] = []
    size = (picture.shape[1], picture.shape[2])
    change = cleaned_of_impulses(lambda where: where.of(picture), size, wanted, messages)
    return (None if change is None else change(lambda where: where.of(picture))(whole(size))), messages


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("sigma", [0.0, 50 / 255])
def test_pictures_without_impulses_are_left_alone(name: str, sigma: float) -> None:
    picture = noisy(photograph(name), sigma)
    assert replaced(picture)[0] is None
    assert min(find_impulses(picture[None], deviation_of(picture[None]))) == 0


def test_a_drawing_of_dots_is_no_noise() -> None:
    dots = torch.from_numpy(np.asarray(Image.fromarray(skimage.data.camera()).convert("1")).astype(np.float32))
    assert replaced((2 * dots - 1)[None]) == (None, [])


@pytest.mark.parametrize("share", [0.005, 0.01, 0.05])
@pytest.mark.parametrize("sigma", [0.0, 10 / 255])
def test_impulses_are_replaced_and_nothing_else(share: float, sigma: float) -> None:
    clean = noisy(photograph("coffee"), sigma)
    picture, hit = with_impulses(clean, share)
    result, messages = replaced(picture)
    assert result is not None
    assert "black and white (impulses), replaced" in messages[0]
    changed = (result != picture).any(dim=0)
    assert int((changed & ~hit).sum()) <= 0.01 * int(hit.sum())
    before, after = ((x - clean).square().mean() for x in (picture, result))
    assert after < before / (50 if sigma == 0 and share <= 0.01 else 10)


def test_impulses_are_the_same_by_tiles() -> None:
    picture, _ = with_impulses(noisy(photograph("chelsea"), 5 / 255), 0.02)
    size = (picture.shape[1], picture.shape[2])
    change = cleaned_of_impulses(lambda where: where.of(picture), size, None, [])
    assert change is not None
    read = change(lambda where: where.of(picture))
    result = read(whole(size))
    for tile in tiles(size, 1500):
        assert torch.equal(read(tile), tile.of(result))
    assert read(Rectangle(0, 1, 0, 1)).shape == (3, 1, 1)


def test_bright_points_alone_may_be_stars() -> None:
    picture, _ = with_impulses(photograph("coffee"), 0.02, white_only=True)
    result, messages = replaced(picture)
    assert result is None
    assert "at white, left as they are: give --impulses" in messages[0]
    assert replaced(picture, wanted=True)[0] is not None
    assert replaced(picture, wanted=False) == (None, [])


def test_denoising_takes_impulses_out_first_and_says_so(tmp_path: Path, cli: Callable[..., Any]) -> None:
    clean = photograph("coffee")[:, 100:228, 200:328]
    picture, _ = with_impulses(noisy(clean, 10 / 255), 0.01)
    pixels = ((picture + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    errors = {}
    for name, option in (("taken", ()), ("left", ("--no-impulses",))):
        done = cli("denoise", tmp_path / "a.png", *option, "-o", tmp_path / f"{name}.png")
        assert done.code == 0, done.err
        assert ("(impulses), replaced" in done.err) == (name == "taken")
        result = torch.from_numpy(np.asarray(Image.open(tmp_path / f"{name}.png")).copy()).permute(2, 0, 1) / 127.5 - 1
        errors[name] = float((result - clean).square().mean())
    assert errors["taken"] < errors["left"] / 4
    python = wavdiff.denoise(pixels, impulses=False)
    assert np.array_equal(python, np.asarray(Image.open(tmp_path / "left.png")))


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("sigma", [0.0, 10 / 255])
def test_pictures_have_no_lines(name: str, sigma: float) -> None:
    assert line_levels(noisy(photograph(name)[:, :190, :256], sigma)[None]) == (0.0, 0.0)


def test_slopes_are_no_lines() -> None:
    assert line_levels(torch.linspace(-0.9, 0.9, 256)[:, None].expand(1, 1, 256, 256)) == (0.0, 0.0)
    assert line_levels(torch.zeros(1, 3, 32, 32)) == (0.0, 0.0)  # too small to tell
    assert line_levels(torch.ones(1, 3, 256, 256)) == (0.0, 0.0)  # nothing between the ends


@pytest.mark.parametrize(("lines", "sigma"), [(3, 0), (5, 5), (15, 3), (4, 8)])
@pytest.mark.parametrize("turned", [False, True])
def test_lines_are_measured(lines: float, sigma: float, turned: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    picture = 0.5 * photograph("astronaut")[None, :, :512, :512]
    picture = picture + 2 * lines / 255 * torch.randn(1, 1, 512, 1, generator=generator)
    picture = picture + 2 * sigma / 255 * torch.randn(picture.shape, generator=generator)
    found = line_levels(picture.transpose(-1, -2) if turned else picture)
    assert found[not turned] == 0
    assert 255 * found[turned] == pytest.approx(lines, rel=0.2)


def test_lines_are_named_and_cleaned_with_one_level() -> None:
    generator = torch.Generator().manual_seed(0)
    picture = 0.5 * photograph("astronaut")[:, :256, :256]
    estimate = estimate_noise_of(picture + 2 * 8 / 255 * torch.randn(1, 256, 1, generator=generator))
    assert estimate.lines
    assert "for lines that differ" in estimate.report()
    assert any("rows differ by" in line and "dark frame" in line for line in estimate.findings)
    assert set(estimate.octaves) == {estimate.sigma}
    assert 255 * estimate.sigma == pytest.approx(8 * 2**1.5, rel=0.2)
