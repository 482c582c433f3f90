"""Pixels of a whole picture, in memory while they are few and in a file once they are many.

Restoring a picture tile by tile needs its integers in any order. A *spool* holds them as rows of uint8 or uint16: in an
array up to a limit, beyond it in a temporary file that has no name any more, so that it vanishes with the process
whatever happens. The file is read and written with ``pread`` and ``pwrite`` rather than mapped: mapped pages would
count as memory of the process, whereas the system may drop its cache of a file whenever it likes.

A temporary folder in memory would defeat that. Many systems keep ``/tmp`` there, so the file lies in ``/var/tmp``,
which is meant for large temporary files, unless the variable ``TMPDIR`` says otherwise.
"""

import os
import tempfile
from typing import BinaryIO

import numpy as np

from wavdiff.system.errors import WavdiffError

SPOOL_BYTES = 64 * 2**20
_STRIP_BYTES = 4 * 2**20


def temporary_folder() -> str:
    """Name the folder for large temporary files."""
    large = "/var/tmp"
    is_usable = "TMPDIR" not in os.environ and os.path.isdir(large) and os.access(large, os.W_OK | os.X_OK)
    return large if is_usable else tempfile.gettempdir()


def temporary_file() -> BinaryIO:
    """Open an empty file without a name, for reading and writing; it vanishes when it is closed.

    Raises:
        WavdiffError: it cannot be made.
    """
    folder = temporary_folder()
    try:
        return tempfile.TemporaryFile(dir=folder, prefix="wavdiff-")  # type: ignore[return-value]
    except OSError as error:
        raise WavdiffError(f"{folder}: no temporary file can be made: {error.strerror or error}") from error


class Spool:
    """An array (height, width, bands) that is read and written by rectangles.

    Args:
        size: (height, width) in pixels.
        bands: samples per pixel.
        dtype: uint8 or uint16.
        limit_bytes: up to this size it is an array in memory, beyond it a file.

    Raises:
        WavdiffError: no temporary file can be made.
    """

    def __init__(self, size: tuple[int, int], bands: int, dtype: np.dtype, limit_bytes: int = SPOOL_BYTES) -> None:
        self.size = size
        self.bands = bands
        self.dtype = np.dtype(dtype)
        self.row_bytes = size[1] * bands * self.dtype.itemsize
        in_memory = size[0] * self.row_bytes <= limit_bytes
        self._array = np.zeros((*size, bands), dtype=self.dtype) if in_memory else None
        self._file = None if in_memory else temporary_file()

    @property
    def array(self) -> np.ndarray | None:
        """The array itself where it lies in memory, else None."""
        return self._array

    @property
    def descriptor(self) -> int | None:
        """The open file where it lies in one, else None."""
        return None if self._file is None else self._file.fileno()

    def strips(self) -> list[tuple[int, int]]:
        """Cut the rows, from top to bottom, into (top, bottom) of a few megabytes each."""
        rows = max(1, _STRIP_BYTES // self.row_bytes)
        return [(top, min(top + rows, self.size[0])) for top in range(0, self.size[0], rows)]

    def read(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        """Read rows top..bottom-1 and columns left..right-1.

        Returns:
            A new array (bottom - top, right - left, bands).

        Raises:
            WavdiffError: the temporary file cannot be read.
        """
        if self._array is not None:
            return self._array[top:bottom, left:right].copy()
        pixel = self.bands * self.dtype.itemsize
        if right - left == self.size[1]:
            content = self._pread((bottom - top) * self.row_bytes, top * self.row_bytes)
        else:
            count = (right - left) * pixel
            content = b"".join(self._pread(count, row * self.row_bytes + left * pixel) for row in range(top, bottom))
        return np.frombuffer(content, dtype=self.dtype).reshape(bottom - top, right - left, self.bands).copy()

    def write(self, top: int, left: int, values: np.ndarray) -> None:
        """Write an array (h, w, bands) with its first pixel at (top, left).

        Raises:
            WavdiffError: the temporary file cannot be written.
        """
        height, width = values.shape[:2]
        if self._array is not None:
            self._array[top : top + height, left : left + width] = values
            return
        values = np.ascontiguousarray(values, dtype=self.dtype)
        pixel = self.bands * self.dtype.itemsize
        if width == self.size[1]:
            self._pwrite(values.data.cast("B"), top * self.row_bytes)
        else:
            for row in range(height):
                self._pwrite(values[row].data.cast("B"), (top + row) * self.row_bytes + left * pixel)

    def close(self) -> None:
        """Give memory and disk back."""
        self._array = None
        if self._file is not None:
            self._file.close()
            self._file = None

    def _pread(self, count: int, offset: int) -> bytes:
        """Read exactly ``count`` bytes; what was never written reads as zeros."""
        descriptor = self.descriptor
        if descriptor is None:
            raise ValueError("the spool is closed")
        parts = []
        try:
            while count > 0:
                part = os.pread(descriptor, count, offset)
                if not part:
                    parts.append(bytes(count))
                    break
                parts.append(part)
                count, offset = count - len(part), offset + len(part)
        except OSError as error:
            reason = error.strerror or error
            raise WavdiffError(f"{temporary_folder()}: the temporary file cannot be read: {reason}") from error
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _pwrite(self, content: memoryview, offset: int) -> None:
        """Write all of ``content``."""
        descriptor = self.descriptor
        if descriptor is None:
            raise ValueError("the spool is closed")
        try:
            while content.nbytes:
                count = os.pwrite(descriptor, content, offset)
                content, offset = content[count:], offset + count
        except OSError as error:
            raise WavdiffError(
                f"{temporary_folder()}: the temporary file of {self.size[0] * self.row_bytes} bytes cannot be written: "
                f"{error.strerror or error}; set TMPDIR to another folder"
            ) from error
