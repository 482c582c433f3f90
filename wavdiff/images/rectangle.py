"""Places in a picture, the tiles that cover it, and pictures that are read and written by them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Rectangle:
    """Rows `top` to `bottom`, columns `left` to `right`, the ends not included."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def height(self) -> int:
        """Number of rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.right - self.left

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width

    def is_inside(self, size: tuple[int, int]) -> bool:
        """Whether it has a pixel, and none outside an array of `size` (height, width)."""
        return 0 <= self.top < self.bottom <= size[0] and 0 <= self.left < self.right <= size[1]

    def grown(self, halo: int, size: tuple[int, int]) -> Rectangle:
        """The rectangle with `halo` more on every side, as far as an array of `size` (height, width) goes."""
        return Rectangle(
            max(self.top - halo, 0),
            min(self.bottom + halo, size[0]),
            max(self.left - halo, 0),
            min(self.right + halo, size[1]),
        )

    def common(self, other: Rectangle) -> Rectangle:
        """What lies in both; its height or width is not positive where nothing does."""
        return Rectangle(
            max(self.top, other.top),
            min(self.bottom, other.bottom),
            max(self.left, other.left),
            min(self.right, other.right),
        )

    def relative_to(self, other: Rectangle) -> Rectangle:
        """The same place, counted from the first row and column of another."""
        return Rectangle(self.top - other.top, self.bottom - other.top, self.left - other.left, self.right - other.left)

    def scaled(self, factor: int) -> Rectangle:
        """The same place on a grid `factor` times as fine."""
        return Rectangle(self.top * factor, self.bottom * factor, self.left * factor, self.right * factor)

    def cut(self, values: Tensor, inner: Rectangle) -> Tensor:
        """The part `inner` of `values` (..., height, width), which cover this rectangle."""
        rows = slice(inner.top - self.top, inner.bottom - self.top)
        return values[..., rows, inner.left - self.left : inner.right - self.left]

    def of(self, values: Tensor) -> Tensor:
        """This place in `values` (..., H, W), which begin at (0, 0)."""
        return values[..., self.top : self.bottom, self.left : self.right]


def whole(size: tuple[int, int]) -> Rectangle:
    """The rectangle of all of an array of `size` (height, width)."""
    return Rectangle(0, size[0], 0, size[1])


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


def bands(size: tuple[int, int], rows: int | None = None) -> Iterator[Rectangle]:
    """Bands of rows that cover (height, width), from top to bottom; None: of about a million pixels each."""
    height, width = size
    rows = rows or max(1, (1 << 20) // width)
    for top in range(0, height, rows):
        yield Rectangle(top, min(top + rows, height), 0, width)


Read = Callable[[Rectangle], Tensor]
"""A picture by its rectangles: (P, h, w) in [-1, 1]; P = 1 or 3."""
Write = Callable[[Rectangle, Tensor], None]
"""Whoever takes a result by its rectangles, (P, h, w)."""
