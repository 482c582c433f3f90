"""What is written down about one result, and averages over pictures.

A table is {"25/255" | "x2" | ...: {"BM3D" | model | ...: {"psnr": ..., "ssim": ..., ...}}}: by noise level or factor,
by method, by measure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from wavdiff.evaluation import metrics

Scores = dict[str, float]
Rows = dict[str, dict[str, Scores]]
HIGHEST_PSNR = 100.0
"""Decibels that stand for a result without any error, whose PSNR is infinite: JSON and averages need a number."""
_TIMES = ("seconds", "processor_seconds")
_DIGITS = {"ssim": 5}  # of others 4


def level_name(sigma: float) -> str:
    """The noise level as it is written: 0.1 is "25.5/255"."""
    return f"{sigma * 255:g}/255"


def psnr_line(name: str, row: Mapping[str, Scores]) -> str:
    """What is said of a row while others are measured: "x2: bicubic 28.17, photos 29.90"."""
    return f"{name}: " + ", ".join(f"{method} {one['psnr']:.2f}" for method, one in row.items())


def score(estimate: Tensor, reference: Tensor, source: Tensor, times: tuple[float, float] | None = None) -> Scores:
    """Measure one result.

    Args:
        estimate: (C, H, W) in [-1, 1]; limited to it first, but for `unlimited_colour_shift`.
        reference: the clean picture, same shape.
        source: what the method saw: the noisy picture, unlimited, or the small one, (C, h, w).
        times: seconds that the method took, by the clock and of all processors together, if that was measured.

    Returns:
        `psnr` in dB (at most `HIGHEST_PSNR`), `ssim`, `colour_shift` and `colour_error` (the largest distance, over
        channels, of the mean colour from that of the source and from that of the reference, in 1/255), the shift
        without limiting, and, where measured, `seconds`, `processor_seconds` and `megapixels`.

    Raises:
        WavdiffError: shapes that differ, or a picture too small for SSIM.
    """
    unlimited, estimate = estimate[None], estimate.clamp(-1, 1)[None]
    found = {
        "psnr": min(float(metrics.psnr(estimate, reference[None])[0]), HIGHEST_PSNR),
        "ssim": float(metrics.ssim(estimate, reference[None])[0]),
        "colour_shift": float(metrics.mean_shift(estimate, source[None]).abs().max()),
        "unlimited_colour_shift": float(metrics.mean_shift(unlimited, source[None]).abs().max()),
        "colour_error": float(metrics.mean_shift(estimate, reference[None]).abs().max()),
    }
    found = {name: round(value, _DIGITS.get(name, 4)) for name, value in found.items()}
    if times is not None:
        height, width = reference.shape[-2:]
        found |= {name: float(f"{value:.4g}") for name, value in zip(_TIMES, times, strict=True)}
        found["megapixels"] = round(height * width / 1e6, 6)
    return found


def average(tables: Sequence[Rows]) -> Rows:
    """Average tables of several pictures, method by method; each counts where it was measured.

    Returns:
        Every measure's mean; `largest_colour_shift` and `largest_unlimited_colour_shift`; `seconds_per_megapixel` and
        `processor_seconds_per_megapixel`, all seconds over all megapixels; and `pictures`, how many were averaged.
    """
    merged: dict[str, dict[str, list[Scores]]] = {}
    for table in tables:
        for row, methods in table.items():
            for method, scores in methods.items():
                merged.setdefault(row, {}).setdefault(method, []).append(scores)
    return {
        row: {method: _average_scores(scores) for method, scores in methods.items()} for row, methods in merged.items()
    }


def _average_scores(scores: list[Scores]) -> Scores:
    sums = {name: math.fsum(one[name] for one in scores) for name in scores[0]}
    means = {
        name: round(total / len(scores), _DIGITS.get(name, 4))
        for name, total in sums.items()
        if name not in (*_TIMES, "megapixels")
    }
    for name in ("colour_shift", "unlimited_colour_shift"):
        if name in sums:
            means[f"largest_{name}"] = max(one[name] for one in scores)
    for name in _TIMES:
        if name in sums:
            means[f"{name}_per_megapixel"] = float(f"{sums[name] / sums['megapixels']:.4g}")
    return {**means, "pictures": len(scores)}
