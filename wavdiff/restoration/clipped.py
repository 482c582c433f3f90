"""Noise that was cut off at black and white: what a denoiser makes of it, taken back.

An 8-bit file holds y = clip(x + s n, 0, 1). A denoiser averages what is left of the noise, so that it estimates

    m(x) = E[y] = x (Phi(b) - Phi(a)) + s (phi(a) - phi(b)) + 1 - Phi(b),    a = -x / s,  b = (1 - x) / s,

which lifts black by up to 0.4 s and lowers white as much. m is increasing and known: it is inverted (Foi, "Clipped
noisy images: heteroskedastic modeling and practical denoising", 2009).

Only where noise *was* cut off: a camera's shadows may be quieter than the rest, and no value sits at black there. So
pixels are sorted by their estimate, and in every class the share of values at the end of the range is compared with
what the model says it is; the correction is taken as far as they agree.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wavdiff.images.disk_array import Plane
from wavdiff.images.rectangle import Read, Write, bands

AT_THE_END = 1e-4
"""Distance from the end of the range, library units, of values that were cut off."""
REACH = 2.5
"""Classes go so far from the end, in units of the noise."""
CLASSES = 10
AGREES, DIFFERS = 0.7, 0.3
"""Observed over expected share at the end, from which on the correction is whole, and below which there is none."""
FEWEST = 1e-3
"""Part of all pixels at the ends below which a picture is left alone."""


def inverted_mean(values: Tensor, sigma: float) -> Tensor:
    """x of m(x) = values, both in [0, 1] (values beyond are limited), for noise of standard deviation `sigma`."""
    x = torch.linspace(0, 1, 4097, dtype=torch.float64)
    a, b = -x / sigma, (1 - x) / sigma
    phi = [(-edge.square() / 2).exp() / (2 * torch.pi) ** 0.5 for edge in (a, b)]
    below, above = torch.special.ndtr(a), torch.special.ndtr(-b)
    m = x * (1 - above - below) + sigma * (phi[0] - phi[1]) + above
    given = values.double().clamp(float(m[0]), float(m[-1]))
    upper = torch.searchsorted(m, given.contiguous()).clamp(1, len(m) - 1)
    part = (given - m[upper - 1]) / (m[upper] - m[upper - 1])
    return (x[upper - 1] + part * (x[upper] - x[upper - 1])).to(values.dtype)


def write_unclipped(plane: Plane, noisy: Read, level: float, write: Write) -> None:
    """Hand a denoised picture on, corrected.

    Args:
        plane: what was denoised.
        noisy: the noisy picture, library units.
        level: of its noise, library units.
        write: takes the result.
    """
    size = plane.size
    sigma = level / 2
    # Of black and of white: pixels, and values expected and observed there.
    shares = [torch.zeros(3, CLASSES, dtype=torch.float64) for _ in range(2)]
    for band in bands(size):
        estimate, seen = (plane.read(band) + 1) / 2, (noisy(band) + 1) / 2
        for end, share in enumerate(shares):
            _count(share, 1 - estimate if end else estimate, 1 - seen if end else seen, sigma)
    weights = [_agreement(share) for share in shares]
    for band in bands(size):
        write(band, _corrected(plane.read(band), sigma, weights))


def is_cut_off(noisy: Read, size: tuple[int, int]) -> bool:
    """Whether more than a few values of a picture sit at the ends of the range, and none lies beyond."""
    count = 0
    for band in bands(size):
        beyond = noisy(band).abs() - 1
        if bool((beyond > AT_THE_END).any()):
            return False
        count += int((beyond >= -AT_THE_END).any(dim=0).sum())
    return count > FEWEST * size[0] * size[1]


def _count(share: Tensor, estimate: Tensor, seen: Tensor, sigma: float) -> None:
    """Add pixels, expected and observed values at the lower end, by class of the estimate."""
    place = (estimate / (REACH * sigma) * CLASSES).long().clamp(min=0)
    near = place < CLASSES
    place, chosen = place[near], inverted_mean(estimate[near], sigma)
    expected = torch.special.ndtr(-chosen.double() / sigma)
    observed = (seen[near] <= AT_THE_END / 2).double()
    for row, values in zip(share, (torch.ones_like(expected), expected, observed), strict=True):
        row.index_add_(0, place, values)


def _agreement(share: Tensor) -> Tensor:
    """(CLASSES,) how much of the correction is taken."""
    pixels, expected, observed = share
    agreement = observed / expected.clamp(min=1e-9)
    weight = ((agreement - DIFFERS) / (AGREES - DIFFERS)).clamp(0, 1)
    return torch.where(pixels > 0, weight, 0.0)


def _corrected(values: Tensor, sigma: float, weights: list[Tensor]) -> Tensor:
    estimate = (values + 1) / 2
    change = inverted_mean(estimate, sigma) - estimate.clamp(0, 1)
    total = torch.zeros_like(estimate)
    for end, weight in enumerate(weights):
        distance = (1 - estimate if end else estimate) / (REACH * sigma) * CLASSES - 0.5
        first = distance.floor().clamp(0, CLASSES - 1)
        second = (first + 1).clamp(max=CLASSES - 1)
        part = (distance - first).clamp(0, 1)
        here = weight[first.long()] * (1 - part) + weight[second.long()] * part
        sign = change > 0 if end else change < 0
        total = total + torch.where(sign & (distance < CLASSES), here.to(values.dtype), 0.0) * change
    return values + 2 * total
