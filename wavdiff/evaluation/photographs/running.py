"""Clean photographs at their own sizes: the folder, the measurements one by one, and the report."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from wavdiff import __version__, api
from wavdiff.evaluation.photographs.calibration import expected_gaps
from wavdiff.evaluation.photographs.crops import crops_page, save_strips
from wavdiff.evaluation.photographs.measuring import Measured, measure_photograph, warm_up
from wavdiff.evaluation.photographs.photograph_report import photograph_report
from wavdiff.evaluation.photographs.reading import Photograph, central, find_photographs, read_photographs
from wavdiff.evaluation.plots import plot_denoising, plot_enlarging, pyplot
from wavdiff.evaluation.request import LEAST_SIDE, PhotographRequest
from wavdiff.evaluation.scores import average
from wavdiff.evaluation.tables import update_card
from wavdiff.models.folders import find_model
from wavdiff.system.errors import WavdiffError

Say = Callable[[str], None]


def run_photographs(place: Path, request: PhotographRequest, out: Path, say: Say = lambda text: None) -> str:
    """Measure the photographs of a folder and write the report.

    Args:
        place: the folder, or one picture.
        request: what to measure.
        out: folder of the report: `evaluation.json`, `evaluation.md`, plots, `crops.html` and `crops/`.
        say: is told of each picture.

    Returns:
        The report in Markdown.

    Raises:
        WavdiffError: no pictures, an unknown model, or a package of the extra `evaluation` is missing.
    """
    skipped: list[str] = []
    photographs = read_photographs(find_photographs(place), skipped)
    return evaluate_photographs(photographs, place.resolve().name, request, out, say, skipped)[0]


def evaluate_photographs(
    photographs: Iterable[Photograph],
    title: str,
    request: PhotographRequest,
    out: Path,
    say: Say = lambda text: None,
    skipped: list[str] | None = None,
) -> tuple[str, dict[str, Any]]:
    """Measure photographs from anywhere and write the report.

    Args:
        photographs: asked for one by one, until enough are measured.
        title: where they are from.
        request: what to measure.
        out: folder of the report; see `run_photographs`.
        say: is told of each picture.
        skipped: pictures left out, and why; grows while `photographs` are read.

    Returns:
        The report in Markdown, and what `evaluation.json` holds.

    Raises:
        WavdiffError: as `run_photographs`.
    """
    skipped = [] if skipped is None else skipped
    pyplot()  # before hours of measuring, not after
    cascades = {name: api.load(name) for name in request.models}
    found: list[Measured] = []
    pictures: list[dict[str, Any]] = []
    crops: dict[str, str] = {}
    sizes: set[tuple[int, int, int]] = set()
    least = max((LEAST_SIDE, *request.factors))
    for photograph in photographs:
        if len(found) == request.limit:
            break
        photograph = Photograph(photograph.name, central(photograph.pixels, request.crop))
        channels, height, width = photograph.pixels.shape
        if min(height, width) < least:
            skipped.append(f"{photograph.name}: has {height}x{width} pixels; {least} a side are needed")
            continue
        if (channels, height, width) not in sizes:
            warm_up(cascades, request, (channels, height, width))
            sizes.add((channels, height, width))
        measured = measure_photograph(photograph, cascades, request)
        if len(crops) < request.shown and measured.strips:
            stem = re.sub(r"[^\w.-]+", "_", Path(photograph.name).stem)[:40]  # a name for links
            crops[photograph.name] = f"crops/{len(found):03d}-{stem}.png"
            (out / "crops").mkdir(parents=True, exist_ok=True)
            save_strips(measured.strips, out / crops[photograph.name])
        measured.strips.clear()
        found.append(measured)
        size = {"height": height, "width": width, "channels": channels}
        tables = {"denoise": measured.denoise, "upscale": measured.upscale, "samples": measured.samples}
        pictures.append({"name": photograph.name, **size, **tables})
        say(_progress(photograph, measured))
    for line in skipped:
        say(f"skipped: {line}")
    if not found:
        raise WavdiffError(f"{title}: holds no picture that can be measured")
    draws = request.draws
    pixels = sum(picture["height"] * picture["width"] for picture in pictures)
    results: dict[str, Any] = {
        "request": asdict(request),
        "images": {"source": title, "count": len(found), "megapixels": round(pixels / 1e6, 6)},
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "versions": {"wavdiff": __version__, "torch": torch.__version__},
        "multiply_adds_per_pixel": {name: round(c.multiply_adds_per_pixel()) for name, c in cascades.items()},
        "denoise": average([one.denoise for one in found]),
        "upscale": average([one.upscale for one in found]),
        "samples": {
            "draws": draws,
            "expected": expected_gaps(draws) if draws else None,
            "gaps": average([one.samples for one in found]),
        },
        "pictures": pictures,
        "skipped": skipped,
        "crops": crops,
    }
    return _write(results, found, request, out), results


def _write(results: dict[str, Any], found: list[Measured], request: PhotographRequest, out: Path) -> str:
    """Write all files of the report; returns the Markdown."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "evaluation.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    text = photograph_report(results)
    (out / "evaluation.md").write_text(text, encoding="utf-8")
    if request.sigmas:
        plot_denoising(results["denoise"], out / "denoising.png", [one.denoise for one in found])
    if request.factors:
        plot_enlarging(results["upscale"], out / "enlarging.png", [one.upscale for one in found])
    if results["crops"]:
        page = crops_page(f"Crops of {results['images']['source']}", results["crops"])
        (out / "crops.html").write_text(page, encoding="utf-8")
    if request.update_card:
        update_card(find_model(request.models[0]), photograph_report(results, pictures=False))
    return text


def _progress(photograph: Photograph, measured: Measured) -> str:
    tasks = {**measured.denoise, **measured.upscale}
    scores = (
        f"{task}: " + ", ".join(f"{name} {one['psnr']:.2f}" for name, one in row.items()) for task, row in tasks.items()
    )
    return "; ".join([photograph.name, *scores])
