"""Any folder of images, at any depth, of mixed sizes and modes."""

import hashlib
import os
import warnings
from pathlib import Path

import numpy as np

from wavdiff.data.source import Split, reduce_channels
from wavdiff.errors import WavdiffError
from wavdiff.images import check_readable, read_pixels

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
HELDOUT_FRACTION = 0.1
HELDOUT_FOLDERS = ("val", "validation", "heldout", "test")


def open_folder(folder: Path, split: Split, channels: int, cache_megabytes: int = 0) -> "FolderSource":
    """Open one split of a folder.

    A folder that has `train/` and one of `val/`, `validation/`, `heldout/`, `test/` is split as they say. Else every
    image's place in the split follows from its own relative path, so adding images moves no other.

    Args:
        folder: the folder; hidden files and folders are passed over.
        split: "train", or "heldout" for about a tenth of the images.
        channels: 1 for the mean of RGB, 3 to keep RGB.
        cache_megabytes: decoded images that are kept in memory.

    Returns:
        A source whose images are read when they are asked for.

    Raises:
        WavdiffError: the folder holds no readable image, or only one and that is for training.

    Warns:
        UserWarning: once for every file that is not readable.
    """
    names = [name for name in _list_images(folder) if _is_readable(folder, name)]
    if not names:
        raise WavdiffError(f"{folder}: holds no readable image ({', '.join(SUFFIXES)})")
    tops = {name.partition("/")[0] for name in names if "/" in name}
    beside = next((top for top in HELDOUT_FOLDERS if top in tops), None)
    if "train" in tops and beside is not None:
        top = "train" if split == "train" else beside
        chosen = [name for name in names if name.startswith(f"{top}/")]
    else:
        heldout = heldout_names(names)
        chosen = [name for name in names if (name in heldout) == (split == "heldout")]
    if not chosen:
        raise WavdiffError(f"{folder}: holds one image, which is for training; a split needs at least 2")
    return FolderSource(folder, chosen, channels, cache_megabytes)


def heldout_names(names: list[str]) -> set[str]:
    """Choose the images to hold out.

    Args:
        names: relative paths with forward slashes.

    Returns:
        Those whose SHA-256 lies in the lowest tenth; with two images or more, at least one and not all.
    """
    ranks = {name: int.from_bytes(hashlib.sha256(name.encode(errors="surrogateescape")).digest()[:8]) for name in names}
    chosen = {name for name, rank in ranks.items() if rank < HELDOUT_FRACTION * 2**64}
    if len(names) < 2:
        return set()
    in_order = sorted(names, key=lambda name: ranks[name])
    return (chosen | {in_order[0]}) - {in_order[-1]}


class FolderSource:
    """Images of a folder, read lazily.

    Args:
        folder: the folder.
        names: relative paths of the images.
        channels: 1 for the mean of RGB, 3 to keep RGB.
        cache_megabytes: decoded images that are kept in memory, as long as they fit.
    """

    def __init__(self, folder: Path, names: list[str], channels: int, cache_megabytes: int = 0) -> None:
        self.name = folder.resolve().name or "folder"
        self.credit = f"the images of the folder {self.name}"
        self._folder = folder
        self._names = names
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
                pixels = reduce_channels(read_pixels(self._folder / self._names[place]), self._channels)
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


def _list_images(folder: Path) -> list[str]:
    """List the relative paths of all images, sorted, with forward slashes."""
    names = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for file in files:
            if not file.startswith(".") and Path(file).suffix.lower() in SUFFIXES:
                names.append((Path(place) / file).relative_to(folder).as_posix())
    return sorted(names)


def _is_readable(folder: Path, name: str) -> bool:
    try:
        check_readable(folder / name)
    except WavdiffError as error:
        warnings.warn(f"skipped: {error}", stacklevel=4)
        return False
    return True
