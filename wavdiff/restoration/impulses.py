"""Impulses: single values at black and at white that nothing around them explains (salt and pepper).

A value at an end of the range is an impulse where even the four of its eight neighbours that are most like it differ
from it much: edges, lines and corners have four that do not (rank-ordered differences: Garnett, Huegerich, Chui and He,
"A universal noise removal algorithm with an impulse detector", IEEE Trans. Image Processing 14, 2005). It becomes the
median of those neighbours that are no impulses themselves, in its channel.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from wavdiff.images.rectangle import Read, Rectangle
from wavdiff.restoration.octave_noise import AT_THE_END, flat_windows

LIKE = 4
"""Neighbours that would be like a value if it belonged to the picture."""
LEAST = 2 * 20 / 255
"""Mean difference from them, library units, of an impulse; and OUTLIER times the noise."""
OUTLIER = 5.0
SIMILAR, ALONE = 6, 3.0
"""So many neighbours must be alike: the impulse differs ALONE times as much from them as they do from their median."""
WINDOW_STEP = 16
FEWEST = 1e-3
"""Part of all values that must be impulses."""
BETWEEN = 0.3
"""Part of the values that must lie between the ends: a picture of black and white alone is a drawing."""


def cleaned_of_impulses(
    read: Read, size: tuple[int, int], wanted: bool | None, messages: list[str]
) -> Callable[[Read], Read] | None:
    """What replaces the impulses of a picture; None where there are none, or they are to stay.

    Args:
        read, size: the picture.
        wanted: whether they are replaced; None: where there are some at both ends; bright ones alone may be stars.
        messages: takes a line on what was found.
    """
    windows = None if wanted is False else flat_windows(read, size, WINDOW_STEP)
    if windows is None:
        return None
    deviation = deviation_of(windows)
    shares = find_impulses(windows, deviation)
    if not max(shares):
        return None
    where = " and ".join(end for end, share in zip(("black", "white"), shares, strict=True) if share)
    text = f"{100 * sum(shares):.1f} % of the values are single ones at {where}"
    if wanted is None and not min(shares):
        messages.append(f"{text}, left as they are: give --impulses to replace them by their neighbours' median")
        return None
    messages.append(f"{text} (impulses), replaced by the median of their neighbours; --no-impulses leaves them")
    return lambda noisy: without_impulses(noisy, size, deviation)


def find_impulses(windows: Tensor, deviation: float) -> tuple[float, float]:
    """Parts of the values of some windows (N, C, h, w) that are impulses at black and at white; 0 where too few."""
    flags = _flags(windows, deviation)
    at_ends = [windows <= AT_THE_END - 1, windows >= 1 - AT_THE_END]
    if 1 - float((at_ends[0] | at_ends[1]).float().mean()) < BETWEEN:
        return 0.0, 0.0
    found = [float((flags & there).float().mean()) for there in at_ends]
    black, white = (part if part >= FEWEST else 0.0 for part in found)
    return black, white


def without_impulses(read: Read, size: tuple[int, int], deviation: float) -> Read:
    """A picture whose impulses are replaced; `deviation` is that of its noise, library units."""

    def replaced(where: Rectangle) -> Tensor:
        region = where.grown(2, size)
        values = read(region)[None]
        flags = _flags(values, deviation)
        around = _neighbours(values)
        kept = torch.where(_neighbours(flags.float()) > 0, torch.nan, around)
        median = kept.nanmedian(dim=0).values
        median = torch.where(median.isnan(), around.median(dim=0).values, median)
        return region.cut(torch.where(flags, median, values)[0], where)

    return replaced


def deviation_of(windows: Tensor) -> float:
    """Standard deviation of the noise, or more: of what a value differs from its diagonal neighbours, by the median."""
    diagonal = (windows[..., 1:, 1:] - windows[..., 1:, :-1] - windows[..., :-1, 1:] + windows[..., :-1, :-1]) / 2
    flat = diagonal.abs().flatten()
    return float(flat[:: max(1, flat.numel() // 1_000_000)].median()) / 0.6745 if flat.numel() else 0.0


def _flags(values: Tensor, deviation: float) -> Tensor:
    """Which values (N, C, h, w) are impulses."""
    candidates = values.abs() >= 1 - AT_THE_END
    flags = torch.zeros_like(candidates)
    places = candidates.nonzero(as_tuple=True)
    if len(places[0]):
        padded = functional.pad(values, (1, 1, 1, 1), mode="replicate")
        centre = values[places]
        around = torch.stack([padded[places[0], places[1], places[2] + y, places[3] + x] for y, x in _AROUND])
        differences = (around - centre).abs()
        nearest = differences.sort(dim=0).values[:LIKE].mean(dim=0)
        spread = (around - around.median(dim=0).values).abs().sort(dim=0).values[:SIMILAR].mean(dim=0)
        flags[places] = (nearest > max(LEAST, OUTLIER * deviation)) & (nearest > ALONE * spread)
    return flags


def _neighbours(values: Tensor) -> Tensor:
    """(8, N, C, h, w) of (N, C, h, w); the border is repeated."""
    padded = functional.pad(values, (1, 1, 1, 1), mode="replicate")
    height, width = values.shape[-2:]
    return torch.stack([padded[..., y : y + height, x : x + width] for y, x in _AROUND])


_AROUND = [(y, x) for y in range(3) for x in range(3) if (y, x) != (1, 1)]
