"""Block means of an enlarged picture whose values end at black and white.

A model's enlarged picture has the small one as its block means, but may leave the range of a file a little, most of all
at the edges of black text on white; cut off there, the means move, by up to 17/255. Among the pictures within the range
the nearest one that has the means is, block by block,

    z = clip(v + c, lower, upper),    mean(z) = m,

with one number c a block: the Euclidean projection onto a box and a plane (its Lagrange condition). The mean grows with
c, which is found by halving an interval. A block that lies within the range has c = 0 and stays what it is to the bit.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from wavdiff.images.disk_array import Plane
from wavdiff.images.picture import Planes
from wavdiff.images.rectangle import Read, Rectangle, Write, bands

HALVINGS = 30
"""Of an interval as wide as four times the range: to 4e-9 of it, less than float32 resolves."""


def projected(values: Tensor, means: Tensor, factor: int, upper: Tensor | None = None) -> Tensor:
    """The nearest values in [-1, upper] with block means `means`.

    Args:
        values: (C, factor h, factor w), library units.
        means: (C, h, w); what lies outside of what a block can have is limited to it.
        factor: side of a block.
        upper: (1 or C, factor h, factor w), at least -1; None: 1.

    Returns:
        (C, factor h, factor w).
    """
    above = torch.ones_like(values) if upper is None else upper.expand_as(values)
    blocks, highest = _blocks(values, factor), _blocks(above, factor)
    outside = ((blocks < -1) | (blocks > highest)).any(dim=-1)
    if not bool(outside.any()):
        return values
    chosen, limit = blocks[outside].double(), highest[outside].double()
    wanted = means[outside].double()[:, None]
    low, high = torch.full_like(wanted, -4), torch.full_like(wanted, 4)
    low, high = torch.minimum(low, -1 - chosen.amax(1, True)), torch.maximum(high, 1 - chosen.amin(1, True))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        less = torch.minimum((chosen + middle).clamp(min=-1), limit).mean(1, True) < wanted
        low, high = torch.where(less, middle, low), torch.where(less, high, middle)
    blocks[outside] = torch.minimum((chosen + (low + high) / 2).clamp(min=-1), limit).to(blocks)
    height, width = means.shape[-2:]
    return blocks.reshape(-1, height, width, factor, factor).transpose(2, 3).reshape(values.shape)


def _blocks(values: Tensor, factor: int) -> Tensor:
    """(C, factor h, factor w) as (C, h, w, factor^2), a copy."""
    channels, height, width = values.shape
    split = values.reshape(channels, height // factor, factor, width // factor, factor)
    return split.transpose(2, 3).reshape(channels, height // factor, width // factor, factor**2).clone()


def write_projected(plane: Plane, small: Read, factor: int, upper: Read | None, write: Write) -> None:
    """Hand an enlarged picture on, projected.

    Args:
        plane: what was enlarged.
        small: the small picture, library units.
        factor: side of a block.
        upper: the largest values, such as those that opacity leaves to premultiplied colour; None: 1.
        write: takes the result.
    """
    height, width = (side // factor for side in plane.size)
    for band in bands((height, width), max(1, (1 << 20) // (width * factor**2))):
        place = band.scaled(factor)
        write(place, projected(plane.read(place), small(band), factor, upper and upper(place)))


class BlockMeans:
    """Compares block means of what is written to a file with the small picture.

    Args:
        small: reads the small picture, premultiplied where there is opacity.
        factor: side of a block.
        completed: what is written for a rectangle of colour.
        maximum: largest integer of the file.
        denoised: whether the small picture was denoised before.
    """

    def __init__(
        self,
        small: Read,
        factor: int,
        completed: Callable[[Rectangle, Tensor], Planes],
        maximum: int,
        denoised: bool = False,
    ) -> None:
        self._of = "the denoised input" if denoised else "the input"
        self._small, self._factor, self._completed, self._maximum = small, factor, completed, maximum
        self.largest = 0.0

    def watching(self, write: Write) -> Write:
        """`write`, watched; rectangles hold whole blocks."""

        def compare(where: Rectangle, values: Tensor) -> None:
            planes, steps = self._completed(where, values), self._maximum
            light = ((planes.colour + 1) * (steps / 2)).round().clamp(0, steps) / steps
            if planes.alpha is not None:
                light = light * (planes.alpha * steps).round() / steps
            blocks = Rectangle(*(edge // self._factor for edge in (where.top, where.bottom, where.left, where.right)))
            means = avg_pool2d(light.double()[None], self._factor)[0]
            given = (self._small(blocks).double() + 1) / 2
            self.largest = max(self.largest, float((means - given).abs().max()))
            write(where, values)

        return compare

    def report(self) -> str:
        """What was found, as a line."""
        return (
            f"block means of the result differ from {self._of} by at most {255 * self.largest:.2g}/255, rounding to "
            f"{self._maximum.bit_length()} bits included"
        )
