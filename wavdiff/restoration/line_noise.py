"""Rows and columns that differ as wholes: noise of scanners and sensors, which is not white.

The median of a row's vertical details tells an offset of the whole row from content, which rarely goes straight across
a window. Beside white noise of the same details the medians of n independent ones have 1.25 / sqrt(n) of its deviation;
lines have more than LINES of it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from wavdiff.models import wavelets
from wavdiff.restoration.octave_noise import AT_THE_END

LINES = 0.4
LEAST = 1.5 / 255
"""Deviation of offsets, [0, 1] units, below which nothing is said."""
FEWEST = 32
"""Details of a line of a window."""
DEVIATION = 1.4826
"""Standard deviation of a normal variable, over the median of its absolute value."""


def line_levels(windows: Tensor) -> tuple[float, float]:
    """Standard deviations of the offsets of rows and of columns, [0, 1] units; 0 where there are none.

    Args:
        windows: (N, C, h, w) of a picture, library units.
    """
    if min(windows.shape[-2:]) < 2 * FEWEST:
        return 0.0, 0.0
    bands = wavelets.split(windows)[1].unflatten(1, (3, windows.shape[1]))
    cut_off = functional.max_pool2d((windows.abs() >= 1 - AT_THE_END).float(), 2) > 0
    rows, columns = (torch.where(cut_off, torch.nan, bands[:, band]) for band in (0, 1))
    return _level(rows, -1), _level(columns, -2)


def _level(details: Tensor, along: int) -> float:
    """Of details (N, C, h, w) across the lines that run `along` an axis; NaN is not known."""
    offsets = details.nanmedian(dim=along, keepdim=True).values
    rest = DEVIATION * (details - offsets).abs().flatten(2).nanmedian(dim=-1).values
    spread = offsets.flatten(2)
    spread = DEVIATION * (spread - spread.nanmedian(dim=-1, keepdim=True).values).abs().nanmedian(dim=-1).values
    if not float((spread / rest.clamp(min=1e-6)).nanmedian()) >= LINES:  # or nothing is left
        return 0.0
    level = float(spread.nanmedian()) / 2**0.5  # a detail is the difference of two lines, in [0, 1] units
    return level if level >= LEAST else 0.0
