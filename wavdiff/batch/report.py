"""What a user sees while many pictures are restored: bars on a terminal, plain lines elsewhere, all of it on stderr.

Standard output carries the paths of results and nothing else, so that it can be piped.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from wavdiff.system.messages import one_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID
from collections.abc import Callable

from wavdiff.system.processes import Processes

SECONDS_BETWEEN_LINES = 30.0


class BatchReport:
    """Says how far a batch is; made by `batch_report`.

    Args:
        count: results that will be computed.
        console: on stderr.
        progress: the bars, shown on a terminal only.
    """

    def __init__(self, count: int, console: Console, progress: Progress) -> None:
        self.count = count
        self.finished = 0
        self._console = console
        self._progress = progress
        self._files: TaskID | None = progress.add_task("files", total=count) if count > 1 else None
        self._tiles: TaskID | None = None
        self._name = ""
        self._started = self._said = time.monotonic()

    def say(self, text: str) -> None:
        """One line on stderr, above the bars."""
        self._console.print(one_line(text), markup=False, highlight=False, soft_wrap=True, emoji=False)

    def problem(self, name: str, reason: str) -> None:
        """Why a file was not restored."""
        self.say(f"wavdiff: {name}: {reason}")

    def note(self, name: str, text: str) -> None:
        """What was found out about a file; which one is said where there are several."""
        self.say(f"{name}: {text}" if self.count > 1 else text)

    def begin(self, name: str) -> None:
        """A result is begun."""
        self._name, self._started = name, time.monotonic()
        self._said = self._started

    def tiles(self, done: int, total: int) -> None:
        """How many tiles of the present result are finished."""
        if self._tiles is None:
            self._tiles = self._progress.add_task("tiles", total=total)
        self._progress.update(self._tiles, completed=done, total=total)
        now = time.monotonic()
        if not self._console.is_terminal and done < total and now - self._said >= SECONDS_BETWEEN_LINES:
            self._said = now
            self.say(f"{self._name}: {done} of {total} tiles")

    def end(self) -> None:
        """The present result is finished, or given up."""
        self.finished += 1
        if self._tiles is not None:
            self._progress.remove_task(self._tiles)
            self._tiles = None
        if self._files is not None:
            self._progress.update(self._files, completed=self.finished)

    def written(self, paths: Iterable[Path]) -> None:
        """Results: their paths on stdout and, without a terminal, a line on stderr."""
        for path in paths:
            write_path(path)
        if self.count > 1 and not self._console.is_terminal:
            elapsed_seconds = time.monotonic() - self._started
            self.say(f"{self.finished}/{self.count} {self._name} ({elapsed_seconds:.1f} s)")


def write_path(path: Path) -> None:
    """A path on stdout, whatever bytes its name has."""
    try:
        print(path, flush=True)
    except UnicodeEncodeError:
        sys.stdout.buffer.write(f"{path}\n".encode(errors="surrogateescape"))
        sys.stdout.flush()


@contextmanager
def batch_report(count: int, *, lines_only: bool = False) -> Iterator[BatchReport]:
    """Bars over files and tiles while the block runs.

    Args:
        count: results that will be computed.
        lines_only: plain lines on a terminal as well, where bars of several processes would overwrite each other.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True, force_terminal=False if lines_only else None)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(
        *columns,
        console=console,
        disable=not console.is_terminal,
        transient=True,
        # Paths must reach stdout itself, unless that is the same terminal, where they would break the bars.
        redirect_stdout=sys.stdout.isatty() and not lines_only,
    ) as progress:
        yield BatchReport(count, console, progress)


SECONDS_BETWEEN_LINES = 30.0


@contextmanager
def sampling_progress(total: int, processes: Processes) -> Iterator[Callable[[int], None]]:
    """Show progress while the block runs.

    Several processes would overwrite each other's bars: then there are lines, which say of which process, and one more
    at the end of each.

    Args:
        total: images that this process will draw.
        processes: this one among the others.

    Yields:
        To be called with the number of images that were finished since the last call.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    several = processes.count > 1
    console = Console(stderr=True, force_terminal=False if several else None)
    name = f"{processes.name}: " if several else ""
    started = said = time.monotonic()
    done = 0

    def speed() -> str:
        return f"{done / max(time.monotonic() - started, 1e-9):.3g} images/s"

    columns = (TextColumn("images"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}"))
    with Progress(
        *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal, transient=True
    ) as bars:
        task = bars.add_task("images", total=total, speed="")

        def advance(count: int) -> None:
            nonlocal done, said
            done += count
            bars.update(task, completed=done, speed=speed())
            if not console.is_terminal and done < total and time.monotonic() - said >= SECONDS_BETWEEN_LINES:
                said = time.monotonic()
                console.print(f"{name}{done} of {total} images, {speed()}", highlight=False, soft_wrap=True)

        yield advance
    if several:
        console.print(f"{name}{done} images drawn, {speed()}", highlight=False, soft_wrap=True)
