"""One job after the other: files or streams in, results out, trouble with one file kept to that file."""

from __future__ import annotations

import os
import shutil
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

from wavdiff.batch.jobs import Job
from wavdiff.batch.report import BatchReport
from wavdiff.system.errors import WavdiffError
from wavdiff.system.processes import termination_as_exit

if TYPE_CHECKING:
    from wavdiff.restoration import RestorationResult

TileProgress: TypeAlias = Callable[[int, int], None]
Restore: TypeAlias = "Callable[[Job, Path | BinaryIO, Path | BinaryIO, TileProgress], RestorationResult]"
"""What is done for one job: reads the source, writes the target and its side results."""
_BUG = "a bug in wavdiff, please report it"


def run_jobs(jobs: Sequence[Job], restore: Restore, report: BatchReport) -> set[str]:
    """Compute all results; what goes wrong with one file is reported and the others go on.

    A result for standard output is completed in a temporary file first: what fails leaves standard output empty.

    Returns:
        The names of files with a result that is missing.

    Raises:
        KeyboardInterrupt: as it came, after a line that says how far the batch got.
    """
    from wavdiff.images.disk_array import temporary_file  # not before it is needed: it imports torch

    failed: set[str] = set()
    bugs: set[str] = set()
    with termination_as_exit(), temporary_file() as stdin:
        if any(job.source is None for job in jobs):
            shutil.copyfileobj(sys.stdin.buffer, stdin)
        for job in jobs:
            report.begin(f"{job.name} -> {job.target_name}")
            stdin.seek(0)
            with temporary_file() as stdout:
                try:
                    result = restore(job, job.source or stdin, job.target or stdout, report.tiles)
                except KeyboardInterrupt:
                    report.say(f"wavdiff: interrupted; {report.finished} of {report.count} done")
                    raise
                except Exception as error:
                    reason = _reason(error, job.name)
                    if reason.startswith(_BUG) and reason not in bugs:
                        traceback.print_exception(error)
                        bugs.add(reason)
                    report.problem(job.name, reason)
                    failed.add(job.name)
                    continue
                finally:
                    report.end()
                for message in result.messages:
                    report.note(job.name, message)
                if job.target is not None:
                    report.written(result.written)
                else:
                    stdout.seek(0)
                    shutil.copyfileobj(stdout, sys.stdout.buffer)
                    sys.stdout.buffer.flush()
    return failed


def _reason(error: Exception, name: str) -> str:
    """What the user can do something about, in one line, or that it is a bug."""
    if isinstance(error, WavdiffError):
        return str(error).removeprefix(f"{name}: ")
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return "not enough memory; give a smaller --memory"
    if isinstance(error, OSError):
        where = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else name
        reason = error.strerror or str(error)
        return reason if where == name else f"{where}: {reason}"
    return f"{_BUG}: {type(error).__name__}: {error}"
