"""Arrays larger than memory, read and written by rectangles: pixels of pictures, and planes between two scales.

Small ones lie in memory, large ones in a temporary file without a name, which the system removes whatever happens. It
is reached with positioned reads and writes: a mapped file would count as memory of the process.

Many systems keep `/tmp` in memory, which would defeat that. So the file lies in `/var/tmp`, which is meant for large
temporary files, unless the variable `TMPDIR` says otherwise.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import DTypeLike
from torch import Tensor

from wavdiff.images.rectangle import Rectangle, bands
from wavdiff.system.errors import WavdiffError

SPOOL_BYTES = 64 * 2**20
_STRIP_BYTES = 4 * 2**20


def temporary_folder() -> str:
    """The folder for large temporary files."""
    large = "/var/tmp"
    is_usable = "TMPDIR" not in os.environ and os.path.isdir(large) and os.access(large, os.W_OK | os.X_OK)
    return large if is_usable else tempfile.gettempdir()


def temporary_file() -> BinaryIO:
    """An empty file without a name, for reading and writing, which vanishes when it is closed.

    Raises:
        WavdiffError: it cannot be made.
    """
    folder = temporary_folder()
    try:
        return tempfile.TemporaryFile(dir=folder, prefix="wavdiff-")  # type: ignore[return-value]
    except OSError as error:
        raise WavdiffError(f"{folder}: no temporary file can be made: {error.strerror or error}") from error


def unwritable(size: int, error: OSError) -> WavdiffError:
    """What is said of a temporary file of `size` bytes for which there is no space."""
    return WavdiffError(
        f"{temporary_folder()}: the temporary file of {size} bytes cannot be written: {error.strerror or error}; "
        "set TMPDIR to another folder"
    )


class DiskArray:
    """An array (height, width, bands), zero at first, in memory or in a temporary file.

    Args:
        size: (height, width).
        bands: values per place.
        dtype: their type.
        limit_bytes: up to this size it lies in memory.
        planar: whether a row is stored band after band rather than place after place.

    Raises:
        WavdiffError: no temporary file can be made.
    """

    def __init__(
        self,
        size: tuple[int, int],
        bands: int,
        dtype: DTypeLike,
        limit_bytes: float = SPOOL_BYTES,
        *,
        planar: bool = False,
    ) -> None:
        self.size, self.bands, self.dtype, self.planar = size, bands, np.dtype(dtype), planar
        self.row_bytes = size[1] * bands * self.dtype.itemsize
        self.bytes = size[0] * self.row_bytes
        self.array: np.ndarray | None = None
        self._file: BinaryIO | None = None
        if self.bytes > limit_bytes:
            self._file = temporary_file()
            os.ftruncate(self._file.fileno(), self.bytes)
        elif planar:
            self.array = np.zeros((bands, *size), dtype).transpose(1, 2, 0)
        else:
            self.array = np.zeros((*size, bands), dtype)

    def strips(self) -> list[Rectangle]:
        """Its rows, from top to bottom, a few megabytes each."""
        return list(bands(self.size, max(1, _STRIP_BYTES // self.row_bytes)))

    def read(self, where: Rectangle) -> np.ndarray:
        """The values (h, w, bands) of a rectangle; not to be written to.

        Raises:
            WavdiffError: the temporary file cannot be read.
        """
        if self.array is not None:
            return self.array[where.top : where.bottom, where.left : where.right]
        order = (where.height, self.bands, where.width) if self.planar else (where.height, where.width, self.bands)
        values = np.empty(order, self.dtype)
        try:
            self._transfer(_read_into, where, values)
        except OSError as error:
            reason = error.strerror or error
            raise WavdiffError(f"{temporary_folder()}: the temporary file cannot be read: {reason}") from error
        return values.transpose(0, 2, 1) if self.planar else values

    def write(self, where: Rectangle, values: np.ndarray) -> None:
        """Set the values (h, w, bands) of a rectangle.

        Raises:
            WavdiffError: the temporary file cannot be written.
        """
        if self.array is not None:
            self.array[where.top : where.bottom, where.left : where.right] = values
            return
        values = np.ascontiguousarray(values.transpose(0, 2, 1) if self.planar else values, dtype=self.dtype)
        try:
            self._transfer(os.pwrite, where, values)
        except OSError as error:
            raise unwritable(self.bytes, error) from error

    def close(self) -> None:
        """Give memory and disk back."""
        self.array = None
        if self._file is not None:
            self._file.close()

    def _transfer(self, move: Callable[[int, memoryview, int], int], where: Rectangle, values: np.ndarray) -> None:
        """Move values, which lie in the order of the file, between memory and the file."""
        if self._file is None:
            raise ValueError("the array is closed")
        for offset, part in self._runs(where, values):
            while part:
                count = move(self._file.fileno(), part, offset)
                if count <= 0:
                    raise OSError(0, f"it ends {len(part)} bytes too early")
                part, offset = part[count:], offset + count

    def _runs(self, where: Rectangle, values: np.ndarray) -> Iterator[tuple[int, memoryview]]:
        """Pairs of byte offset in the file and memory, as long as they go."""
        if where.width == self.size[1]:
            yield where.top * self.row_bytes, values.data.cast("B")
            return
        groups = self.bands if self.planar else 1
        step = self.row_bytes // self.size[1] // groups  # bytes from one column to the next
        runs = values.reshape(where.height, groups, -1)
        for row, group in np.ndindex(where.height, groups):
            place = ((where.top + row) * groups + group) * self.size[1] + where.left
            yield place * step, runs[row, group].data.cast("B")


def _read_into(descriptor: int, memory: memoryview, offset: int) -> int:
    return os.preadv(descriptor, [memory], offset)


class Plane:
    """A float32 tensor (C, H, W), zero at first, in memory or in a temporary file.

    Args:
        channels, height, width: its shape.
        in_memory: whether it lies in memory.
    """

    def __init__(self, channels: int, height: int, width: int, *, in_memory: bool) -> None:
        limit = math.inf if in_memory else -1
        self._array = DiskArray((height, width), channels, np.float32, limit, planar=True)
        self.channels, self.size = channels, (height, width)

    def read(self, where: Rectangle) -> Tensor:
        """The values (C, h, w) of a rectangle; not to be written to."""
        return torch.from_numpy(self._array.read(where)).permute(2, 0, 1)

    def write(self, where: Rectangle, values: Tensor) -> None:
        """Set the values (C, h, w) of a rectangle."""
        self._array.write(where, values.detach().float().cpu().permute(1, 2, 0).numpy())

    def close(self) -> None:
        """Give the memory or the file back."""
        self._array.close()
