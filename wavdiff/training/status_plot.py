"""The curves of `wavdiff train --status`."""

from __future__ import annotations

from pathlib import Path

from wavdiff.system.errors import WavdiffError
from wavdiff.training.status import RunStatus


def status_plot(status: RunStatus, path: Path) -> bool:
    """Draw loss, held-out loss and gradient norm by scale over the steps; whether there was anything to draw.

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
    for name in status.scales:
        for axis, what in ((axes[0], "loss"), (axes[3], "gradient_norm")):
            rows = [(record["step"], record[what][name]) for record in steps if name in record[what]]
            if rows:
                axis.plot(*zip(*rows, strict=True), label=name, linewidth=1)
        rows = []
        for record in held:
            losses = record["heldout"]["loss"].get(name, {})
            if losses:
                rows.append((record["step"], sum(losses.values()) / len(losses)))
        if rows:
            axes[1].plot(*zip(*rows, strict=True), marker=".", label=name)
    for sigma in (held[-1]["heldout"]["psnr"].get("0") or held[-1]["heldout"]["psnr"]["low"]) if held else ():
        rows = []
        for record in held:
            finest = record["heldout"]["psnr"].get("0") or record["heldout"]["psnr"]["low"]
            rows.append((record["step"], finest[sigma][1]))
        axes[2].plot(*zip(*rows, strict=True), marker=".", label=f"{sigma}/255")
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
