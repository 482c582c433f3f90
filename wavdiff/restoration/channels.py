"""Channels around a picture: opacity, and colour for a gray cascade.

A gray cascade takes the channels of an RGB picture apart, or luma and two differences of colour.

With the opponent colours of Dabov, Foi, Katkovnik and Egiazarian (CBM3D, 2007), scaled by 1 / sqrt(3) as a whole so
that luma is the mean of the channels and has their range,

    (R + G + B) / 3,    (R - B) / sqrt(6),    (R - 2 G + B) / sqrt(18),

white noise of standard deviation s in every channel becomes white noise of s / sqrt(3) in every plane. Luma has most of
the picture in it and meets the networks with less noise than a channel does.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from wavdiff.images import PictureInfo, Planes
from wavdiff.images.rectangle import Read, Rectangle, Write
from wavdiff.models.random_numbers import position_noise

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
    return lambda where: to_luma(read(where))


def writing_luma(write: Write) -> Write:
    """A write of luma and colour differences that hands RGB on to `write`."""
    return lambda where, values: write(where, from_luma(values))


def rescaled_read(read: Read, factor: float) -> Read:
    """`read` with values, counted from black, times `factor`."""
    return lambda where: (read(where) + 1) * factor - 1


def rescaled_write(write: Write, factor: float) -> Write:
    """A write of values that hands them on times `factor`."""
    return lambda where, values: write(where, (values + 1) * factor - 1)


def with_noise(read: Read, level: float, seed: int, channels: int) -> Read:
    """`read` with white noise of a level, library units, a function of seed and place."""
    return lambda where: read(where) + level * position_noise((seed, "added noise"), channels, where)


def opacity_of(source: Source, *, filled: bool = False) -> Read | None:
    """The opacity of a picture by its rectangles, (1, h, w) in [0, 1], `filled` with 1; None: it has none."""

    def read(where: Rectangle) -> Tensor:
        if filled:
            return torch.ones(1, where.height, where.width)
        alpha = source.read(where).alpha
        assert alpha is not None
        return alpha

    return read if source.info.has_alpha else None


def premultiplied(source: Source) -> Read:
    """Colour times opacity, where 0 is black."""

    def read(where: Rectangle) -> Tensor:
        planes = source.read(where)
        assert planes.alpha is not None
        return (planes.colour + 1) * planes.alpha - 1

    return read


def unmultiplied(colour: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """Colour and opacity in [0, 1] of premultiplied colour and opacity in [-1, 1]; what is invisible is black."""
    alpha = ((alpha + 1) / 2).clamp(0, 1)
    light = torch.where(alpha > _VISIBLE, (colour + 1) / 2 / alpha.clamp(min=_VISIBLE), torch.zeros(()))
    return 2 * light.clamp(0, 1) - 1, alpha


def limited(read: Read, size: tuple[int, int], factor: int, write: Write) -> Write:
    """A write that keeps enlarged values within the range of the small picture's nine pixels around them.

    What is opaque all around stays opaque to the last bit, and what is transparent stays transparent.
    """

    def limit(where: Rectangle, values: Tensor) -> None:
        small = Rectangle(
            where.top // factor, -(-where.bottom // factor), where.left // factor, -(-where.right // factor)
        )
        region = small.grown(1, size)
        around = read(region)[None]
        upper, lower = (sign * max_pool2d(sign * around, 3, stride=1, padding=1)[0] for sign in (1, -1))
        limits = []
        for bound in (lower, upper):
            large = region.cut(bound, small).repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)
            limits.append(small.scaled(factor).cut(large, where))
        write(where, torch.maximum(torch.minimum(values, limits[1]), limits[0]))

    return limit


_VISIBLE = 1 / 1024


class Source(Protocol):
    """A picture that is read by rectangles: `images.PictureReader`, or one in memory."""

    info: PictureInfo

    def read(self, where: Rectangle) -> Planes:
        """The planes of a rectangle."""
        ...


class MemorySource:
    """Planes in memory as a source; `info` says which there are."""

    def __init__(self, planes: Planes, info: PictureInfo) -> None:
        self.planes, self.info = planes, info

    def read(self, where: Rectangle) -> Planes:
        """The planes of a rectangle; not to be written to."""

        def cut(values: Tensor | None) -> Tensor | None:
            return None if values is None else where.of(values)

        return Planes(where.of(self.planes.colour), cut(self.planes.alpha), cut(self.planes.key))
