"""How far a run of `wavdiff sample` is: a bar on a terminal, else a line now and then; on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from wavdiff.processes import Processes

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
