"""A picture as the walk sees it: by rectangles, with its mirror image around it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from wavdiff.images.disk_array import Plane
from wavdiff.images.rectangle import Read, Rectangle, bands


class FramedPicture:
    """A picture with its mirror image around it.

    Args:
        read: gives its rectangles.
        size: (height, width) of the picture.
        channels: 1 or 3.
        frame: pixels of mirror image on every side.
        multiple: the framed sides are multiples of it; what is missing is added at the bottom and the right.
    """

    def __init__(self, read: Read, size: tuple[int, int], channels: int, frame: int, multiple: int = 1) -> None:
        self._read, self.picture, self.channels, self.frame = read, size, channels, frame
        height, width = (-(-(side + 2 * frame) // multiple) * multiple for side in size)
        self.size = (height, width)
        self._half: Plane | None = None
        self.inner = Rectangle(frame, frame + size[0], frame, frame + size[1])

    def read(self, where: Rectangle) -> Tensor:
        """A rectangle (P, h, w) of the framed picture."""
        rows = _mirrored(torch.arange(where.top, where.bottom) - self.frame, self.picture[0])
        columns = _mirrored(torch.arange(where.left, where.right) - self.frame, self.picture[1])
        top, left = int(rows.min()), int(columns.min())
        values = self._read(Rectangle(top, int(rows.max()) + 1, left, int(columns.max()) + 1))
        return _gathered(_gathered(values, rows - top, 1), columns - left, 2)

    def close(self) -> None:
        """Give x_1 back; the picture itself belongs to the caller."""
        if self._half is not None:
            self._half.close()

    def keep_half(self, in_memory: bool) -> None:
        """Keep x_1 for the coarser scales, so that they need not read all of the picture again."""
        height, width = (side // 2 for side in self.size)
        rows = max(1, min(256, (1 << 19) // width))  # of x_1; about 2 million pixels of the picture
        half = Plane(self.channels, height, width, in_memory=in_memory)
        for band in bands((height, width), rows):
            half.write(band, functional.avg_pool2d(self.read(band.scaled(2))[None], 2)[0])
        self._half = half

    def at(self, scale: int, where: Rectangle) -> Tensor:
        """A rectangle of x_scale, (P, h, w): the means of 2^scale x 2^scale pixels."""
        values = (
            self._half.read(where.scaled(2 ** (scale - 1)))
            if scale and self._half
            else self.read(where.scaled(2**scale))
        )
        return block_means(values, values.shape[-1] // where.width)


def block_means(values: Tensor, side: int) -> Tensor:
    """Means of blocks of side x side pixels, (..., c, h, w)."""
    return functional.avg_pool2d(values, side) if side > 1 else values


def _mirrored(index: Tensor, length: int) -> Tensor:
    """Where the mirrored continuation of 0 ... length - 1 comes from; the border pixel is repeated."""
    place = index % (2 * length)
    return torch.where(place < length, place, 2 * length - 1 - place)


def _gathered(values: Tensor, index: Tensor, axis: int) -> Tensor:
    """values[index] along `axis`; what lies in order in the middle is copied as a block."""
    length = len(index)
    if length == values.shape[axis] and bool((index == torch.arange(length)).all()):
        return values
    in_order = (index.diff() == 1).int()
    edges = torch.cat([in_order.new_zeros(1), in_order, in_order.new_zeros(1)]).diff()
    starts, ends = (edges == 1).nonzero()[:, 0], (edges == -1).nonzero()[:, 0] + 1
    if not len(starts):
        return values.index_select(axis, index)
    longest = int((ends - starts).argmax())
    start, end = int(starts[longest]), int(ends[longest])
    middle = values.narrow(axis, int(index[start]), end - start)
    around = (values.index_select(axis, part) for part in (index[:start], index[end:]))
    first, last = around
    return torch.cat([first, middle, last], dim=axis)
