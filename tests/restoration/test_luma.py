"""Colour for gray models: the transform is a scaled rotation, and the verbs keep their promises through it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import wavdiff
from wavdiff.cli import main
from wavdiff.restoration.channels import LUMA_NOISE, from_luma, to_luma
from wavdiff.system.errors import WavdiffError


def picture(height: int = 40, width: int = 52) -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.linspace(0, 3, height), torch.linspace(0, 4, width), indexing="ij")
    return 0.6 * torch.stack([torch.sin(rows + columns), torch.cos(2 * rows), torch.sin(3 * columns)])


def test_luma_is_the_mean_of_the_channels_and_the_transform_a_rotation_over_root_three() -> None:
    colour = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    planes = to_luma(colour)
    torch.testing.assert_close(planes[0], colour.mean(dim=0))
    torch.testing.assert_close(from_luma(planes), colour)
    assert planes.norm() == pytest.approx(float(colour.norm()) / math.sqrt(3))
    assert to_luma(torch.ones(3, 1, 1)).flatten().tolist() == pytest.approx([1, 0, 0], abs=1e-7)


def test_white_noise_stays_white_with_one_level() -> None:
    noise = torch.randn(3, 300, 300, generator=torch.Generator().manual_seed(1))
    planes = to_luma(noise).flatten(1)
    covariance = planes @ planes.T / planes.shape[1]
    torch.testing.assert_close(covariance, LUMA_NOISE**2 * torch.eye(3), atol=6e-3, rtol=0)


def test_colour_is_cleaned_better_as_luma_and_differences() -> None:
    clean = picture()[None]
    noisy = clean + 0.2 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(2))
    errors = {
        colour: float((wavdiff.denoise(noisy, 0.1, model="faces", colour=colour) - clean).square().mean())  # type: ignore[arg-type]
        for colour in ("channels", "luma")
    }
    assert errors["luma"] < errors["channels"] < float((noisy - clean).square().mean())


def test_equal_channels_stay_equal_and_are_cleaned_as_gray_with_the_same_noise() -> None:
    gray = picture()[:1] + 0.1 * torch.randn(1, 40, 52, generator=torch.Generator().manual_seed(3))
    result = wavdiff.denoise(gray.expand(3, -1, -1)[None], 0.05 * math.sqrt(3), model="faces", colour="luma")
    expected = wavdiff.denoise(gray[None], 0.05, model="faces")
    black = wavdiff.denoise(torch.zeros(1, 1, 40, 52), 0.05, model="faces")  # what the model makes of no difference
    torch.testing.assert_close(result.mean(dim=1, keepdim=True), expected, atol=1e-5, rtol=0)
    assert float((result - expected).abs().max()) <= 4 * float(black.abs().max()) + 1e-5


def test_an_enlarged_picture_still_has_the_small_one_as_block_means() -> None:
    small = picture(15, 21)[None]
    large = wavdiff.upscale(small, 2, model="faces", colour="luma")
    means = torch.nn.functional.avg_pool2d(large, 2)
    torch.testing.assert_close(means, small, atol=2e-6, rtol=0)


def test_colour_models_and_other_words_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(WavdiffError, match="colour luma is for gray models"):
        wavdiff.denoise(picture()[None], 0.1, model="photos", colour="luma")
    source = tmp_path / "picture.png"
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(source)
    with pytest.raises(SystemExit):
        main(["denoise", str(source), "--sigma", "0.1", "--model", "faces", "--colour", "ycbcr"])
    assert "--colour must be channels or luma, got 'ycbcr'" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["denoise", str(source), "--sigma", "0.1", "--model", "faces", "--colour", "luma"])
    assert ended.value.code == 0 and (tmp_path / "picture_denoised.png").is_file()
