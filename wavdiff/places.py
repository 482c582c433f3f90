"""Places in a picture: rectangles, and noise that is a function of its place."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 64
"""Side of the squares in which positioned noise is drawn."""


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

    def scaled(self, factor: int) -> Rectangle:
        """The same place on a grid `factor` times as fine."""
        return Rectangle(self.top * factor, self.bottom * factor, self.left * factor, self.right * factor)

    def cut(self, values: Tensor, inner: Rectangle) -> Tensor:
        """The part `inner` of `values` (..., height, width), which cover this rectangle."""
        rows = slice(inner.top - self.top, inner.bottom - self.top)
        return values[..., rows, inner.left - self.left : inner.right - self.left]


def position_noise(key: tuple[object, ...], channels: int, where: Rectangle) -> Tensor:
    """Standard normal noise (channels, h, w) of a rectangle, a function of `key` and of the place alone."""
    result = torch.empty(channels, where.height, where.width)
    for row in range(where.top // BLOCK, (where.bottom - 1) // BLOCK + 1):
        for column in range(where.left // BLOCK, (where.right - 1) // BLOCK + 1):
            digest = hashlib.blake2b(repr((*key, row, column)).encode(), digest_size=8).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
            block = torch.randn(channels, BLOCK, BLOCK, generator=generator)
            square = Rectangle(row * BLOCK, (row + 1) * BLOCK, column * BLOCK, (column + 1) * BLOCK)
            both = Rectangle(
                max(square.top, where.top),
                min(square.bottom, where.bottom),
                max(square.left, where.left),
                min(square.right, where.right),
            )
            where.cut(result, both).copy_(square.cut(block, both))
    return result
