"""Memory that is freed stays in the process.

A training step, or a network on tile after tile, allocates and frees the same large arrays again and again. glibc gives
each back to the system and asks for it anew, and the system clears every page again; on a CPU that costs a good part of
the time (`benchmarks/training.py` measures it). With one heap that is never trimmed the pages are used again as they
are.
"""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8  # <malloc.h>
HEAP_STEP = 256 * 2**20


def keep_freed_memory() -> bool:
    """Set glibc's allocator so, for this process, before its threads start; whether that was possible."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    settings = ((M_ARENA_MAX, 1), (M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, HEAP_STEP))
    return all(bool(mallopt(name, value)) for name, value in settings)
