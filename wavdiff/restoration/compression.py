"""Was a picture a JPEG once? The lattice that its quantisation leaves behind, also in a file of another kind.

JPEG rounds every coefficient of the cosine transform of 8x8 blocks to multiples of a step of its own, and a decoder
adds only what rounding to 8 bits does. So the coefficients of such a picture, taken on the same grid of blocks, lie on
a lattice, which the characteristic function shows: the mean of cos(2 pi c / q) over the coefficients c away from 0 is
exp(-2 pi^2 e^2 / q^2) for errors of deviation e around multiples of q, and near 0 where there is no lattice. (Fan and
de Queiroz, "Identification of bitmap compression history: JPEG detection and quantizer estimation", 2003, look for the
same lattice by its likelihood.) Noise that was added after compression makes e larger than rounding does: such a
picture has white noise, and does not count. Nor is compression seen that rounded to steps of 1 (quality 98 and above),
or whose picture was scaled afterwards; one that was cut has its grid elsewhere, and all 64 places are tried, those
others with few frequencies, which show qualities of up to about 92.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

BLOCK = 8
LOW = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2), (2, 1), (2, 2), (0, 3), (3, 0))
ALL = tuple((row, column) for row in range(BLOCK) for column in range(BLOCK) if row or column)
STEPS = torch.arange(2, 41)
"""Steps of quantisation that are looked for ..."""
DIVISORS = torch.tensor([2, 3, 4, 5, 7, 9, 11, 13, 17, 19, 23])
"""... and by which: multiples of a step are multiples of what divides it."""
FEWEST = 40
"""Coefficients away from 0 of a frequency that has a say."""
SIGNIFICANT = 6.0
"""Standard errors of the mean of cosines, under no lattice."""
ROUNDED = 0.7
"""Largest error around a lattice, in 8-bit values, that rounding of the picture explains."""
COMMON = 0.3
"""How often the first multiple of a step is met at least, as part of the most common one."""
MOST_WINDOWS = 4
FIRST = LOW[:3]
SEARCHED = 128
"""Pixels of a window that are looked at, at FIRST, for where a grid may begin."""
_LUMA = torch.tensor([0.299, 0.587, 0.114])


def was_compressed(windows: Tensor) -> bool:
    """Whether windows (N, C, h, w) in [-1, 1] lie on a JPEG's lattice, wherever its grid begins."""
    windows = windows[:: max(1, len(windows) // MOST_WINDOWS)][:MOST_WINDOWS] * 127.5
    luma = torch.einsum("c,nchw->nhw", _LUMA, windows) if windows.shape[1] == 3 else windows[:, 0]
    if min(luma.shape[-2:]) < 3 * BLOCK:
        return False
    if _on_lattice(luma, ALL):
        return True
    shown = _lattices(_at_all_places(luma[0, :SEARCHED, :SEARCHED])) == 1
    likely = shown.view(len(FIRST), BLOCK, BLOCK).any(dim=0).nonzero().tolist()
    return any(_on_lattice(luma[:1, top:, left:], LOW) for top, left in likely)


def _on_lattice(luma: Tensor, frequencies: tuple[tuple[int, int], ...]) -> bool:
    """Whether at least a quarter of the frequencies that have a say, and three of them, show a lattice."""
    blocks = luma.unfold(1, BLOCK, BLOCK).unfold(2, BLOCK, BLOCK).flatten(0, 2)
    found = _lattices(torch.einsum("nij,fij->fn", blocks, _waves(frequencies)))
    return int((found == 1).sum()) >= max(3, math.ceil(int((found >= 0).sum()) / 4))


def _at_all_places(luma: Tensor) -> Tensor:
    """Coefficients (FIRST x 64 places, N) of an image (h, w), as if its grid began at each."""
    found = functional.conv2d(luma[None, None], _waves(FIRST)[:, None])[0]
    rows, columns = (side // BLOCK for side in found.shape[-2:])
    phases = found[:, : rows * BLOCK, : columns * BLOCK].unflatten(2, (columns, BLOCK)).unflatten(1, (rows, BLOCK))
    return phases.permute(0, 2, 4, 1, 3).flatten(3).flatten(0, 2)


def _lattices(coefficients: Tensor) -> Tensor:
    """For each row of (F, N): 1 where they are multiples of one of STEPS, to rounding, 0 where not, -1: too few."""
    found, _ = _shown(coefficients, DIVISORS)
    result = torch.where((coefficients.abs() > 1).sum(dim=1) < FEWEST, -1, 0)
    for row in (found.any(dim=1) & (result == 0)).nonzero().flatten().tolist():
        result[row] = int(_falls_off(coefficients[row]))
    return result


def _shown(coefficients: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
    """(F, S) of (F, N) and steps: whether a lattice shows that rounding explains, or any that is clear."""
    away = coefficients.abs()[:, None] > steps[:, None] / 2
    count = away.sum(dim=2)
    waves = torch.cos(coefficients[:, None] * (2 * math.pi / steps[:, None]))
    mean = (waves * away).sum(dim=2) / count.clamp(min=1)
    error = steps / math.pi * (-mean.clamp(1e-6, 1).log() / 2).sqrt()
    certain = (mean * (2 * count).sqrt() > SIGNIFICANT) & (count >= FEWEST)
    return certain & (error < ROUNDED), certain & (mean > 0.5)


def _falls_off(coefficients: Tensor) -> bool:
    """Whether the first multiple of their step is common, as it is in pictures; drawings have a few large ones."""
    step = STEPS[torch.logical_or(*_shown(coefficients[None], STEPS))[0].nonzero().max()]  # what divides it shows too
    multiples = coefficients[coefficients.abs() > step / 2] / step
    counts = torch.bincount(multiples.abs().round().long())
    return bool(counts[1] >= COMMON * counts[1:].max())


def _waves(frequencies: tuple[tuple[int, int], ...]) -> Tensor:
    """(F, 8, 8): the basis of those frequencies."""
    cosines = _cosines()
    return torch.stack([torch.outer(cosines[row], cosines[column]) for row, column in frequencies])


def _cosines() -> Tensor:
    """The orthonormal cosine transform of 8 values, a row per frequency."""
    place, frequency = torch.arange(BLOCK), torch.arange(BLOCK)[:, None]
    rows = torch.cos(math.pi * (2 * place + 1) * frequency / (2 * BLOCK)) * math.sqrt(2 / BLOCK)
    rows[0] /= math.sqrt(2)
    return rows
