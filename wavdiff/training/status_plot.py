"""The curves of `wavdiff train --status`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wavdiff.models.heldout_names import mean_losses, table_of
from wavdiff.system.colours import OKABE_ITO
from wavdiff.system.errors import WavdiffError
from wavdiff.training.status import RunStatus

FAINT = "#B8CFE0"


def status_plot(status: RunStatus, path: Path) -> bool:
    """Draw the losses of every part, held-out PSNR and gradient norms over the steps; whether there was anything.

    Raises:
        WavdiffError: matplotlib is missing.
    """
    steps = [record for record in status.records if record.get("loss")]
    held = [record for record in status.records if "heldout" in record]
    if not steps:
        return False
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError as error:
        raise WavdiffError("the plot of --status needs matplotlib: pip install 'wavdiff[evaluation]'") from error
    parts = status.config.parts
    figure, axes = pyplot.subplots(1, len(parts) + 2, figsize=(4.2 * (len(parts) + 2), 3.8))
    losses = [(record["step"], mean_losses(record["heldout"])) for record in held]
    for name, axis in zip(parts, axes, strict=False):
        rows = [(record["step"], record["loss"][name]) for record in steps if name in record["loss"]]
        if rows:
            places, values = zip(*rows, strict=True)
            axis.plot(places, values, color=FAINT, linewidth=0.8, label="training")
            axis.plot(places, smoothed(values), color=OKABE_ITO[0], label="training, smoothed")
        _curve(axis, [(step, row[name]) for step, row in losses if name in row], OKABE_ITO[1], "held out")
        axis.set_title(f"loss of {name}")
    gains, gradient = axes[-2], axes[-1]
    tables = [(record["step"], *(_finest(record["heldout"], what) for what in ("psnr", "psnr_in"))) for record in held]
    for sigma, colour in zip(tables[-1][1] if tables else (), itertools.cycle(OKABE_ITO)):
        rows = [
            (step, after[sigma] - before[sigma]) for step, after, before in tables if sigma in after and sigma in before
        ]
        _curve(gains, rows, colour, f"{sigma}/255")
    gains.axhline(0, color="black", linewidth=0.8)
    gains.set(title="held-out PSNR above the noisy image", ylabel="dB")
    for name, colour in zip(parts, itertools.cycle(OKABE_ITO)):
        rows = [(record["step"], record["gradient_norm"][name]) for record in steps if name in record["gradient_norm"]]
        _curve(
            gradient,
            [(step, value) for (step, _), value in zip(rows, smoothed([y for _, y in rows]), strict=True)],
            colour,
            name,
        )
    gradient.set_title("gradient norm, smoothed")
    for axis in axes:
        axis.set_xlabel("step")
        axis.set_xlim(left=0)
        axis.grid(alpha=0.3)
        if axis is not gains:
            axis.set_ylim(bottom=0)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
    return True


def smoothed(values: Sequence[float]) -> list[float]:
    """Means over the last tenth of what there is, weighted by the distance back."""
    reach, found, mean, weight = max(1.0, len(values) / 20), list[float](), 0.0, 0.0
    for value in values:
        keep = 1 - 1 / reach
        mean, weight = keep * mean + value, keep * weight + 1
        found.append(mean / weight)
    return found


def _finest(numbers: dict[str, float], what: str) -> dict[str, float]:
    """PSNR by noise level at the finest scale; empty where a family has none."""
    return (list(table_of(numbers, what).values()) or [{}])[-1]


def _curve(axis: Any, rows: list[tuple[int, float]], colour: str, label: str) -> None:
    if rows:
        axis.plot(*zip(*rows, strict=True), marker="." if len(rows) < 50 else "", color=colour, label=label)
