"""Which images are held out, for good: by the folders that say so, else by a hash of every image's own name.

A name's rank never changes, so adding images moves no other from one part to the other.
"""

import hashlib
from collections.abc import Container, Sequence

import numpy as np

HELDOUT_FOLDERS = ("val", "validation", "heldout", "test")
HELDOUT_FRACTION = 0.1


def heldout_folder(names: Container[str], *others: str) -> str | None:
    """The first of `val`, `validation`, `heldout`, `test`, and of others, that is among some names; None if none is."""
    return next((folder for folder in (*HELDOUT_FOLDERS, *others) if folder in names), None)


def heldout_rank(name: str) -> int:
    """An image's place in the line for being held out: 64 bits, the same for the same name for ever."""
    return int.from_bytes(hashlib.sha256(name.encode(errors="surrogateescape")).digest()[:8])


def heldout_below(ranks: np.ndarray) -> int:
    """Of ranks, uint64 (N,), that below which images are held out: a tenth, at least one and not all of two or more."""
    if len(ranks) < 2:
        return 0
    return min(max(int(HELDOUT_FRACTION * 2**64), int(ranks.min()) + 1), int(ranks.max()))


def heldout_names(names: Sequence[str]) -> set[str]:
    """Those of some names that are held out."""
    ranks = [heldout_rank(name) for name in names]
    limit = heldout_below(np.array(ranks, dtype=np.uint64))
    return {name for name, rank in zip(names, ranks, strict=True) if rank < limit}
