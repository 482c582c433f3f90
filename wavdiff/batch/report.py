"""What a user sees while pictures are restored or drawn: bars on a terminal, lines elsewhere, all of it on stderr.

Standard output carries the paths of results and nothing else, so that it can be piped.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from wavdiff.system.messages import one_line
from wavdiff.system.processes import Processes

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

SECONDS_BETWEEN_LINES = 30.0


class BatchReport:
    """Says how far a command with `count` results is; made by `batch_report`."""

    def __init__(self, count: int, console: Console, progress: Progress) -> None:
        self.count, self.finished = count, 0
        self._console, self._progress = console, progress
        self._bars: dict[str, TaskID] = {}
        self._name = ""
        self._started = self._said = time.monotonic()
        if count > 1:
            self.advance("files", 0, count)

    def say(self, text: str) -> None:
        """One line on stderr, above the bars."""
        self._console.print(one_line(text), markup=False, highlight=False, soft_wrap=True, emoji=False)

    def problem(self, name: str, reason: str) -> None:
        """Why a file was not restored."""
        self.say(f"wavdiff: {name}: {reason}")

    def note(self, name: str, text: str) -> None:
        """What was found out about a file; which one is said where there are several."""
        self.say(f"{name}: {text}" if self.count > 1 else text)

    def advance(self, unit: str, done: int, total: int, line: str = "", speed: str = "") -> None:
        """Move the bar of `unit`; without a terminal `line` is said instead, but not often."""
        if unit not in self._bars:
            self._bars[unit] = self._progress.add_task(unit, speed="")
        self._progress.update(self._bars[unit], completed=done, total=total, speed=speed)
        now = time.monotonic()
        if line and not self._console.is_terminal and done < total and now - self._said >= SECONDS_BETWEEN_LINES:
            self._said = now
            self.say(line)

    def begin(self, name: str) -> None:
        """A result is begun."""
        self._name, self._started = name, time.monotonic()
        self._said = self._started

    def tiles(self, done: int, total: int) -> None:
        """How many tiles of the present result are finished."""
        self.advance("tiles", done, total, f"{self._name}: {done} of {total} tiles")

    def end(self) -> None:
        """The present result is finished, or given up."""
        self.finished += 1
        if "tiles" in self._bars:
            self._progress.remove_task(self._bars.pop("tiles"))
        if self.count > 1:
            self.advance("files", self.finished, self.count)

    def written(self, paths: Iterable[Path]) -> None:
        """Results: their paths on stdout and, without a terminal, a line on stderr."""
        for path in paths:
            write_line(str(path))
        if self.count > 1 and not self._console.is_terminal:
            elapsed_seconds = time.monotonic() - self._started
            self.say(f"{self.finished}/{self.count} {self._name} ({elapsed_seconds:.1f} s)")


def write_line(text: str) -> None:
    """A line on stdout, whatever bytes the names in it have."""
    try:
        print(text, flush=True)
    except UnicodeEncodeError:
        sys.stdout.buffer.write(f"{text}\n".encode(errors="surrogateescape"))
        sys.stdout.flush()


@contextmanager
def batch_report(count: int, *, lines_only: bool = False, remaining: bool = False) -> Iterator[BatchReport]:
    """Bars while the block runs.

    Args:
        count: results that will be computed.
        lines_only: plain lines on a terminal as well, where bars of several processes would overwrite each other.
        remaining: show the time that is left, not the time that has passed.
    """
    from rich import progress as rich_progress
    from rich.console import Console

    console = Console(stderr=True, force_terminal=False if lines_only else None)
    with rich_progress.Progress(
        "{task.description}",
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        "{task.fields[speed]}",
        rich_progress.TimeRemainingColumn() if remaining else rich_progress.TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
        # Paths must reach stdout itself, unless that is the same terminal, where they would break the bars.
        redirect_stdout=sys.stdout.isatty() and not lines_only,
    ) as progress:
        yield BatchReport(count, console, progress)


@contextmanager
def sampling_progress(total: int, processes: Processes) -> Iterator[Callable[[int], None]]:
    """Show how many of `total` images are drawn; several processes say in lines which of them they are.

    Yields:
        To be called with the number of images that were finished since the last call.
    """
    several = processes.count > 1
    name = f"{processes.name}: " if several else ""
    started, done = time.monotonic(), 0

    def speed() -> str:
        return f"{done / max(time.monotonic() - started, 1e-9):.3g} images/s"

    with batch_report(1, lines_only=several, remaining=True) as report:
        report.advance("images", 0, total)

        def advance(count: int) -> None:
            nonlocal done
            done += count
            report.advance("images", done, total, f"{name}{done} of {total} images, {speed()}", speed())

        yield advance
    if several:
        report.say(f"{name}{done} images drawn, {speed()}")
