"""Colour for a gray cascade: the channels apart, or luma and two differences of colour.

With the opponent colours of Dabov, Foi, Katkovnik and Egiazarian (CBM3D, 2007), scaled by 1 / sqrt(3) as a whole so
that luma is the mean of the channels and has their range,

    (R + G + B) / 3,    (R - B) / sqrt(6),    (R - 2 G + B) / sqrt(18),

white noise of standard deviation s in every channel becomes white noise of s / sqrt(3) in every plane. Luma has most of
the picture in it and meets the networks with less noise than a channel does.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from wavdiff.images import PictureInfo, Planes
from wavdiff.images.rectangle import Read, Write

if TYPE_CHECKING:
    pass


LUMA_NOISE = 1 / math.sqrt(3)
"""Standard deviation of noise in a plane, as a part of that in a channel."""


_ROWS = ((1.0, 1.0, 1.0), (1.0, 0.0, -1.0), (1.0, -2.0, 1.0))


_PLANES = torch.tensor(_ROWS, dtype=torch.float64)


_OPPONENT = _PLANES / (3 * _PLANES.square().sum(dim=1, keepdim=True)).sqrt()


def to_luma(colour: Tensor) -> Tensor:
    """RGB (3, h, w) in [-1, 1] as luma and colour differences, in the same range."""
    return torch.einsum("pc,chw->phw", _OPPONENT.to(colour), colour)


def from_luma(planes: Tensor) -> Tensor:
    """The inverse of `to_luma`."""
    return 3 * torch.einsum("pc,phw->chw", _OPPONENT.to(planes), planes)


def reading_luma(read: Read) -> Read:
    """`read` of an RGB picture, as luma and colour differences."""
    return lambda top, bottom, left, right: to_luma(read(top, bottom, left, right))


def writing_luma(write: Write) -> Write:
    """A write of luma and colour differences that hands RGB on to `write`."""
    return lambda top, left, values: write(top, left, from_luma(values))


VISIBLE = 1 / 1024


class Source(Protocol):
    """A picture that is read by rectangles: `images.PictureReader`, or one in memory."""

    info: PictureInfo

    def read(self, top: int, bottom: int, left: int, right: int) -> Planes:
        """Rows top to bottom - 1, columns left to right - 1."""
        ...


class MemorySource:
    """Planes in memory as a source; `info` says which there are."""

    def __init__(self, planes: Planes, info: PictureInfo) -> None:
        self.planes, self.info = planes, info

    def read(self, top: int, bottom: int, left: int, right: int) -> Planes:
        """Rows top to bottom - 1, columns left to right - 1; not to be written to."""

        def cut(values: Tensor | None) -> Tensor | None:
            return None if values is None else values[:, top:bottom, left:right]

        colour = self.planes.colour[:, top:bottom, left:right]
        return Planes(colour, cut(self.planes.alpha), cut(self.planes.key))
