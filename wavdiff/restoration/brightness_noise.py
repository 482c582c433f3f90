"""Noise that grows with brightness: how much of it there is, and the transform that makes it white.

Counted photons have the variance of their number, and electronics add their own: var = gain x + read^2, with x in
[0, 1] (Foi, Trimeche, Katkovnik, Egiazarian, "Practical Poissonian-Gaussian noise modeling and fitting for single-image
raw-data", 2008). Blocks of the finest octave are sorted by brightness, and the line is fitted to the medians of the
variances of the flattest, of all channels together.

The generalised Anscombe transform f(z) = 2 sqrt(z / gain + 3/8 + (read / gain)^2) makes the noise white, with standard
deviation 1. What is denoised there is an estimate of E[f(z) | x], and not f(x): it is taken back by the closed form of
the exact unbiased inverse (Mäkitalo and Foi, "Optimal inversion of the generalized Anscombe transformation for
Poisson-Gaussian noise", 2013).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from wavdiff.images.rectangle import Read, Rectangle, Write
from wavdiff.restoration.octave_noise import flat_blocks

BINS = 12
"""Most classes of brightness."""
BIN_BLOCKS = 24
"""Fewest blocks of a class."""
PART = 0.25
"""Part of a class, where there is least texture, whose median variance counts."""
ABOVE, BELOW = 0.05, 0.2
"""Relative distance of a class of brightness from the line, above and below it, at which it counts half."""
RISE = 1.6
"""The line counts where the variance rises by so much from the darkest class to the brightest ..."""
FIT = 0.8
"""... and explains so much of how the classes' variances differ."""


@dataclass(frozen=True)
class NoiseCurve:
    """var = gain x + read_noise^2, for x in [0, 1], where black is 0."""

    gain: float
    read_noise: float

    def level(self, x: float) -> float:
        """Standard deviation at brightness x."""
        return math.sqrt(max(self.gain * x, 0.0) + self.read_noise**2)

    @property
    def sigma(self) -> float:
        """Standard deviation of the noise of the stabilised picture, [0, 1] units."""
        return 1 / (self._stabilised(1.0) - self._stabilised(0.0))

    def report(self) -> str:
        """What was found, as a line."""
        return (
            f"noise grows with brightness: variance = {self.gain:.3g} x + {self.read_noise:.3g}^2, that is "
            f"{255 * self.level(0):.1f}/255 at black, {255 * self.level(0.5):.1f} in the middle, "
            f"{255 * self.level(1):.1f} at white"
        )

    def stabilising(self, read: Read) -> Read:
        """`read` of a picture in [-1, 1] with its noise made white, in the same range."""
        low, span = self._stabilised(0.0), 1 / self.sigma

        def stabilised(where: Rectangle) -> Tensor:
            z = (read(where) + 1) / 2
            y = 2 * (z / self.gain + self._offset).clamp(min=0).sqrt()
            return 2 * (y - low) / span - 1

        return stabilised

    def unstabilising(self, write: Write) -> Write:
        """A write of denoised values that takes them back and hands them on."""
        low, span = self._stabilised(0.0), 1 / self.sigma

        def unstabilised(where: Rectangle, values: Tensor) -> None:
            y = ((values + 1) / 2 * span + low).clamp(min=low)
            root = math.sqrt(1.5)
            photons = y.square() / 4 + root / 4 / y - 11 / 8 / y.square() + 5 * root / 8 / y**3 - 1 / 8
            write(where, 2 * self.gain * (photons - (self.read_noise / self.gain) ** 2).clamp(min=0) - 1)

        return unstabilised

    @property
    def _offset(self) -> float:
        return 3 / 8 + (self.read_noise / self.gain) ** 2

    def _stabilised(self, z: float) -> float:
        return 2 * math.sqrt(z / self.gain + self._offset)


def measure_curve(windows: Tensor, *, needed: bool = False) -> NoiseCurve | None:
    """The curve of windows (N, C, h, w) in [-1, 1]; None where it is flat, or cannot be told from flat.

    Args:
        windows: see `flat_windows`.
        needed: the user says that the noise grows: the best line, if there is any that rises.
    """
    found = flat_blocks(windows)
    if found is None:
        return None
    brightness, variance, activity = found
    order = brightness.argsort()
    count = min(BINS, len(order) // BIN_BLOCKS)
    if count < 3:
        return None
    means, levels = list[float](), list[float]()
    for members in order.tensor_split(count):
        flattest = members[activity[members].argsort()[: max(6, round(PART * len(members)))]]
        means.append(float(brightness[flattest].median()))
        levels.append(float(variance[flattest].median()))
    x, v = torch.tensor(means, dtype=torch.float64), torch.tensor(levels, dtype=torch.float64)
    gain, base = _line(x, v)
    if gain <= 0:
        return None
    fitted = base + gain * x
    missed, spread = (((v - line) / fitted).square().mean() for line in (fitted, v.mean()))
    explained = 1 - float(missed / spread.clamp(min=1e-12))
    rises = float(fitted.max() / fitted.min()) >= RISE and explained >= FIT
    return NoiseCurve(gain, math.sqrt(base)) if needed or rises else None


def _line(x: Tensor, v: Tensor) -> tuple[float, float]:
    """Slope and value at 0 (at least 0) of a line through variances, whose errors grow with them."""
    weight = torch.ones_like(v)
    slope, base = 0.0, 0.0
    for _ in range(8):
        total = weight.sum()
        middle, height = (weight * x).sum() / total, (weight * v).sum() / total
        spread = (weight * (x - middle).square()).sum().clamp(min=1e-12)
        slope = float((weight * (x - middle) * (v - height)).sum() / spread)
        base = float(height - slope * middle)
        if base < 0:
            slope, base = float((weight * x * v).sum() / (weight * x.square()).sum()), 0.0
        fitted = (base + slope * x).clamp(min=1e-3 * float(v.mean()))
        off = (v - fitted) / fitted
        believed = torch.where(off > 0, ABOVE, BELOW)  # texture only adds: classes without a flat block lie above
        weight = 1 / fitted.square() / (1 + (off / believed).square())
    return slope, base
