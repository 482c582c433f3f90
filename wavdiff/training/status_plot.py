"""The curves of `wavdiff train --status`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wavdiff.models.heldout_names import mean_losses, table_of
from wavdiff.system.errors import WavdiffError
from wavdiff.training.status import RunStatus


def status_plot(status: RunStatus, path: Path) -> bool:
    """Draw loss, held-out loss and gradient norm by part over the steps; whether there was anything to draw.

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
    figure, axes = pyplot.subplots(1, 4, figsize=(18, 4))

    def curve(axis: Any, rows: list[tuple[int, float]], **style: Any) -> None:
        if rows:
            axis.plot(*zip(*rows, strict=True), **style)

    losses = [(record["step"], mean_losses(record["heldout"])) for record in held]
    for name in status.config.parts:
        for axis, what in ((axes[0], "loss"), (axes[3], "gradient_norm")):
            rows = [(record["step"], record[what][name]) for record in steps if name in record[what]]
            curve(axis, rows, label=name, linewidth=1)
        curve(axes[1], [(step, row[name]) for step, row in losses if name in row], marker=".", label=name)
    finest = [(record["step"], list(table_of(record["heldout"], "psnr").values())[-1:]) for record in held]
    for sigma in finest[-1][1][0] if finest and finest[-1][1] else ():
        rows = [(step, row[sigma]) for step, tables in finest for row in tables if sigma in row]
        curve(axes[2], rows, marker=".", label=f"{sigma}/255")
    titles = ("training loss", "held-out loss, exact coarse image", "held-out PSNR / dB", "gradient norm")
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title)
        axis.set_xlabel("step")
        if axis.lines:
            axis.legend(fontsize=8)
    axes[0].set_yscale("log")
    axes[3].set_yscale("log")
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
    return True
