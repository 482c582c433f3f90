"""One training at a time in a folder."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wavdiff.system.errors import WavdiffError

try:
    import fcntl
except ImportError:  # Windows: no lock
    fcntl = None  # type: ignore[assignment]


TRIES, PAUSE = 5, 0.1
LOCK_FILE = "lock"
_held: set[int] = set()


def _let_go_in_child() -> None:
    """Data workers must not hold the folder when their parent is gone."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_in_child)


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold the folder; the system lets go of it when the process ends, however it ends.

    Raises:
        WavdiffError: another process holds it.
    """
    if fcntl is None:
        yield
        return
    descriptor = _open_locked(folder, fcntl.LOCK_EX)
    if descriptor is None:
        raise WavdiffError(f"--out {folder}: another process is training in this folder")
    _held.add(descriptor)
    try:
        yield
    finally:
        if descriptor in _held:  # not in a child
            _held.discard(descriptor)
            os.close(descriptor)


def is_locked(folder: Path) -> bool:
    """Whether a training runs in the folder."""
    if fcntl is None:
        return False
    descriptor = _open_locked(folder, fcntl.LOCK_SH)
    if descriptor is None:
        return True
    os.close(descriptor)
    return False


def _open_locked(folder: Path, kind: int) -> int | None:
    """A descriptor that holds the lock: of the folder, or on NFS, which wants it open to write, of a file in it."""
    descriptor = os.open(folder, os.O_RDONLY)
    for number in range(TRIES):
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if number < TRIES - 1:  # someone may just be looking whether it is locked
                time.sleep(PAUSE)
        except OSError:
            os.close(descriptor)
            if kind == fcntl.LOCK_SH and not (folder / LOCK_FILE).is_file():
                return os.open(folder, os.O_RDONLY)
            descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                break
            except OSError:  # a file system without locks
                pass
            return descriptor
    os.close(descriptor)
    return None
