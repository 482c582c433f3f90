"""The progress bar of a training: loss by part, images per second, time left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from wavdiff.models.heldout_names import headline
from wavdiff.training.status import duration


def _loss_text(record: dict[str, Any]) -> str:
    losses = " ".join(f"{name} {value:.4f}" for name, value in record["loss"].items())
    norms = " ".join(f"{value:.2f}" for value in record["gradient_norm"].values())
    text = f"{losses} | gradient {norms} | {record['images_per_second']:.1f} images/s"
    if record.get("skipped"):
        text += " | skipped " + " ".join(f"{name}: {count}" for name, count in record["skipped"].items())
    return text


def _time_left(record: dict[str, Any], steps: int) -> str:
    """What is left at the speed of this record."""
    images = record["images"] / record["step"] * (steps - record["step"])
    return duration(images / max(record["images_per_second"], 1e-9))


@contextmanager
def training_progress(steps: int, enabled: bool = True) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A bar on stderr; the function it gives takes the records of a `Trainer`. Plain lines without a terminal."""
    if not enabled:
        yield lambda record: None
        return
    console = Console(stderr=True)
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
        TextColumn("{task.fields[loss]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("training", total=steps, loss="")

        def report(record: dict[str, Any]) -> None:
            if "heldout" in record:
                what, numbers = headline(record["heldout"], "→")
                console.print(f"step {record['step']}: {what}: {numbers}", highlight=False, soft_wrap=True)
                return
            progress.update(task, completed=record["step"], loss=_loss_text(record))
            if not console.is_terminal:
                console.print(
                    f"step {record['step']}/{steps}: {_loss_text(record)} | {_time_left(record, steps)} left",
                    highlight=False,
                    soft_wrap=True,
                )

        yield report
