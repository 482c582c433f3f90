"""Ten, twelve or fourteen bits in files of sixteen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from PIL import Image

from wavdiff.restoration.request import RestorationRequest
from wavdiff.system.errors import WavdiffError


def written(folder: Path, maximum: int, sigma: float = 5.0) -> tuple[Path, np.ndarray]:
    """A noisy 16-bit picture that uses values up to `maximum`, and the clean one in [0, 1]."""
    clean = skimage.data.coffee()[100:228, 200:328].mean(axis=-1) / 255
    noisy = clean + sigma / 255 * np.random.default_rng(0).standard_normal(clean.shape)
    noisy[0, 0] = 1.0
    file = folder / f"{maximum}.tif"
    Image.fromarray((maximum * noisy.clip(0, 1)).round().astype(np.uint16)).save(file)
    return file, clean


def read(path: Path, maximum: int) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(float) / maximum


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_the_used_range_is_found_said_and_kept(bits: int, tmp_path: Path, cli: Callable[..., Any]) -> None:
    maximum = 2**bits - 1
    file, clean = written(tmp_path, maximum)
    done = cli("denoise", file, "--out", tmp_path / "clean.tif")
    assert done.code == 0 and (f"taken as {bits} bits, white {maximum}" in done.err) == (bits < 16)
    result = read(tmp_path / "clean.tif", maximum)
    assert np.square(result - clean).mean() < 0.4 * np.square(read(file, maximum) - clean).mean()


def test_levels_are_of_the_file_or_of_the_white_that_is_given(tmp_path: Path, cli: Callable[..., Any]) -> None:
    file, _ = written(tmp_path, 4095)
    results = []
    for name, options in {
        "file": ("--sigma", str(0.02 * 4095 / 65535)),
        "white": ("--sigma", "0.02", "--white", "4095"),
    }.items():
        assert cli("denoise", file, *options, "--out", tmp_path / f"{name}.tif").code == 0
        results.append(read(tmp_path / f"{name}.tif", 1))
    assert np.abs(results[0] - results[1]).max() <= 1


@pytest.mark.parametrize("options", [("--sigma", "0.1"), ("--gain", "0.1"), ("--gain", "0.001", "--read-noise", "0.1")])
def test_a_level_above_the_used_range_says_how_to_give_it(
    options: tuple[str, ...], tmp_path: Path, cli: Callable[..., Any]
) -> None:
    file, _ = written(tmp_path, 4095)
    done = cli("denoise", file, *options, "--out", tmp_path / "clean.tif")
    assert done.code == 1 and "0.1 is of what the file can hold" in done.err and "--white" in done.err


@pytest.mark.parametrize("white", ["0", "-1", "70000", "nan"])
def test_a_white_that_the_file_cannot_hold_is_refused(white: str, tmp_path: Path, cli: Callable[..., Any]) -> None:
    file, _ = written(tmp_path, 4095)
    done = cli("denoise", file, "--white", white, "--out", tmp_path / "clean.tif")
    assert done.code == 1 and "white must be above 0 and at most 65535" in done.err
    assert not (tmp_path / "clean.tif").exists()


def test_white_is_for_pictures_as_they_are() -> None:
    with pytest.raises(WavdiffError, match="white is for pictures as they are"):
        RestorationRequest("denoise", sigma=0.1, add_noise=True, white=4095)
