"""The report on photographs, in Markdown, from the numbers of `evaluation.json` and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wavdiff.evaluation.scores import Rows, Scores
from wavdiff.evaluation.tables import NOTHING, above, cells, markdown_table, methods_of, score_cell, score_table


def photograph_report(results: Mapping[str, Any], *, pictures: bool = True) -> str:
    """Write the report.

    Args:
        results: what `evaluation.json` holds.
        pictures: whether tables of single pictures, plots and crops are in it; without, it fits into a model's card.

    Returns:
        Markdown, which ends with a line break.
    """
    images, request = results["images"], results["request"]
    models = ", ".join(request["models"])
    sections = [f"# {models} on {images['count']} photographs of {images['source']}", _opening(results)]
    denoise, upscale = results["denoise"], results["upscale"]
    for task, reference, plot in (("denoise", "BM3D", "denoising.png"), ("upscale", "bicubic", "enlarging.png")):
        if results[task]:
            sections += [score_table(task, results[task]), _gains(results[task], reference)]
            sections += [f"![gain over {reference}]({plot})"] if pictures else []
    if results["samples"]["draws"]:
        sections.append(_samples(results["samples"]))
    sections += [_times(denoise, upscale), _colours(denoise, upscale)]
    if pictures:
        sections += [_single(results, task, name) for task in ("denoise", "upscale") for name in results[task]]
        sections += _crops(results["crops"])
    if results["skipped"]:
        sections.append("## Left out\n\n" + "\n".join(f"- {line}" for line in results["skipped"]))
    return "\n\n".join(section for section in sections if section) + "\n"


def _opening(results: Mapping[str, Any]) -> str:
    request, images = results["request"], results["images"]
    part = f"the central part of at most {request['crop']} pixels a side" if request["crop"] else "whole pictures"
    costs = ", ".join(f"{name} {count:,}" for name, count in results["multiply_adds_per_pixel"].items())
    return (
        f"{images['megapixels']:.2f} megapixels: {part}, each in its own colours. PSNR in dB (of floating-point "
        "results limited to [0, 1]) / SSIM, means over the pictures. White Gaussian noise, not limited, its seed from "
        f"the picture's name, the level and {request['seed']}; the same noise for every method. {results['machine']}. "
        f"Multiply-adds per pixel, denoising: {costs}."
    )


def _gains(rows: Rows, reference: str) -> str:
    """PSNR above a reference, where that was measured."""
    if not all(reference in row for row in rows.values()):
        return ""
    gains = cells(above(rows, reference), lambda one: f"{one['psnr']:+.2f}")
    return f"PSNR above {reference}, dB:\n\n" + markdown_table(list(rows), gains)


def _samples(samples: Mapping[str, Any]) -> str:
    """Draws beside mean mode."""
    count, gaps = samples["draws"], samples["gaps"]

    def gap(one: Scores) -> str:
        return f"{one['one_draw']:+.2f} / {one['mean_of_draws']:+.2f}"

    rows = {"exact posterior": [gap(samples["expected"])] * len(gaps), **cells(gaps, gap)}
    text = f"PSNR minus that of mean mode, dB: one draw (averaged over {count}) / the mean of {count} draws."
    return f"## Sample mode\n\n{text}\n\n" + markdown_table(list(gaps), rows)


def _times(denoise: Rows, upscale: Rows) -> str:
    """Seconds per megapixel of the result, and how often faster than BM3D."""
    both = {**denoise, **upscale}
    measures = ("seconds_per_megapixel", "processor_seconds_per_megapixel")

    def seconds(scores: Scores) -> str | None:
        return " / ".join(f"{scores[name]:.3g}" for name in measures) if measures[0] in scores else None

    rows = cells(both, seconds)
    for name in methods_of(above(denoise, "BM3D")) if all("BM3D" in row for row in denoise.values()) else ():
        ratios = [
            " / ".join(f"{row['BM3D'][measure] / max(row[name][measure], 1e-9):.0f}x" for measure in measures)
            for row in denoise.values()
        ]
        rows[f"BM3D : {name}"] = ratios + [NOTHING] * len(upscale)
    text = "By the clock / of all processors together."
    return f"## Seconds per megapixel of the result\n\n{text}\n\n" + markdown_table(list(both), rows) if both else ""


def _colours(denoise: Rows, upscale: Rows) -> str:
    """How far the mean colour moves."""
    both = {**denoise, **upscale}
    measures = ("colour_shift", "unlimited_colour_shift")
    rows = cells(both, lambda one: " / ".join(f"{one[name]:.3f} ({one[f'largest_{name}']:.3f})" for name in measures))
    rows.pop("noisy", None)
    text = (
        "Mean colour of the result minus that of the noisy or small picture, of the channel that moves most, in 1/255: "
        "mean over the pictures (largest) / the same before results are limited to [0, 1], which moves the mean where "
        "a picture touches black or white."
    )
    return f"## Shift of the mean colour\n\n{text}\n\n" + markdown_table(list(both), rows) if both else ""


def _single(results: Mapping[str, Any], task: str, name: str) -> str:
    """All pictures at one noise level or factor."""
    methods = list(results[task][name])
    rows = {
        f"{picture['name']}, {picture['width']}x{picture['height']}{' gray' if picture['channels'] == 1 else ''}": [
            score_cell(picture[task][name][method]) for method in methods
        ]
        for picture in results["pictures"]
    }
    words = {"denoise": "denoising", "upscale": "enlarging"}[task]
    return f"## Each picture, {words} {name}\n\n" + markdown_table(methods, rows)


def _crops(crops: Mapping[str, str]) -> list[str]:
    """Before and after."""
    title = "## Crops at 400 %, the most textured window of each picture ([crops.html](crops.html))"
    texts = [f"### {name}\n\n![crops of {name}]({file})" for name, file in crops.items()]
    return [title, *texts] if crops else []
