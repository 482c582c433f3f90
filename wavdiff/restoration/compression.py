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

BLOCK = 8
LOW = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2), (2, 1), (2, 2), (0, 3), (3, 0))
ALL = tuple((row, column) for row in range(BLOCK) for column in range(BLOCK) if row or column)
STEPS = torch.arange(2, 41)
"""Steps of quantisation that are looked for."""
FEWEST = 40
"""Coefficients away from 0 of a frequency that has a say."""
SIGNIFICANT = 6.0
"""Standard errors of the mean of cosines, under no lattice."""
ROUNDED = 0.7
"""Largest error around a lattice, in 8-bit values, that rounding of the picture explains."""
COMMON = 0.3
"""How often the first multiple of a step is met at least, as part of the most common one."""
MOST_WINDOWS = 4
_LUMA = torch.tensor([0.299, 0.587, 0.114])


def was_compressed(windows: Tensor) -> bool:
    """Whether windows (N, C, h, w) in [-1, 1] lie on a JPEG's lattice, wherever its grid begins."""
    windows = windows[:: max(1, len(windows) // MOST_WINDOWS)][:MOST_WINDOWS] * 127.5
    luma = torch.einsum("c,nchw->nhw", _LUMA, windows) if windows.shape[1] == 3 else windows[:, 0]
    if min(luma.shape[-2:]) < 3 * BLOCK:
        return False
    places = ((top, left) for top in range(BLOCK) for left in range(BLOCK))
    return _on_lattice(luma, ALL) or any(_on_lattice(luma[:1, top:, left:], LOW) for top, left in places)


def _on_lattice(luma: Tensor, frequencies: tuple[tuple[int, int], ...]) -> bool:
    """Whether at least a quarter of the frequencies that have a say, and three of them, show a lattice."""
    blocks = luma.unfold(1, BLOCK, BLOCK).unfold(2, BLOCK, BLOCK).flatten(0, 2)
    cosines = _cosines()
    shown = heard = 0
    for row, column in frequencies:
        coefficients = torch.einsum("nij,i,j->n", blocks, cosines[row], cosines[column])
        outcome = _has_lattice(coefficients)
        heard += outcome is not None
        shown += bool(outcome)
    return shown >= max(3, math.ceil(heard / 4))


def _has_lattice(coefficients: Tensor) -> bool | None:
    """Whether coefficients are multiples of one of STEPS, to rounding; None where there are too few to say."""
    away = coefficients.abs()[None] > STEPS[:, None] / 2
    count = away.sum(dim=1)
    if int(count[0]) < FEWEST:
        return None
    waves = torch.cos(2 * math.pi * coefficients[None] / STEPS[:, None])
    mean = (waves * away).sum(dim=1) / count.clamp(min=1)
    error = STEPS / math.pi * (-mean.clamp(1e-6, 1).log() / 2).sqrt()
    certain = (mean * (2 * count).sqrt() > SIGNIFICANT) & (count >= FEWEST)
    found = certain & (error < ROUNDED)
    if not bool(found.any()):
        return False
    largest = int((found | (certain & (mean > 0.5))).nonzero().max())  # divisors of the step show as well
    return _falls_off(coefficients[away[largest]] / STEPS[largest])


def _falls_off(multiples: Tensor) -> bool:
    """Whether the first multiple is common among them, as it is in pictures; drawings have a few large ones."""
    counts = torch.bincount(multiples.abs().round().long())
    return bool(counts[1] >= COMMON * counts[1:].max())


def _cosines() -> Tensor:
    """The orthonormal cosine transform of 8 values, a row per frequency."""
    place, frequency = torch.arange(BLOCK), torch.arange(BLOCK)[:, None]
    rows = torch.cos(math.pi * (2 * place + 1) * frequency / (2 * BLOCK)) * math.sqrt(2 / BLOCK)
    rows[0] /= math.sqrt(2)
    return rows
