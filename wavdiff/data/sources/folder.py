"""Any folder of images, at any depth, of mixed sizes and modes."""

from contextlib import suppress
from functools import cached_property
from pathlib import Path

import numpy as np

from wavdiff.data.cache import DecodedCache
from wavdiff.data.protocols import ImageSource, Split, first_readable, reduce_channels
from wavdiff.data.sources.index import SUFFIXES, FolderIndex, index_folder
from wavdiff.data.splits import heldout_folder, heldout_names
from wavdiff.images import read_info, read_pixels
from wavdiff.system.errors import WavdiffError

MOST_LOOKED_AT = 1000
"""Images whose size is read before a training."""


def is_folder(name: str) -> bool:
    """Whether a name of data is that of a folder."""
    return Path(name).expanduser().is_dir()


def open_folder(
    name: str | Path, split: Split, channels: int, cache_megabytes: int = 0, decoded_cache: Path | None = None
) -> ImageSource:
    """Open one split of a folder, whose images are read when they are asked for; arguments as for `open_source`.

    A folder that has `train/` and one of `val/`, `validation/`, `heldout/`, `test/` is split as they say. Else every
    image's place in the split follows from its own relative path. Hidden files and folders are passed over.

    Raises:
        WavdiffError: the folder holds no readable image, or only one and that is for training.

    Warns:
        UserWarning: once for every file that is not readable.
    """
    folder = Path(name).expanduser()
    index = index_folder(folder)
    names = list(index.names)
    if not names:
        raise WavdiffError(f"{folder}: holds no readable image ({', '.join(SUFFIXES)})")
    tops = {name.partition("/")[0] for name in names if "/" in name}
    beside = heldout_folder(tops)
    split_by_folders = "train" in tops and beside is not None
    if split_by_folders:
        top = "train" if split == "train" else beside
        chosen = [place for place, name in enumerate(names) if name.startswith(f"{top}/")]
    else:
        heldout = heldout_names(names)
        chosen = [place for place, name in enumerate(names) if (name in heldout) == (split == "heldout")]
    if not chosen:
        raise WavdiffError(f"{folder}: holds one image, which is for training; a split needs at least 2")
    decoded = None if decoded_cache is None else DecodedCache(decoded_cache)
    return _FolderSource(folder, index.chosen(chosen), channels, cache_megabytes, decoded, split_by_folders)


class _FolderSource:
    """Images of a folder, by their sorted paths: those of a class lie together."""

    by_class = True

    def __init__(
        self,
        folder: Path,
        index: FolderIndex,
        channels: int,
        cache_megabytes: int,
        decoded: DecodedCache | None,
        split: bool,
    ) -> None:
        self.name = folder.resolve().name or "folder"
        self.credit = f"the images of the folder {self.name}"
        self._folder = folder
        self._index = index
        self._split = split
        self._names = index.names
        self._decoded = decoded
        self._channels = channels
        self._unreadable: set[int] = set()
        self._cache: dict[int, np.ndarray] = {}
        self._cache_bytes = cache_megabytes * 2**20

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> np.ndarray:
        gone = f"{self._folder}: none of its {len(self)} images can be read any more"
        return first_readable(index, len(self), self._read, self._unreadable, gone)

    def label(self, index: int) -> str:
        return self._names[index]

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the folders that hold the images, below `train/` and its like; none where some lie in no folder."""
        found = {self._class(name) for name in self._names}
        return () if "" in found else tuple(sorted(found))

    def class_of(self, index: int) -> str:
        """The class of an image."""
        return self._class(self._names[index])

    def _class(self, name: str) -> str:
        """The first folder of a path, behind that of the split if there is one."""
        parts = name.split("/")[int(self._split) : -1]
        return parts[0] if parts else ""

    def smaller_than(self, size: tuple[int, int]) -> tuple[int, int]:
        """Of how many images, MOST_LOOKED_AT at most and evenly chosen, how many are smaller than (height, width)."""
        chosen = range(0, len(self), -(-len(self) // MOST_LOOKED_AT))
        small = 0
        for place in chosen:
            with suppress(WavdiffError):  # what has gone since is named when it is asked for
                found = read_info(self._folder / self._names[place]).size
                small += any(have < want for have, want in zip(found, size, strict=True))
        return len(chosen), small

    @cached_property
    def digest(self) -> str:
        return self._index.digest

    def _read(self, index: int) -> np.ndarray:
        if index in self._cache:
            return self._cache[index]
        file = self._folder / self._names[index]
        if self._decoded is None:
            pixels = self._decode(file)
        else:
            pixels = self._decoded.pixels(file, f"{self._channels} channels", lambda: self._decode(file))
        if pixels.nbytes <= self._cache_bytes:
            self._cache[index] = pixels
            self._cache_bytes -= pixels.nbytes
        return pixels

    def _decode(self, file: Path) -> np.ndarray:
        return reduce_channels(read_pixels(file), self._channels)
