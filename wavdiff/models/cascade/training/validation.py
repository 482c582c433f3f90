"""Held-out numbers by noise level: what tells learning from memorising.

Two tables, both on images that training never sees: PSNR of the whole denoising walk at every scale (against the
noisy input of that scale), and the loss of every scale alone with the exact coarse image, as synthesis meets it. The
chance is the same at every call, so curves over training are comparable.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from wavdiff.models import wavelets
from wavdiff.models.cascade.denoising import Coarse
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.cascade.noise import SIGMA_MAX, expand

IMAGE_LEVELS = (5, 10, 25, 50, 100, 200)
"""Noise levels of the denoising table, of 255."""
SCALE_LEVELS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, SIGMA_MAX)
"""Noise levels of the loss table, standardised units."""


def _psnr(estimate: Tensor, clean: Tensor) -> float:
    error = (estimate - clean).square().mean(dim=(1, 2, 3))
    return float((10 * torch.log10(4 / error)).mean())


@torch.no_grad()
def heldout_numbers(cascade: WaveletCascade, images: Tensor, batch_size: int = 64) -> dict[str, Any]:
    """Both tables for `images` (N, C, H, W) in [-1, 1].

    Returns:
        {"psnr": {"scale": {"sigma/255": [input dB, output dB]}}, "loss": {"scale": {"level": value}}}.
    """
    cascade = cascade.eval()
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(images.shape, generator=generator)
    psnr: dict[str, dict[str, list[float]]] = {name: {} for name in cascade.scale_names}
    for sigma in IMAGE_LEVELS:
        pairs: dict[str, list[tuple[float, float, int]]] = {name: [] for name in cascade.scale_names}
        for start in range(0, len(images), batch_size):
            clean = images[start : start + batch_size].to(cascade.device)
            level = torch.full((len(clean),), 2 * sigma / 255, device=cascade.device)
            noisy = clean + expand(level, clean) * noise[start : start + batch_size].to(clean)
            walk = cascade.denoise_walk(noisy, level)
            for name, estimate in zip(cascade.scale_names, walk, strict=True):
                scale = cascade.levels if name == "low" else int(name)
                reference = wavelets.decompose(clean, scale, cascade.wavelet).coarse
                seen = wavelets.decompose(noisy, scale, cascade.wavelet).coarse
                pairs[name].append((_psnr(seen, reference), _psnr(estimate, reference), len(clean)))
        for name, rows in pairs.items():
            total = sum(count for *_, count in rows)
            psnr[name][str(sigma)] = [round(sum(row[i] * row[2] for row in rows) / total, 3) for i in (0, 1)]
    return {"psnr": psnr, "loss": _losses(cascade, images, noise, batch_size)}


def _losses(cascade: WaveletCascade, images: Tensor, noise: Tensor, batch_size: int) -> dict[str, dict[str, float]]:
    losses: dict[str, dict[str, float]] = {name: {} for name in cascade.scale_names}
    top = min(cascade.denoiser(name).top for name in cascade.scale_names)
    for standard_level in (*(level for level in SCALE_LEVELS if level < top), top):
        sums = dict.fromkeys(cascade.scale_names, 0.0)
        for start in range(0, len(images), batch_size):
            clean = wavelets.decompose(
                images[start : start + batch_size].to(cascade.device), cascade.levels, cascade.wavelet
            )
            unit = wavelets.decompose(
                noise[start : start + batch_size].to(cascade.device), cascade.levels, cascade.wavelet
            )
            count = clean.coarse.shape[0]
            with cascade.network_context():
                level = torch.full((count,), standard_level * cascade.lowpass.std, device=cascade.device)
                noisy = clean.coarse + expand(level, clean.coarse) * 2**cascade.levels * unit.coarse
                sums["low"] += float(cascade.lowpass.loss(clean.coarse, noisy, level)[0].sum())
                coarse = clean.coarse
                for scale in range(cascade.levels - 1, -1, -1):
                    denoiser, details = cascade.details[scale], clean.details[scale]
                    level = torch.full((count,), standard_level * denoiser.std, device=cascade.device)
                    noisy = details + expand(level, details) * 2 ** (scale + 1) * unit.details[scale]
                    loss, _ = denoiser.loss(details, noisy, level, Coarse(coarse), coarse)
                    sums[str(scale)] += float(loss.sum()) / (4 / 3)  # the mean over 3C of 4C channels that count
                    coarse = wavelets.join(coarse, details, cascade.wavelet)
        for name, value in sums.items():
            scale_factor = 1.0 if name == "low" else (4 / 3) ** 2
            losses[name][f"{standard_level:g}"] = round(value / len(images) * scale_factor, 5)
    return losses
