"""Clean photographs at their own sizes: the folder, the measurements one by one, and the report."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from wavdiff.evaluation.photographs.calibration import expected_gaps
from wavdiff.evaluation.photographs.crops import Sheet, crops_page, draw_strips, sheet_of
from wavdiff.evaluation.photographs.measuring import measure_photograph, warm_up
from wavdiff.evaluation.photographs.photograph_report import photograph_report
from wavdiff.evaluation.photographs.reading import Photograph, central, find_photographs, read_photographs
from wavdiff.evaluation.plots import plot_denoising, plot_enlarging, pyplot
from wavdiff.evaluation.report_files import (
    NUMBERS,
    REPORT,
    Advance,
    Say,
    as_json,
    heading,
    quiet,
    update_card,
    write_files,
)
from wavdiff.evaluation.request import LEAST_SIDE, PhotographRequest
from wavdiff.evaluation.scores import average, psnr_line
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.cascade.saved import load_cascade
from wavdiff.models.folders import find_model
from wavdiff.system.errors import WavdiffError


def run_photographs(
    place: Path, request: PhotographRequest, out: Path, say: Say = quiet, advance: Advance = quiet
) -> str:
    """Measure the photographs of a folder, or one picture; the report in Markdown; see `evaluate_photographs`.

    `advance` is told of every noise level and factor of a picture that is done.
    """
    skipped: list[str] = []
    files = find_photographs(place)
    total = min(len(files), request.limit) * (len(request.sigmas) + len(request.factors))
    counted = itertools.count(1)

    def done(name: str) -> None:
        number = next(counted)
        advance("trials", number, total, f"{number} of {total} trials, {name}")

    advance("trials", 0, total, "")
    photographs = read_photographs(files, skipped)
    return evaluate_photographs(photographs, place.resolve().name, request, out, say, skipped, done)[0]


def evaluate_photographs(
    photographs: Iterable[Photograph],
    title: str,
    request: PhotographRequest,
    out: Path,
    say: Say = quiet,
    skipped: list[str] | None = None,
    done: Say = quiet,
) -> tuple[str, dict[str, Any]]:
    """Measure photographs from anywhere and write the report.

    Args:
        photographs: asked for one by one, until enough are measured.
        title: where they are from.
        request: what to measure.
        out: folder of the report: `evaluation.json`, `evaluation.md`, plots, `crops.html` and `crops/`.
        say: is told of each picture.
        skipped: pictures left out, and why; grows while `photographs` are read.
        done: is told the name of a picture after every noise level and factor.

    Returns:
        The report in Markdown, and what `evaluation.json` holds.

    Raises:
        WavdiffError: no pictures, an unknown model, or a package of the extra `evaluation` is missing.
    """
    skipped = [] if skipped is None else skipped
    pyplot()  # before hours of measuring, not after
    cascades = {name: load_cascade(name) for name in request.models}
    chosen = itertools.islice(_measurable(photographs, request, skipped), request.limit)
    pictures, crops = _measure_each(chosen, cascades, request, out, say, done)
    for line in skipped:
        say(f"skipped: {line}")
    if not pictures:
        raise WavdiffError(f"{title}: holds no picture that can be measured")
    pixels = sum(picture["height"] * picture["width"] for picture in pictures)
    images = {"source": title, "count": len(pictures), "megapixels": round(pixels / 1e6, 6)}
    averages = {task: average([picture[task] for picture in pictures]) for task in ("denoise", "upscale", "samples")}
    expected = expected_gaps(request.draws) if request.draws else None
    results: dict[str, Any] = {
        **heading(request, images, cascades),
        **averages,
        "samples": {"draws": request.draws, "expected": expected, "gaps": averages["samples"]},
        "pictures": pictures,
        "skipped": skipped,
        "crops": {name: sheet.file for name, sheet in crops.items()},
    }
    if crops:
        write_files(out, {"crops.html": crops_page(f"Crops of {title}", crops)})
    return _write(results, request, out), results


def _measure_each(
    photographs: Iterable[Photograph],
    cascades: Mapping[str, WaveletCascade],
    request: PhotographRequest,
    out: Path,
    say: Say,
    done: Say,
) -> tuple[list[dict[str, Any]], dict[str, Sheet]]:
    """What `evaluation.json` says of each picture, and {name: its crops}, which are written."""
    pictures: list[dict[str, Any]] = []
    crops: dict[str, Sheet] = {}
    sizes = set()
    for photograph in photographs:
        size = tuple(photograph.pixels.shape)
        if size not in sizes:
            warm_up(cascades, request, size)
            sizes.add(size)
        tables, strips = measure_photograph(photograph, cascades, request, done)
        if len(crops) < request.shown and strips:
            stem = re.sub(r"[^\w.-]+", "_", Path(photograph.name).stem)[:40]  # a name for links
            sheet = crops[photograph.name] = sheet_of(f"crops/{len(pictures):03d}-{stem}.png", strips)
            write_files(out, {sheet.file: draw_strips(strips)})
        channels, height, width = size
        pictures.append({"name": photograph.name, "height": height, "width": width, "channels": channels, **tables})
        lines = [psnr_line(name, row) for name, row in {**tables["denoise"], **tables["upscale"]}.items()]
        say("; ".join([photograph.name, *lines]))
    return pictures, crops


def _measurable(
    photographs: Iterable[Photograph], request: PhotographRequest, skipped: list[str]
) -> Iterator[Photograph]:
    """What is measured of each picture; those that are too small go to `skipped`."""
    least = max((LEAST_SIDE, *request.factors))
    for photograph in photographs:
        pixels = central(photograph.pixels, request.crop)
        height, width = pixels.shape[-2:]
        if min(height, width) < least:
            skipped.append(f"{photograph.name}: has {height}x{width} pixels; {least} a side are needed")
        else:
            yield Photograph(photograph.name, pixels)


def _write(results: dict[str, Any], request: PhotographRequest, out: Path) -> str:
    """Write all files of the report; returns the Markdown."""
    text = photograph_report(results)
    write_files(out, {NUMBERS: as_json(results), REPORT: text})
    plots = {"denoise": ("denoising.png", plot_denoising), "upscale": ("enlarging.png", plot_enlarging)}
    for task, (name, plot) in plots.items():
        if results[task]:
            write_files(out, {name: plot(results[task], [picture[task] for picture in results["pictures"]])})
    if request.update_card:
        update_card(find_model(request.models[0]), photograph_report(results, pictures=False))
    return text
