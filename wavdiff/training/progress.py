"""The progress of a training: step, time left, losses, images per second; a line that fits, or lines in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from wavdiff.models.heldout_names import headline
from wavdiff.training.status import duration

LEAST_BAR, LONGEST_BAR = 6, 24
"""Characters."""
SECONDS_BETWEEN_LINES = 60
"""Of a log."""


def _parts(record: dict[str, Any], steps: int, elapsed: float) -> list[str]:
    """What is said of a record, the most important first."""
    images = record["images"] / record["step"] * (steps - record["step"])
    parts = [f"{record['step']}/{steps}", f"{duration(images / max(record['images_per_second'], 1e-9))} left"]
    parts += [f"{name} {value:.4f}" for name, value in record["loss"].items()]
    parts.append(f"{record['images_per_second']:.1f} images/s")
    if record.get("skipped"):
        parts.append("skipped " + " ".join(f"{name}: {count}" for name, count in record["skipped"].items()))
    gradients = " ".join(f"{value:.2f}" for value in record["gradient_norm"].values())
    return [*parts, f"{duration(elapsed)} gone", f"gradient {gradients}"]


def progress_line(record: dict[str, Any], steps: int, width: int, elapsed: float) -> str:
    """A record in one line of at most `width` characters: as many of its parts as fit, behind a bar in what is left."""
    parts = _parts(record, steps, elapsed)
    while len(parts) > 1 and len(" | ".join(parts)) > width:
        parts.pop()
    text = " | ".join(parts)[:width]
    length = min(width - len(text) - 1, LONGEST_BAR)
    if length < LEAST_BAR:
        return text
    done = round(length * record["step"] / steps)
    return f"{'━' * done}{'╌' * (length - done)} {text}"


@contextmanager
def training_progress(steps: int, enabled: bool = True) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A line on stderr that is kept up to date, or without a terminal the first and the last and one every minute.

    Args:
        steps: of the whole training.
        enabled: whether anything is said.

    Yields:
        A function that takes the records of a `Trainer`.
    """
    if not enabled:
        yield lambda record: None
        return
    console = Console(stderr=True)
    start, said = time.monotonic(), float("-inf")
    with Live(console=console, auto_refresh=False) if console.is_terminal else nullcontext() as live:

        def report(record: dict[str, Any]) -> None:
            nonlocal said
            now = time.monotonic()
            if "heldout" in record:
                what, numbers = headline(record["heldout"], "→")
                console.print(f"step {record['step']}: {what}: {numbers}", highlight=False, soft_wrap=True)
            elif live is not None:
                line = progress_line(record, steps, console.width, now - start)
                live.update(Text(line, no_wrap=True, overflow="crop"), refresh=True)
            elif now - said >= SECONDS_BETWEEN_LINES or record["step"] >= steps:
                said = now
                text = " | ".join(_parts(record, steps, now - start))
                console.print(f"step {text}", highlight=False, soft_wrap=True)

        yield report
