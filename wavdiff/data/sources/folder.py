"""Any folder of images, at any depth, of mixed sizes and modes."""

import hashlib
import warnings
from functools import cached_property
from pathlib import Path

import numpy as np

from wavdiff.data.cache import DecodedCache
from wavdiff.data.protocols import Split, reduce_channels
from wavdiff.data.sources.index import SUFFIXES, FolderIndex, index_folder
from wavdiff.images import read_pixels
from wavdiff.system.errors import WavdiffError

HELDOUT_FRACTION = 0.1


HELDOUT_FOLDERS = ("val", "validation", "heldout", "test")


def open_folder(
    folder: Path, split: Split, channels: int, cache_megabytes: int = 0, decoded: Path | None = None
) -> "FolderSource":
    """Open one split of a folder.

    A folder that has `train/` and one of `val/`, `validation/`, `heldout/`, `test/` is split as they say. Else every
    image's place in the split follows from its own relative path, so adding images moves no other.

    Args:
        folder: the folder; hidden files and folders are passed over.
        split: "train", or "heldout" for about a tenth of the images.
        channels: 1 for the mean of RGB, 3 to keep RGB.
        cache_megabytes: decoded images that are kept in memory.
        decoded: a folder for decoded images, or None.

    Returns:
        A source whose images are read when they are asked for.

    Raises:
        WavdiffError: the folder holds no readable image, or only one and that is for training.

    Warns:
        UserWarning: once for every file that is not readable.
    """
    index = index_folder(folder)
    names = list(index.names)
    if not names:
        raise WavdiffError(f"{folder}: holds no readable image ({', '.join(SUFFIXES)})")
    tops = {name.partition("/")[0] for name in names if "/" in name}
    beside = next((top for top in HELDOUT_FOLDERS if top in tops), None)
    if "train" in tops and beside is not None:
        top = "train" if split == "train" else beside
        chosen = [place for place, name in enumerate(names) if name.startswith(f"{top}/")]
    else:
        heldout = heldout_names(names)
        chosen = [place for place, name in enumerate(names) if (name in heldout) == (split == "heldout")]
    if not chosen:
        raise WavdiffError(f"{folder}: holds one image, which is for training; a split needs at least 2")
    cache = None if decoded is None else DecodedCache(decoded)
    return FolderSource(folder, index.chosen(np.array(chosen)), channels, cache_megabytes, cache)


def heldout_names(names: list[str]) -> set[str]:
    """Choose the images to hold out.

    Args:
        names: relative paths with forward slashes.

    Returns:
        Those whose SHA-256 lies in the lowest tenth; with two images or more, at least one and not all.
    """
    ranks = {name: heldout_rank(name) for name in names}
    chosen = {name for name, rank in ranks.items() if rank < HELDOUT_FRACTION * 2**64}
    if len(names) < 2:
        return set()
    return (chosen | {min(names, key=ranks.__getitem__)}) - {max(names, key=ranks.__getitem__)}


def heldout_rank(name: str) -> int:
    """Give an image's place in the line for being held out: 64 bits, the same for the same name for ever."""
    return int.from_bytes(hashlib.sha256(name.encode(errors="surrogateescape")).digest()[:8])


class FolderSource:
    """Images of a folder, read lazily.

    Args:
        folder: the folder.
        index: what is known of its images.
        channels: 1 for the mean of RGB, 3 to keep RGB.
        cache_megabytes: decoded images that are kept in memory, as long as they fit.
        decoded: decoded images kept on disk, or None.
    """

    def __init__(
        self,
        folder: Path,
        index: FolderIndex,
        channels: int,
        cache_megabytes: int = 0,
        decoded: DecodedCache | None = None,
    ) -> None:
        self.name = folder.resolve().name or "folder"
        self.credit = f"the images of the folder {self.name}"
        self._folder = folder
        self._index = index
        self._names = index.names
        self._decoded = decoded
        self._channels = channels
        self._unreadable: set[int] = set()
        self._cache: dict[int, np.ndarray] = {}
        self._cache_bytes = cache_megabytes * 2**20

    def __len__(self) -> int:
        """Count the images."""
        return len(self._names)

    def __getitem__(self, index: int) -> np.ndarray:
        """Give image ``index``; where it turns out to be damaged, the next readable one, with a warning.

        Raises:
            WavdiffError: no image of the folder can be read any more.
        """
        count = len(self._names)
        if not -count <= index < count:
            raise IndexError(f"image {index} of {count}")
        for step in range(count):
            place = (index + step) % count
            if place in self._unreadable:
                continue
            if place in self._cache:
                return self._cache[place]
            try:
                pixels = self._read(self._folder / self._names[place])
                if pixels.nbytes <= self._cache_bytes:
                    self._cache[place] = pixels
                    self._cache_bytes -= pixels.nbytes
                return pixels
            except WavdiffError as error:
                self._unreadable.add(place)
                warnings.warn(f"skipped, replaced by the next image: {error}", stacklevel=2)
        raise WavdiffError(f"{self._folder}: none of its {count} images can be read any more")

    def label(self, index: int) -> str:
        """Name image ``index`` by its relative path."""
        return self._names[index]

    @cached_property
    def digest(self) -> str:
        """SHA-256 over paths and sizes of these images, as 64 hexadecimal digits."""
        return self._index.digest

    def _read(self, file: Path) -> np.ndarray:
        if self._decoded is None:
            return self._decode(file)
        return self._decoded.pixels(file, f"{self._channels} channels", lambda: self._decode(file))

    def _decode(self, file: Path) -> np.ndarray:
        return reduce_channels(read_pixels(file), self._channels)
