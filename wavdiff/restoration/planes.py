"""Arrays of coefficients larger than memory, and the tiles in which they are computed.

A `Plane` is a float32 array (C, H, W) that is read and written by rectangles. Small ones are tensors; large ones lie
in a temporary file without a name, which the system removes whatever happens, and are reached with positioned reads
and writes: a mapped file would count as resident memory.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from wavdiff.images.disk_array import temporary_file, temporary_folder
from wavdiff.images.rectangle import Rectangle
from wavdiff.system.errors import WavdiffError


def tiles(size: tuple[int, int], most: int) -> Iterator[Rectangle]:
    """Rectangles of at most `most` pixels that cover an array of `size` (height, width), row by row.

    They are about square and of about equal size, so that none is left as a sliver.
    """
    height, width = size
    side = max(1, math.isqrt(most))
    columns = -(-width // max(side, most // max(height, 1)))
    rows = -(-height // max(1, most // -(-width // columns)))
    for row in range(rows):
        for column in range(columns):
            yield Rectangle(
                row * height // rows,
                (row + 1) * height // rows,
                column * width // columns,
                (column + 1) * width // columns,
            )


class Plane:
    """A float32 array (C, H, W), zero at first, in memory or in a temporary file.

    Args:
        channels, height, width: its shape.
        in_memory: whether it is a tensor; else a file in the system's folder for temporary files.
    """

    def __init__(self, channels: int, height: int, width: int, *, in_memory: bool) -> None:
        self.channels, self.size = channels, (height, width)
        self.values: Tensor | None = torch.zeros(channels, height, width) if in_memory else None
        self.file = None
        if not in_memory:
            self.file = temporary_file()
            os.ftruncate(self.file.fileno(), 4 * channels * height * width)

    @staticmethod
    def of(values: Tensor) -> Plane:
        """The tensor `values` (C, H, W) as a plane, without a copy."""
        plane = Plane(0, 0, 0, in_memory=True)
        plane.channels, plane.size, plane.values = values.shape[0], (values.shape[1], values.shape[2]), values
        return plane

    def read(self, where: Rectangle) -> Tensor:
        """The values (C, h, w) of a rectangle; not to be written to."""
        if self.values is not None:
            return self.values[:, where.top : where.bottom, where.left : where.right]
        result = np.empty((where.height, self.channels, where.width), dtype=np.float32)
        for offset, view in self._runs(where, result):
            _read_fully(self._descriptor(), view, offset)
        return torch.from_numpy(result).permute(1, 0, 2)

    def write(self, where: Rectangle, values: Tensor) -> None:
        """Set the values (C, h, w) of a rectangle."""
        if self.values is not None:
            self.values[:, where.top : where.bottom, where.left : where.right] = values
            return
        rows = np.ascontiguousarray(values.permute(1, 0, 2).float().cpu().numpy())
        try:
            for offset, view in self._runs(where, rows):
                _write_fully(self._descriptor(), view, offset)
        except OSError as error:
            needed = 4 * self.channels * self.size[0] * self.size[1] / 2**20
            raise WavdiffError(
                f"{temporary_folder()}: a temporary file of {needed:,.0f} MiB is needed there: {error.strerror}"
            ) from error

    def close(self) -> None:
        """Give the memory or the file back."""
        self.values = None
        if self.file is not None:
            self.file.close()

    def _descriptor(self) -> int:
        assert self.file is not None
        return self.file.fileno()

    def _runs(self, where: Rectangle, rows: np.ndarray) -> Iterator[tuple[int, memoryview]]:
        """Pairs of byte offset in the file and memory, as long as they go: the file's axes are (H, C, W)."""
        height, width = self.size
        if where.width == width:
            yield 4 * where.top * self.channels * width, rows.data.cast("B")
            return
        for row in range(where.height):
            for channel in range(self.channels):
                start = ((where.top + row) * self.channels + channel) * width + where.left
                yield 4 * start, rows[row, channel].data.cast("B")


def _read_fully(descriptor: int, view: memoryview, offset: int) -> None:
    while len(view):
        count = os.preadv(descriptor, [view], offset)
        if count <= 0:
            raise WavdiffError(f"a temporary file ended at byte {offset}, {len(view)} bytes too early")
        view, offset = view[count:], offset + count


def _write_fully(descriptor: int, view: memoryview, offset: int) -> None:
    while len(view):
        count = os.pwrite(descriptor, view, offset)
        view, offset = view[count:], offset + count
