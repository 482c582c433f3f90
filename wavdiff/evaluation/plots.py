"""Plots of the tables; what knows how to reach matplotlib."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from wavdiff.evaluation.scores import Rows
from wavdiff.evaluation.tables import above, methods_of
from wavdiff.system.colours import OKABE_ITO
from wavdiff.system.errors import WavdiffError


def pyplot() -> Any:
    """matplotlib's pyplot, drawing to files only.

    Raises:
        WavdiffError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise WavdiffError('plots need matplotlib: pip install "wavdiff[evaluation]"') from error
    matplotlib.use("Agg")
    from matplotlib import pyplot as plots

    return plots


LABEL_GAP = 0.055
"""Of an axis' height, between two names beside their lines."""


def png(figure: Any, dots_per_inch: int) -> bytes:
    """A figure as a PNG file; it is closed."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dots_per_inch)
    pyplot().close(figure)
    return file.getvalue()


def plot_denoising(rows: Rows, single: Sequence[Rows] = ()) -> bytes:
    """The PSNR of every method above BM3D's (without it, the noisy picture's) by noise level, averages as lines; PNG.

    The tables in `single`, each of one picture, are faint points.
    """
    reference = "BM3D" if all("BM3D" in row for row in rows.values()) else "noisy"
    figure, axes = pyplot().subplots(figsize=(6, 4), layout="constrained")
    levels = {key: float(key.split("/")[0]) for key in rows}
    places = list(levels.values())
    axes.axhline(0, color="black", linewidth=0.8)
    gains, singles = above(rows, reference), [above(table, reference) for table in single]
    ends = {reference if reference == "BM3D" else "noisy": (0.0, "black")}
    for name, colour in zip(methods_of(gains), itertools.cycle(OKABE_ITO)):
        heights = [row[name]["psnr"] for row in gains.values()]
        axes.plot(places, heights, marker="o", color=colour)
        _scatter(axes, name, levels, singles, alpha=0.3, color=colour)
        ends[name] = heights[-1], colour
    axes.set_xscale("log")
    axes.set_xticks(places, [f"{level:g}" for level in places])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    _name_lines(axes, ends)
    words = {"BM3D": "BM3D", "noisy": "the noisy image"}[reference]
    return _finished(figure, axes, "noise level (of 255)", f"PSNR above {words} (dB)")


def plot_enlarging(rows: Rows, single: Sequence[Rows] = ()) -> bytes:
    """The PSNR of every method above bicubic's, by factor, averages as bars and `single` pictures as points; PNG."""
    figure, axes = pyplot().subplots(figsize=(6, 4), layout="constrained")
    gains, singles = above(rows, "bicubic"), [above(table, "bicubic") for table in single]
    names = methods_of(gains)
    width = 0.8 / max(len(names), 1)
    for index, (name, colour) in enumerate(zip(names, itertools.cycle(OKABE_ITO))):
        places = {key: k + (index - (len(names) - 1) / 2) * width for k, key in enumerate(rows) if name in gains[key]}
        axes.bar(
            list(places.values()), [gains[key][name]["psnr"] for key in places], 0.9 * width, label=name, color=colour
        )
        _scatter(axes, name, places, singles, color="black", alpha=0.4)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(range(len(rows)), list(rows))
    axes.grid(alpha=0.3, axis="y")
    axes.legend()
    return _finished(figure, axes, "enlarged from block means", "PSNR above bicubic (dB)")


def _name_lines(axes: Any, ends: Mapping[str, tuple[float, str]]) -> None:
    """Names at the right ends of lines, moved apart where they would lie on each other."""
    low, high = axes.get_ylim()
    gap, place = LABEL_GAP * (high - low), float("-inf")
    for name, (height, colour) in sorted(ends.items(), key=lambda item: item[1][0]):
        place = max(height, place + gap)
        axes.annotate(
            name.rpartition("/")[2],
            (1.0, place),
            xycoords=("axes fraction", "data"),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            annotation_clip=False,
        )


def _scatter(axes: Any, name: str, places: Mapping[str, float], tables: Sequence[Rows], **style: Any) -> None:
    """The method's PSNR in every table, at the place of its noise level or factor."""
    points = [
        (place, table[key][name]["psnr"])
        for table in tables
        for key, place in places.items()
        if name in table.get(key, {})
    ]
    if points:
        axes.scatter(*zip(*points, strict=True), s=9, **style)


def _finished(figure: Any, axes: Any, across: str, up: str) -> bytes:
    axes.set(xlabel=across, ylabel=up)
    return png(figure, 120)
