"""Places in a picture: rectangles, and noise that is a function of its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    pass


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

    def scaled(self, factor: int) -> Rectangle:
        """The same place on a grid `factor` times as fine."""
        return Rectangle(self.top * factor, self.bottom * factor, self.left * factor, self.right * factor)

    def cut(self, values: Tensor, inner: Rectangle) -> Tensor:
        """The part `inner` of `values` (..., height, width), which cover this rectangle."""
        rows = slice(inner.top - self.top, inner.bottom - self.top)
        return values[..., rows, inner.left - self.left : inner.right - self.left]


Read = Callable[[int, int, int, int], Tensor]
"""read(top, bottom, left, right): a rectangle of a picture, (P, h, w) in [-1, 1]; P = 1 or 3."""


Write = Callable[[int, int, Tensor], None]
"""write(top, left, values): take a rectangle (P, h, w) of the result."""


def at(top: int, left: int, values: Tensor) -> Rectangle:
    """The rectangle that `values` (..., h, w) cover when their first pixel is at (top, left)."""
    return Rectangle(top, top + values.shape[-2], left, left + values.shape[-1])
