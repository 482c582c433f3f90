"""Noise of one octave, from the flattest blocks of its details."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from wavdiff.images.rectangle import Read, Rectangle
from wavdiff.models import wavelets

WINDOW = 256
MOST_WINDOWS = 64
AT_THE_END = 0.5 / 255
"""How near to black or white, library units, single values count as there."""
BLOCK = 8
"""Side of a block of details, on the grid of its octave."""
PART = 0.1
"""Part of the blocks that is measured."""
FEWEST = 6
CONSTANT = 1e-4
"""Details below it, library units, side by side, are a bar, paper or a mask: that was never noisy."""
FLAT_PART = 0.05
"""Part of the finest octave that is constant from which on the rest must look like noise to be taken for it."""
ENOUGH = 0.2
"""Part of the other blocks that must be left after those at the ends of the range."""
CLIPPED = (0.005, 0.02, 0.05, 0.1, 0.2, 0.35, 0.55)
"""Most values at the ends of the range in blocks that are measured: the first that leaves enough of them."""
SPREAD = 1.5
"""Spread of the block variances, as a multiple of that of white noise, above which texture is suspected."""


DRAWN = 0.95
"""Values at the ends of the range, in every block, from which on a picture is one of black and white: noise would show
between them."""


def flat_windows(read: Read, size: tuple[int, int], step: int) -> Tensor | None:
    """(N, C, h, w): windows on a grid over the picture, sides multiples of `step`; None where it is too small."""
    height, width = (min(side, WINDOW) // step * step for side in size)
    while step > 2 and (height == 0 or width == 0):
        step //= 2
        height, width = (min(side, WINDOW) // step * step for side in size)
    if height == 0 or width == 0:
        return None
    rows, columns = size[0] // height, size[1] // width
    shrink = max(1.0, (rows * columns / MOST_WINDOWS) ** 0.5)
    rows, columns = max(1, int(rows / shrink)), max(1, int(columns / shrink))
    rows, columns = max(1, min(rows, MOST_WINDOWS // columns)), max(1, min(columns, MOST_WINDOWS // rows))
    found = []
    for row in range(rows):
        for column in range(columns):
            top = (size[0] - height) * row // max(rows - 1, 1) // step * step
            left = (size[1] - width) * column // max(columns - 1, 1) // step * step
            found.append(read(Rectangle(top, top + height, left, left + width)).float())
    return torch.stack(found)


@dataclass(frozen=True)
class Octave:
    """Level and standard error per channel of one octave, whether it is noise that was measured, whether nothing could
    be, because values lie at the ends of the range, and the part of all blocks that had a say."""

    levels: list[float]
    errors: list[float]
    determined: bool
    cut_off: bool = False
    part: float = 1.0


def measure_octaves(windows: Tensor, octaves: int) -> list[Octave | None]:
    """The noise of every octave of windows (N, C, h, w), finest first; None where it cannot be measured."""
    details, clipped = _decomposed(windows, octaves + 1)
    result: list[Octave | None] = []
    for octave, d in enumerate(details[:octaves]):
        side = BLOCK if min(d.shape[-2:]) >= 4 * BLOCK else 4 if min(d.shape[-2:]) >= 8 else 2
        coarser = details[octave + 1] if octave + 1 < len(details) else None
        fits = min(d.shape[-2:]) >= side
        result.append(_measure(_blocks(d, coarser, clipped[octave], side), 2.0**octave) if fits else None)
    return result + [None] * (octaves - len(result))


def flat_blocks(windows: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
    """Brightness and variance of noise in [0, 1] units, and activity, (M,) each: of small blocks of every channel.

    None where the windows (N, C, h, w) have no blocks. Blocks that are constant or cut off are left out.
    """
    details, clipped = _decomposed(windows, 2)
    if len(details) < 2 or min(details[0].shape[-2:]) < BLOCK:
        return None
    blocks = _blocks(details[0], details[1], clipped[0], BLOCK // 2)
    by, bx = blocks.variance.shape[-2:]
    brightness = functional.avg_pool2d(windows, BLOCK)[:, :, :by, :bx]
    free = ((blocks.part <= CLIPPED[2]) & ~blocks.constant)[:, None].expand_as(brightness)
    activity = blocks.activity[:, None].expand_as(brightness)
    return (brightness[free] + 1) / 2, blocks.variance[free], activity[free]


def _decomposed(windows: Tensor, octaves: int) -> tuple[list[Tensor], list[Tensor]]:
    """Details of every octave (N, 3C, h, w), and the parts of their pixels at the upper and lower end (N, 2C, h, w)."""
    ends = torch.cat([(windows + end).abs() <= 1e-6 for end in (1, -1)], dim=1).float()
    x, details, clipped = windows, list[Tensor](), list[Tensor]()
    for _ in range(octaves):
        if min(x.shape[-2:]) < 2 or x.shape[-2] % 2 or x.shape[-1] % 2:
            break
        x, d = wavelets.split(x)
        ends = functional.avg_pool2d(ends, 2)
        details.append(d)
        clipped.append(ends)
    return details, clipped


@dataclass(frozen=True)
class _Blocks:
    """Blocks of one octave: their variance (N, C, by, bx) in units of their details, corrected for values that are cut
    off, and (N, by, bx) activity, whether they are constant, and the part of their values at the ends of the range."""

    variance: Tensor
    activity: Tensor
    constant: Tensor
    part: Tensor
    side: int
    flat_part: float
    """Part of all details that is constant."""


def _blocks(d: Tensor, coarser: Tensor | None, clipped: Tensor, side: int) -> _Blocks:
    channels = d.shape[1] // 3

    def variances(values: Tensor, size: int) -> Tensor:
        square = functional.avg_pool2d(values.square(), size)
        if size > 2:  # about the block's mean, which a slope of the picture leaves in its details
            mean = functional.avg_pool2d(values, size)
            square = (square - mean.square()).clamp(min=0) * (size**2 / (size**2 - 1))
        return square.unflatten(1, (3, channels)).mean(dim=1)

    variance = variances(d, side)
    moving = (d.abs() >= CONSTANT).any(dim=1, keepdim=True).float()
    still = 1 - functional.max_pool2d(moving, 3, stride=1, padding=1)  # single zeros are rounded noise
    constant = functional.avg_pool2d(still, side)[:, 0] > 0.05
    beside = functional.max_pool2d(constant[:, None].float(), 3, stride=1, padding=1)[:, 0] > 0
    if not bool(beside.all()):  # into which JPEG smears what it makes of an edge
        constant = beside
    by, bx = variance.shape[-2:]
    activity = variance.sum(dim=1)
    if coarser is not None:
        next_coarser = variances(coarser, side // 2).sum(dim=1)[:, :by, :bx]
        if next_coarser.shape[-2:] == (by, bx):
            activity = next_coarser
    ends = functional.avg_pool2d(clipped, side)[:, :, :by, :bx].unflatten(1, (2, channels))
    part = ends.sum(dim=1).amax(dim=1)
    variance = variance / _clipped_variance(ends[:, 0], ends[:, 1])
    return _Blocks(variance, activity, constant, part, side, float(still.mean()))


def _measure(blocks: _Blocks, unit: float) -> Octave:
    """Levels of one octave; `unit` brings them to the image's [0, 1] units."""
    channels = blocks.variance.shape[1]
    nothing = Octave([0.0] * channels, [0.0] * channels, True)
    voting, part = ~blocks.constant, blocks.part
    if not bool(voting.any()) or float(part[voting].min()) > DRAWN:
        return nothing
    enough = max(FEWEST, round(ENOUGH * int(voting.sum())))
    choices = ((part <= most) & voting for most in CLIPPED)
    free = next((members for members in choices if int(members.sum()) >= enough), None)
    if free is None:  # mostly at the ends of the range: nothing can be said
        return replace(nothing, determined=False, cut_off=True)
    values = blocks.variance.permute(1, 0, 2, 3)[:, free]  # (C, M)
    count = values.shape[1]
    take = min(count, max(FEWEST, round(PART * count)))
    chosen = values[:, blocks.activity[free].argsort()[:take]]
    degrees = 3 * (blocks.side**2 - (blocks.side > 2))
    median = chosen.median(dim=1).values / (1 - 2 / (9 * degrees)) ** 3  # the median of chi-square over its mean
    levels = (median.sqrt() * unit).tolist()
    spread = float((chosen.std(dim=1) / chosen.mean(dim=1).clamp(min=1e-12)).median()) if take > 1 else 1.0
    expected = math.sqrt(2 / degrees)
    errors = [level / 2 * 1.25 * max(spread, expected) / math.sqrt(take) for level in levels]
    determined = spread < SPREAD * expected
    if unit == 1 and blocks.flat_part > FLAT_PART and not determined:  # a drawing: what is not flat is content
        return nothing
    return Octave(levels, errors, determined, part=float(free.float().mean()))


def _clipped_variance(below: Tensor, above: Tensor) -> Tensor:
    """Variance of a standard normal variable limited so that parts `below` and `above` sit at the ends."""
    low = torch.special.ndtri(below.double().clamp(1e-9, 0.6))
    high = -torch.special.ndtri(above.double().clamp(1e-9, 0.6))
    density = [(-end.square() / 2).exp() / math.sqrt(2 * math.pi) for end in (low, high)]
    outside = [torch.special.ndtr(low), torch.special.ndtr(-high)]
    mean = low * outside[0] + high * outside[1] + density[0] - density[1]
    square = low.square() * outside[0] + high.square() * outside[1]
    square = square + 1 - outside[0] - outside[1] + low * density[0] - high * density[1]
    return (square - mean.square()).clamp(min=0.05).float()
