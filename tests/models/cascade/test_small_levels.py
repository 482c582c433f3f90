"""Towards no noise at all a denoiser leaves pictures alone, by construction: also below the levels of its training."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import skimage.data
import torch
from blind_models import settings
from torch import Tensor

import wavdiff
from wavdiff.models.cascade.denoising import Coarse
from wavdiff.models.cascade.model import WaveletCascade, build_denoiser
from wavdiff.models.cascade.saved import load_cascade, save_model

LEVELS = 60


def photograph(cascade: WaveletCascade) -> Tensor:
    """A piece of a photograph that none of them saw, (C, H, W) in [-1, 1]."""
    height, width = (48, 56) if cascade.image_size[0] > 64 else cascade.image_size
    values = torch.tensor(skimage.data.coffee()[120 : 120 + height, 200 : 200 + width]).permute(2, 0, 1) / 127.5 - 1
    return values if cascade.channels == 3 else values.mean(dim=0, keepdim=True)


def rms(x: Tensor) -> float:
    return float(x.double().square().mean().sqrt())


@pytest.mark.isa
@pytest.mark.parametrize(
    "model", ["photos", *(pytest.param(name, marks=pytest.mark.slow) for name in ("faces", "fashion"))]
)
def test_no_level_makes_a_picture_worse(model: str) -> None:
    cascade = wavdiff.load(model)
    clean = photograph(cascade)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    most = cascade.noise_max or 0.5
    for step in range(LEVELS):
        sigma = 1e-6 * (0.999 * most / 1e-6) ** (step / (LEVELS - 1))
        noisy = clean + 2 * sigma * noise
        denoised = wavdiff.denoise(noisy, sigma, model=cascade)
        assert rms(denoised - clean) <= rms(noisy - clean) * 10 ** (0.05 / 20), sigma
        assert rms(denoised - noisy) <= 3 * 2 * sigma, sigma
        assert rms(wavdiff.denoise(clean, sigma, model=cascade) - clean) <= 3 * 2 * sigma, sigma


@pytest.mark.parametrize("mode", ["mean", "sample"])
def test_a_faint_picture_stays_what_it_is(mode: str) -> None:
    clean = photograph(wavdiff.load("photos"))
    for sigma in (0.001, 0.2 / 255):
        assert rms(wavdiff.denoise(clean, sigma, mode=mode) - clean) <= 3 * 2 * sigma


@pytest.mark.parametrize("kind", ["told", "blind"])
def test_the_step_vanishes_with_the_level_and_both_forms_agree(kind: str) -> None:
    told = {"kind": "local", "width": 16, "depth": 4, "receptive_field": 7, "activation": "relu", "preactivated": False}
    torch.manual_seed(0)
    denoiser = build_denoiser(settings() if kind == "blind" else told, 1, 0.1, 0.5, least=0.01).eval()
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    x, y, d = (0.1 * torch.randn(1, channels, 12, 12) for channels in (1, 1, 3))

    def answer(level: float, coarse_level: float) -> tuple[Tensor, Tensor]:
        known = Coarse(x, y, torch.tensor([coarse_level])) if coarse_level else Coarse(x)
        with torch.no_grad():
            mean, coarse = denoiser.denoise(d, torch.tensor([level]), known)
            folded = denoiser.at(level, coarse_level, gray=False, dtype=torch.float32).denoise(d, None, known)
        assert coarse is not None and folded.coarse is not None
        assert torch.allclose(mean, folded.mean, atol=1e-5) and torch.allclose(coarse, folded.coarse, atol=1e-5)
        return mean - d, coarse - x

    whole, corrected = answer(0.009999, 0.009999)
    for part in (0.5, 0.1, 1e-3):
        step, correction = answer(0.01 * part, 0.01 * part)
        assert torch.allclose(step, part**2 * whole, rtol=1e-2, atol=1e-6)
        assert torch.allclose(correction, part**2 * corrected, rtol=1e-2, atol=1e-6)
    only_fine, kept = answer(0.001, 0.02)  # where octaves differ each has its own share
    assert rms(only_fine) < 0.1 * rms(whole) and (kind == "blind" or rms(kept) > 0.1 * rms(corrected))
    assert math.isclose(rms(answer(0.002, 0.0)[1]), 0.0)  # a level of draws, given the exact coarse image
    assert rms(answer(0.0, 0.0)[0]) == 0


def test_the_least_noise_is_kept_and_checked(tmp_path: Path) -> None:
    cascade = wavdiff.load("photos")
    assert cascade.config["noise_min"] == 0.004 and cascade.lowpass.least == pytest.approx(0.001)
    assert [denoiser.least for denoiser in cascade.details] == pytest.approx([0.004, 0.002, 0.001])
    assert wavdiff.load("faces").details[0].least == pytest.approx(0.008)  # it does not say: the default
    save_model(cascade, tmp_path, "# a card")
    assert load_cascade(tmp_path).details[0].least == cascade.details[0].least
