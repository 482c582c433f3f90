"""Better means for more time: the mean over copies of a picture that are turned, mirrored and shifted.

A wavelet cascade sees a grid, and its networks are not quite symmetric. What each makes of a copy, brought back, has
the same expectation with other errors, and the mean has fewer of them (cycle spinning: Coifman and Donoho,
"Translation-invariant de-noising", 1995; self-ensembles: Timofte, Rothe and Van Gool, CVPR 2016). Enlarging leaves the
block means of every copy alone, and so those of their mean; only shifts would change the blocks, and are not used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from wavdiff.images.disk_array import Plane
from wavdiff.images.rectangle import Read, Rectangle, Write
from wavdiff.restoration.frame import FramedPicture
from wavdiff.restoration.plain import Plain
from wavdiff.restoration.request import QUALITIES, Quality

SHIFT = 5
"""Pixels: another place on the grids of 2, 4 and 8 pixels."""


@dataclass(frozen=True)
class Copy:
    """A picture that is shifted, then mirrored left and right, then turned.

    Attributes:
        turns: quarter turns, counter-clockwise.
        mirrored: whether it is mirrored.
        shift: pixels of its mirror image around it.
    """

    turns: int = 0
    mirrored: bool = False
    shift: int = 0

    def of(self, picture: Plain) -> Plain:
        """The copy of a picture."""
        if self == Copy():
            return picture
        read, size = picture.read, picture.size
        if self.shift:
            framed = FramedPicture(read, size, picture.channels, self.shift)
            read, size = framed.read, framed.size
        turned = size[::-1] if self.turns % 2 else size
        return replace(picture, read=self._reading(read, turned), size=turned)

    def back(self, write: Write, size: tuple[int, int]) -> Write:
        """Takes the result for the copy, and hands on that for the picture, whose result has `size`."""
        if self == Copy():
            return write
        height, width = (side + 2 * self.shift for side in size)
        turned = (width, height) if self.turns % 2 else (height, width)
        inner = Rectangle(self.shift, self.shift + size[0], self.shift, self.shift + size[1])

        def hand_on(where: Rectangle, values: Tensor) -> None:
            values = torch.rot90(values, -self.turns, (-2, -1))
            place, seen = self._origin(where, turned), values.flip(-1) if self.mirrored else values
            common = place.common(inner)
            if common.height > 0 and common.width > 0:
                write(common.relative_to(inner), place.cut(seen, common))

        return hand_on

    def _reading(self, read: Read, turned: tuple[int, int]) -> Read:
        def turning(where: Rectangle) -> Tensor:
            values = read(self._origin(where, turned))
            return torch.rot90(values.flip(-1) if self.mirrored else values, self.turns, (-2, -1))

        return turning

    def _origin(self, where: Rectangle, turned: tuple[int, int]) -> Rectangle:
        """The place in the picture that is at `where` in the copy, which has the size `turned`."""
        height, width = turned
        for _ in range(self.turns):
            where = Rectangle(where.left, where.right, height - where.bottom, height - where.top)
            height, width = width, height
        return Rectangle(where.top, where.bottom, width - where.right, width - where.left) if self.mirrored else where


DENOISING = tuple(
    Copy(turns, mirrored, SHIFT * mirrored)
    for turns, mirrored in ((0, False), (1, True), (2, False), (3, True), (1, False), (0, True), (3, False), (2, True))
)
ENLARGING = tuple(
    Copy(turns, mirrored)
    for turns, mirrored in ((0, False), (2, False), (0, True), (2, True), (1, False), (3, False), (1, True), (3, True))
)
"""Of each, the first two were the best pair on the validation photographs."""


def copies_of(quality: Quality, factor: int, may_turn: bool) -> tuple[Copy, ...]:
    """The copies that a quality asks for.

    Args:
        quality: see `QUALITIES`.
        factor: 1 to denoise.
        may_turn: whether the model takes pictures that are turned for pictures of its kind; if not, there are two
            copies at most: as it is, and mirrored.
    """
    order: Sequence[Copy] = [Copy(), Copy(mirrored=True)]
    if may_turn:
        order = DENOISING if factor == 1 else ENLARGING
    return tuple(order[: QUALITIES[quality]])


def write_averaged(
    run: Callable[[Plain, Write], None],
    picture: Plain,
    copies: Sequence[Copy],
    size: tuple[int, int],
    write: Write,
    *,
    in_memory: bool,
) -> None:
    """Write the mean of what `run` makes of the copies.

    Args:
        run: restores a picture.
        picture: the picture.
        copies: at least one.
        size: (height, width) of the result.
        write: takes the mean.
        in_memory: whether the sum may lie there.
    """
    if len(copies) == 1:
        run(copies[0].of(picture), copies[0].back(write, size))
        return
    total = Plane(picture.channels, *size, in_memory=in_memory)

    def add(where: Rectangle, values: Tensor) -> None:
        total.write(where, total.read(where) + values)

    try:
        for copy in copies:
            run(copy.of(picture), copy.back(add, size))
        Plain(lambda where: total.read(where) / len(copies), size, picture.channels).hand_over(write)
    finally:
        total.close()
