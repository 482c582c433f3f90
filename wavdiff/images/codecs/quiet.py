"""Keeping C libraries from writing to standard error past Python; what they complain about arrives as an exception."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_libraries(active: bool = True) -> Iterator[None]:
    """Send what is written to file descriptor 2 to nowhere for a while; `active=False` does nothing."""
    try:
        kept = os.dup(2) if active else None
    except OSError:  # no standard error at all
        kept = None
    if kept is None:
        yield
        return
    if sys.stderr is not None:
        sys.stderr.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
