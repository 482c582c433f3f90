"""Files that may be lost at any time: what was found out about data, and decoded images.

Every file appears complete or not at all, under a name that several processes may write at once. Nothing that is read
here can run code: arrays are read without pickles. A damaged file counts as missing.
"""

import hashlib
import os
import secrets
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from wavdiff.system.errors import WavdiffError


def cache_folder() -> Path:
    """The user's cache folder: $WAVDIFF_CACHE, else wavdiff in $XDG_CACHE_HOME, else in ~/.cache."""
    own = os.environ.get("WAVDIFF_CACHE")
    if own:
        return Path(own)
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path("~/.cache").expanduser()) / "wavdiff"


def digest_of(*parts: object) -> str:
    """The SHA-256 of some values' text, as 64 hexadecimal digits."""
    return hashlib.sha256("\0".join(map(str, parts)).encode(errors="surrogateescape")).hexdigest()


def store(target: Path, write: Callable[[BinaryIO], None]) -> bool:
    """Let `write` fill a file under a temporary name, then move it to its place; missing folders are made.

    Returns whether it worked: a cache that cannot be written costs time, not the run.
    """
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            write(file)
        os.replace(temporary, target)
    except OSError:
        with suppress(OSError):  # never made, perhaps
            temporary.unlink()
        return False
    return True


class DecodedCache:
    """Decoded images on disk, one .npy file each, read through the page cache of the system.

    An entry's name is a hash of the image file's path, size and time of change, so an image that changes gets another
    entry; what an entry holds is never changed. Entries are not removed: remove the folder when the training is over.

    Args:
        folder: where the entries lie; made if missing. It takes height x width x channels bytes for every image.

    Raises:
        WavdiffError: the folder cannot be made or written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writable = True
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WavdiffError(f"data.decoded_cache {folder}: the folder cannot be made: {error.strerror}") from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise WavdiffError(f"data.decoded_cache {folder}: the folder cannot be written to")

    def pixels(self, image: Path, kind: str, decode: Callable[[], np.ndarray]) -> np.ndarray:
        """A decoded image, not to be written to: from its entry if there is a sound one, else decoded and entered.

        Args:
            image: the image file.
            kind: what else the pixels depend on, such as the number of channels.
            decode: makes uint8 (H, W) or (H, W, 3).
        """
        try:
            status = image.stat()
        except OSError:
            return decode()  # which says what is wrong
        name = digest_of(image.absolute(), status.st_size, status.st_mtime_ns, kind)
        entry = self.folder / name[:2] / f"{name[2:]}.npy"
        known = read_array(entry, np.dtype(np.uint8), mapped=True)
        if known is not None and (known.ndim == 2 or (known.ndim == 3 and known.shape[2] == 3)):
            return known
        pixels = decode()
        if self._writable and not store(entry, lambda file: np.save(file, pixels, allow_pickle=False)):
            self._writable = False
            warnings.warn(f"data.decoded_cache {self.folder}: cannot be written to any more", stacklevel=2)
        return pixels


def read_array(file: Path, dtype: np.dtype, mapped: bool = False) -> np.ndarray | None:
    """The array of a .npy file, or None if the file is missing, damaged or of another type than `dtype`.

    `mapped` maps the file into memory, read-only, instead of reading all of it.
    """
    try:
        array: np.ndarray = np.load(file, mmap_mode="r" if mapped else None, allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError, MemoryError):
        return None
    return array if isinstance(array, np.ndarray) and array.dtype == dtype else None
