"""Plots of the tables; the only module that knows matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wavdiff.evaluation.scores import Rows
from wavdiff.evaluation.tables import methods_of
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


def plot_denoising(rows: Rows, path: Path, single: Sequence[Rows] = ()) -> None:
    """Draw the PSNR of every method above BM3D's (without it, above the noisy picture's) by noise level.

    Args:
        rows: averages, by noise level and method.
        path: the PNG.
        single: the same of single pictures, drawn as faint points.
    """
    reference = "BM3D" if all("BM3D" in row for row in rows.values()) else "noisy"
    plots = pyplot()
    figure, axes = plots.subplots(figsize=(6, 4), layout="constrained")
    levels = [float(key.split("/")[0]) for key in rows]
    for name in methods_of(rows):
        if name == "noisy":
            continue
        gains = [row[name]["psnr"] - row[reference]["psnr"] for row in rows.values()]
        (line,) = axes.plot(levels, gains, marker="o", label=name)
        if name != reference:
            points = [
                (level, table[key][name]["psnr"] - table[key][reference]["psnr"])
                for table in single
                for level, key in zip(levels, rows, strict=True)
            ]
            axes.scatter(*zip(*points, strict=True), s=9, alpha=0.3, color=line.get_color()) if points else None
    axes.set_xscale("log")
    axes.set_xticks(levels, [f"{level:g}" for level in levels])
    axes.minorticks_off()
    words = {"BM3D": "BM3D", "noisy": "the noisy image"}[reference]
    axes.set(xlabel="noise level (of 255)", ylabel=f"PSNR above {words} (dB)")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    plots.close(figure)


def plot_enlarging(rows: Rows, path: Path, single: Sequence[Rows] = ()) -> None:
    """Draw the PSNR of every method above bicubic's, by factor, as bars.

    Args:
        rows: averages, by factor and method.
        path: the PNG.
        single: the same of single pictures, drawn as points on the bars.
    """
    plots = pyplot()
    figure, axes = plots.subplots(figsize=(6, 4), layout="constrained")
    names = [name for name in methods_of(rows) if name != "bicubic"]
    width = 0.8 / max(len(names), 1)
    for index, name in enumerate(names):
        places = {key: k + (index - (len(names) - 1) / 2) * width for k, key in enumerate(rows) if name in rows[key]}
        gains = [rows[key][name]["psnr"] - rows[key]["bicubic"]["psnr"] for key in places]
        axes.bar(list(places.values()), gains, 0.9 * width, label=name, alpha=0.7)
        points = [
            (place, table[key][name]["psnr"] - table[key]["bicubic"]["psnr"])
            for table in single
            for key, place in places.items()
            if name in table.get(key, {})
        ]
        axes.scatter(*zip(*points, strict=True), s=9, color="black", alpha=0.4) if points else None
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(range(len(rows)), list(rows))
    axes.set(xlabel="enlarged from block means", ylabel="PSNR above bicubic (dB)")
    axes.grid(alpha=0.3, axis="y")
    axes.legend()
    figure.savefig(path, dpi=120)
    plots.close(figure)
