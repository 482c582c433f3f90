"""What a folder holds: every image's path, size and time of change, found out once and then only checked.

The first look at a folder opens every file to see whether it is a picture. The outcome lies in the user's cache folder
(see `cache`). Later looks walk through the folder, which takes no opening, and open only what is new or has another
size or time of change; what is gone leaves the index. Whoever changes a file and sets its old time is not noticed.
"""

import hashlib
import os
import sys
import time
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from wavdiff.data.cache import cache_folder, digest_of, store
from wavdiff.images import check_readable
from wavdiff.system.errors import WavdiffError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
QUIET_SECONDS = 5.0
LINE_SECONDS = 10.0
_VERSION = 1


class Names(Sequence[str]):
    """Many file names, UTF-8 or not, as one block of bytes, which takes little memory and which workers share."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        parts = [os.fsencode(name) for name in names]
        self._bytes = b"".join(parts)
        self._ends = np.cumsum([len(part) for part in parts], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(len(self))[index]]
        place = range(len(self))[index]
        start = int(self._ends[place - 1]) if place else 0
        return os.fsdecode(self._bytes[start : int(self._ends[place])])


@dataclass(frozen=True)
class FolderIndex:
    """The readable images of a folder.

    Attributes:
        names: relative paths with forward slashes, sorted.
        sizes: int64 (N,), bytes.
    """

    names: Names
    sizes: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def chosen(self, places: Sequence[int]) -> "FolderIndex":
        """The index of the images at some places."""
        return FolderIndex(Names(self.names[place] for place in places), self.sizes[list(places)])

    @property
    def digest(self) -> str:
        """SHA-256 over paths and sizes, as 64 hexadecimal digits; a copy of the folder has the same."""
        total = hashlib.sha256()
        for name, size in zip(self.names, self.sizes.tolist(), strict=True):
            total.update(f"{name}\0{size}\0".encode(errors="surrogateescape"))
        return total.hexdigest()


@dataclass
class _Listing:
    """All files of a folder that are images by name; `flaws` says what is wrong with some of them."""

    names: list[str]
    sizes: np.ndarray
    times: np.ndarray
    flaws: dict[int, str]


def index_folder(folder: Path) -> FolderIndex:
    """Find the readable images of a folder, at any depth; hidden files and folders are passed over.

    Progress goes to stderr: a bar on a terminal, else a line now and then if it takes more than 5 seconds.

    Warns:
        UserWarning: for every file that is not readable.
    """
    listing = _list(folder)
    file = cache_folder() / "folders" / f"{digest_of(folder.resolve())}.npz"
    known = _read(file)
    unknown = _take_over(listing, known) if known is not None else list(range(len(listing.names)))
    for place in reported(unknown, f"checking the images of {folder}"):
        try:
            check_readable(folder / listing.names[place])
        except WavdiffError as error:
            listing.flaws[place] = str(error)
    # Also written where files only left, else a folder that shrinks would carry their names for ever.
    if known is None or unknown or len(known.names) != len(listing.names):
        _write(file, listing)
    for flaw in listing.flaws.values():
        warnings.warn(f"skipped: {flaw}", stacklevel=4)
    sound = [place for place in range(len(listing.names)) if place not in listing.flaws]
    return FolderIndex(Names(listing.names[place] for place in sound), listing.sizes[sound])


def reported(places: Sequence[int], what: str) -> Iterator[int]:
    """Go through numbers and show on stderr how far it is.

    `what` says what is done with them, such as "checking".
    """
    console = Console(stderr=True)
    if console.is_terminal:
        yield from track(places, description=what, console=console, transient=True)
        return
    due = time.monotonic() + QUIET_SECONDS
    for count, place in enumerate(places):
        if time.monotonic() >= due:
            print(f"{what}: {count:,} of {len(places):,}", file=sys.stderr, flush=True)
            due = time.monotonic() + LINE_SECONDS
        yield place


def _list(folder: Path) -> _Listing:
    """Walk through a folder without opening files; links to folders are not followed, one might lead above itself."""

    def passed_over(error: OSError) -> None:
        warnings.warn(f"skipped: {error.filename}: the folder cannot be listed: {error.strerror}", stacklevel=7)

    found: list[tuple[str, int, int]] = []
    for place, below, files in os.walk(folder, onerror=passed_over):
        below[:] = [name for name in below if not name.startswith(".")]
        inside = f"{Path(place).relative_to(folder).as_posix()}/".removeprefix("./")
        for name in files:
            if name.startswith(".") or os.path.splitext(name)[1].lower() not in SUFFIXES:
                continue
            size, changed = -1, 0
            with suppress(OSError):  # a link into the void: the check says so
                status = os.stat(os.path.join(place, name))
                size, changed = status.st_size, status.st_mtime_ns
            found.append((inside + name, size, changed))
    found.sort()
    sizes = np.array([size for _, size, _ in found], dtype=np.int64)
    times = np.array([changed for _, _, changed in found], dtype=np.int64)
    return _Listing([name for name, _, _ in found], sizes, times, {})


def _take_over(listing: _Listing, known: _Listing) -> list[int]:
    """Copy what is known of files that did not change; the places of the others."""
    before = {name: place for place, name in enumerate(known.names)}
    unknown = []
    for place, name in enumerate(listing.names):
        old = before.get(name)
        if old is None or known.sizes[old] != listing.sizes[place] or known.times[old] != listing.times[place]:
            unknown.append(place)
        elif old in known.flaws:
            listing.flaws[place] = known.flaws[old]
    return unknown


def _write(file: Path, listing: _Listing) -> None:
    bad = sorted(listing.flaws)
    texts = {"names": listing.names, "flaws": [listing.flaws[place] for place in bad]}
    arrays: dict[str, Any] = {
        key: np.frombuffer(b"\0".join(map(os.fsencode, lines)), np.uint8) for key, lines in texts.items()
    }
    arrays |= {"version": np.array(_VERSION), "sizes": listing.sizes, "times": listing.times, "bad": np.array(bad, int)}
    store(file, lambda target: np.savez(target, **arrays))


def _read(file: Path) -> _Listing | None:
    """A listing from a file; None if it is missing or damaged."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            if int(stored["version"]) != _VERSION:
                return None
            names, flaws = (_split(stored[key]) for key in ("names", "flaws"))
            sizes, times, bad = stored["sizes"], stored["times"], stored["bad"]
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, MemoryError):
        return None
    sound = sizes.shape == times.shape == (len(names),) and len(bad) == len(flaws)
    return _Listing(names, sizes, times, dict(zip(bad.tolist(), flaws, strict=True))) if sound else None


def _split(block: np.ndarray) -> list[str]:
    return [os.fsdecode(part) for part in block.tobytes().split(b"\0")] if block.size else []
