"""`wavdiff train --status RUN`: where a run stands, finished or not, as a table and a plot."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wavdiff.models.heldout_names import headline, mean_losses
from wavdiff.models.run_config import RunConfig
from wavdiff.system.errors import WavdiffError
from wavdiff.system.lock import is_locked
from wavdiff.training.checkpoints import list_checkpoints, load_checkpoint
from wavdiff.training.config import from_mapping, read_mapping
from wavdiff.training.records import read_stats


@dataclass
class RunStatus:
    """What the files of a run say.

    Attributes:
        folder: of the run.
        config: its configuration.
        records: of stats.jsonl.
        trained: steps by part at the newest whole checkpoint.
        step: of that checkpoint.
        skipped: steps by part from which nothing was learned.
        best: step and mean held-out loss of the best one, or None.
        damaged: what is wrong with newer checkpoints.
        running: whether a process trains in the folder now.
        chosen: parts that the last call trained; empty where that is not recorded.
    """

    folder: Path
    config: RunConfig
    records: list[dict[str, Any]]
    trained: dict[str, int] = field(default_factory=dict)
    step: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    best: dict[str, Any] | None = None
    damaged: list[str] = field(default_factory=list)
    running: bool = False
    chosen: list[str] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        """Whether every part has been trained for its number of steps."""
        chosen = self.chosen or self.config.parts
        return all(self.trained.get(name, 0) >= self.config.training.steps_of(name) for name in chosen)


def read_status(folder: Path) -> RunStatus:
    """Read the files of a run; nothing is changed.

    Raises:
        WavdiffError: the folder holds no run.
    """
    path = folder / "config.yaml"
    if not path.is_file():
        raise WavdiffError(f"--status {folder}: holds no run (config.yaml is missing)")
    status = RunStatus(folder, from_mapping(read_mapping(path)), read_stats(folder / "stats.jsonl"))
    status.running = is_locked(folder)
    for checkpoint in reversed(list_checkpoints(folder / "checkpoints")):
        try:
            state = load_checkpoint(checkpoint).state
        except WavdiffError as error:
            status.damaged.append(str(error))
            continue
        status.trained, status.step = state["trained"], state["step"]
        status.chosen = state.get("scales", [])
        status.skipped, status.best = state.get("skipped", {}), state.get("best")
        break
    return status


def status_table(status: RunStatus) -> str:
    """The run as text for a terminal."""
    steps = [record for record in status.records if "loss" in record]
    held = [record for record in status.records if "heldout" in record]
    newest: dict[str, Any] = steps[-1] if steps else {}
    state = "training now" if status.running else ("finished" if status.finished else "stopped; rerun to continue")
    lines = [f"{status.folder}: {state}, checkpoint of step {status.step:,}"]
    if newest:
        since = time.time() - (status.folder / "stats.jsonl").stat().st_mtime
        rate = newest["images_per_second"]
        left = max(newest.get("total", status.step) - newest["step"], 0) * status.config.training.batch_size
        lines.append(
            f"{rate:.1f} images/s, {100 * newest.get('waiting_for_data', 0):.1f} % of the time waiting for data; "
            f"{duration(newest['elapsed_seconds'])} of training"
            + (f", about {duration(left / max(rate, 1e-9))} left" if left else "")
            + f"; last record {duration(since)} ago"
        )
    lines.append(
        f"{'scale':>6} {'steps':>17} {'loss':>8} {'gradient':>9} {'rate':>9} {'skipped':>8} {'held-out loss':>14}"
    )
    heldout = mean_losses(held[-1]["heldout"]) if held else {}
    for name in status.config.parts:
        mean = f"{heldout[name]:.4f}" if name in heldout else "-"
        done = f"{status.trained.get(name, 0):,} / {status.config.training.steps_of(name):,}"
        lines.append(
            f"{name:>6} {done:>17} {_number(newest, 'loss', name, '.4f'):>8} "
            f"{_number(newest, 'gradient_norm', name, '.3f'):>9} {_number(newest, 'learning_rate', name, '.1e'):>9} "
            f"{status.skipped.get(name, 0):>8} {mean:>14}"
        )
    if newest.get("loss_by_level"):
        levels = list(dict.fromkeys(level for row in newest["loss_by_level"].values() for level in row))
        lines += ["loss by standardised noise level:", f"{'scale':>6} " + " ".join(f"{level:>8}" for level in levels)]
        for name, row in newest["loss_by_level"].items():
            cells = (f"{row[level]:8.4f}" if level in row else f"{'-':>8}" for level in levels)
            lines.append(f"{name:>6} " + " ".join(cells))
    if held:
        what, numbers = headline(held[-1]["heldout"], "->")
        lines.append(f"{what}, step {held[-1]['step']:,}: {numbers}")
    if status.best:
        lines.append(
            f"best: step {status.best['step']:,}, mean held-out loss {status.best['heldout_loss']:.4f} "
            f"(checkpoints/step-{status.best['step']:08d})"
        )
    return "\n".join([*lines, *status.damaged])


def _number(record: dict[str, Any], what: str, name: str, form: str) -> str:
    value = record.get(what, {}).get(name)
    return "-" if value is None else format(value, form)


def duration(seconds: float) -> str:
    """Seconds as text: "81 days", "3 h 05 min", "12 min", "40 s"."""
    minutes = int(seconds // 60)
    if minutes >= 48 * 60:
        return f"{minutes / 1440:,.0f} days"
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min" if minutes else f"{int(seconds)} s"
