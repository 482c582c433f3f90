"""Noise of one octave, from the flattest blocks of its details."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from wavdiff.images.rectangle import Read, Rectangle
from wavdiff.models import wavelets

WINDOW = 256
MOST_WINDOWS = 64
BLOCK = 8
"""Side of a block of details, on the grid of its octave."""
PART = 0.1
"""Part of the blocks that is measured."""
FEWEST = 6
SPREAD = 1.5
"""Spread of the block variances, as a multiple of that of white noise, above which texture is suspected."""


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
    """Level and standard error per channel of one octave, and whether it is noise that was measured."""

    levels: list[float]
    errors: list[float]
    determined: bool


def measure_octaves(windows: Tensor, octaves: int) -> list[Octave | None]:
    """The noise of every octave of windows (N, C, h, w), finest first; None where it cannot be measured."""
    clipped = torch.cat([(windows + end).abs() <= 1e-6 for end in (1, -1)], dim=1).float()  # (N, 2C, h, w)
    x = windows
    result: list[Octave | None] = []
    details, masks = [], []
    for _ in range(octaves + 1):
        if min(x.shape[-2:]) < 2 or x.shape[-2] % 2 or x.shape[-1] % 2:
            break
        x, d = wavelets.split(x)
        clipped = functional.avg_pool2d(clipped, 2)
        details.append(d)
        masks.append(clipped)
    for octave in range(octaves):
        if octave >= len(details):
            result.append(None)
            continue
        coarser = details[octave + 1] if octave + 1 < len(details) else None
        result.append(_measure(details[octave], coarser, masks[octave], 2.0**octave))
    return result


def _measure(d: Tensor, coarser: Tensor | None, clipped: Tensor, unit: float) -> Octave | None:
    """Levels of one octave from its details (N, 3C, h, w); `unit` brings them to the image's [0, 1] units."""
    side = BLOCK if min(d.shape[-2:]) >= 4 * BLOCK else 4 if min(d.shape[-2:]) >= 8 else 2
    if min(d.shape[-2:]) < side:
        return None
    channels = d.shape[1] // 3

    def blocks(values: Tensor, size: int) -> Tensor:
        return functional.avg_pool2d(values.square(), size).unflatten(1, (3, channels)).mean(dim=1)

    variance = blocks(d, side)  # (N, C, by, bx)
    by, bx = variance.shape[-2:]
    activity = variance.sum(dim=1)
    if coarser is not None and side >= 2:
        beside = blocks(coarser, side // 2).sum(dim=1)[:, :by, :bx]
        if beside.shape[-2:] == (by, bx):
            activity = beside
    ends = functional.avg_pool2d(clipped, side)[:, :, :by, :bx].unflatten(1, (2, channels))
    part = ends.sum(dim=1).amax(dim=1)
    free = next(part <= most for most in (0.005, 0.02, 0.05, 0.2, 1.0) if float((part <= most).float().mean()) >= 0.2)
    if float(part[free].mean()) > 0.2:  # mostly at the ends of the range: nothing can be said
        return None
    variance = variance / _clipped_variance(ends[:, 0], ends[:, 1])
    values = variance.permute(1, 0, 2, 3)[:, free]  # (C, M)
    count = values.shape[1]
    take = min(count, max(FEWEST, round(PART * count)))
    chosen = values[:, activity[free].argsort()[:take]]
    degrees = 3 * side * side
    median = chosen.median(dim=1).values / (1 - 2 / (9 * degrees)) ** 3  # the median of chi-square over its mean
    levels = (median.sqrt() * unit).tolist()
    spread = float((chosen.std(dim=1) / chosen.mean(dim=1).clamp(min=1e-12)).median()) if take > 1 else 1.0
    expected = math.sqrt(2 / degrees)
    errors = [level / 2 * 1.25 * max(spread, expected) / math.sqrt(take) for level in levels]
    return Octave(levels, errors, spread < SPREAD * expected)


def _clipped_variance(below: Tensor, above: Tensor) -> Tensor:
    """Variance of a standard normal variable limited so that parts `below` and `above` sit at the ends."""
    low = torch.special.ndtri(below.double().clamp(1e-9, 0.49))
    high = -torch.special.ndtri(above.double().clamp(1e-9, 0.49))
    density = [(-end.square() / 2).exp() / math.sqrt(2 * math.pi) for end in (low, high)]
    outside = [torch.special.ndtr(low), torch.special.ndtr(-high)]
    mean = low * outside[0] + high * outside[1] + density[0] - density[1]
    square = low.square() * outside[0] + high.square() * outside[1]
    square = square + 1 - outside[0] - outside[1] + low * density[0] - high * density[1]
    return (square - mean.square()).clamp(min=0.05).float()
