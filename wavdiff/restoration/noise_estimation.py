"""How noisy is a picture? The level per octave and channel, whether the noise is white, and a second opinion.

**Per octave.** In octave j (1 is the finest) white noise of standard deviation s is white with s / 2^j in every detail
coefficient, whatever the octave; octaves are independent. Blocks of details are ranked by the energy of the *next
coarser* octave at the same place: where that is weakest there is least texture, and under white noise the choice is
independent of what is then measured, so that it does not bias it. The level is the median of the variances of the
weakest tenth of the blocks, over the median of the chi-square distribution that white noise would give them. (Blocks
of low activity: Amer and Dubois, "Fast and reliable structure-oriented video noise estimation", 2005; the median as
in Donoho and Johnstone, "Ideal spatial adaptation by wavelet shrinkage", 1994, whose estimator over all HH
coefficients takes texture for noise.) Clipping hides noise: blocks with few pixels at the ends of the range are
preferred, and variances divided by what is left of the variance of a normal variable that is limited so that as many
values sit at its ends.

**Texture.** A coarse octave of a picture full of texture has no flat block, and its estimate is an upper bound. White
noise makes the block variances chi-square distributed; where their spread is larger than that, the octave does not
count as determined, and takes its level from the next finer one. So does an octave coarser than the second that alone
has more.

**A second opinion.** A denoiser D(y, s) = E[x | y] of a prior gives the likelihood of the noise level as well: by
Tweedie's formula and the heat equation d log p_s(y) / ds = s (div score + |score|^2), score = (D - y) / s^2, which is
zero where

    |y - D(y, s)|^2 = s^2 (n - div D(y, s)).

The divergence is estimated with one random probe (Hutchinson 1990), the root found by bisection.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from wavdiff.images.rectangle import Read
from wavdiff.restoration.octave_noise import Octave, flat_windows, measure_octaves
from wavdiff.system.errors import WavdiffError

Denoise = Callable[[Tensor, float], Tensor]
"""denoise(batch (B, C, H, W) in [-1, 1], sigma in [0, 1] units) -> batch."""
NOTHING = 0.5 / 255
"""Below this no noise can be told from rounding to 8 bits."""
TOLERANCE = 0.15
"""Relative difference between octaves or channels that still counts as equal, beside the error bars."""


@dataclass(frozen=True)
class NoiseEstimate:
    """What was found; all levels in [0, 1] units of the image.

    Attributes:
        sigma: the one level to use where the noise is white.
        octaves: level of every octave, finest first, as that of white noise: equal where the noise is white.
        channels: the same for every channel, [octave][channel].
        uncertainty: standard error of every octave.
        white: whether octaves agree.
        findings: plain-language lines; empty where octaves and channels agree.
        blind: the network's own estimate, or None.
    """

    sigma: float
    octaves: tuple[float, ...]
    channels: tuple[tuple[float, ...], ...]
    uncertainty: tuple[float, ...]
    white: bool
    findings: tuple[str, ...]
    blind: float | None

    @property
    def measurable(self) -> bool:
        """Whether there is noise to speak of; less cannot be told from rounding to 8 bits."""
        return self.sigma >= NOTHING or not self.white

    def report(self) -> str:
        """Lines for the terminal."""
        blind = f"; the network's own estimate is {255 * self.blind:.1f}/255" if self.blind is not None else ""
        if not self.measurable:
            return f"no measurable noise (below {255 * NOTHING:.1f}/255{blind})"
        kind = "not white, removed with the level of each scale"
        if self.white:
            kind = "white in every channel, one level for all" if self.findings else "white"
        levels = ", ".join(
            f"{255 * level:.1f} ± {255 * error:.1f}"
            for level, error in zip(self.octaves, self.uncertainty, strict=True)
        )
        head = f"noise {255 * self.sigma:.1f}/255 (sigma {self.sigma:.4f}), {kind}{blind}"
        return "\n".join(
            [head, f"  by octave, finest first: {levels} of 255", *(f"  {line}" for line in self.findings)]
        )


def estimate_noise_of(picture: Tensor, **settings: object) -> NoiseEstimate:
    """`estimate_noise` of a picture (C, H, W) in [-1, 1]."""
    channels, height, width = picture.shape
    return estimate_noise(lambda where: where.of(picture), (height, width), channels, **settings)  # type: ignore[arg-type]


@torch.no_grad()
def estimate_noise(
    read: Read,
    size: tuple[int, int],
    channels: int,
    octaves: int = 4,
    denoise: Denoise | None = None,
    seed: int = 0,
) -> NoiseEstimate:
    """Measure the noise of a picture, at most on MOST_WINDOWS windows of it.

    Args:
        read, size, channels: the picture.
        octaves: how many to measure.
        denoise: a denoiser, for the second opinion.
        seed: of its probe.

    Raises:
        WavdiffError: fewer than one octave, or a picture without pixels.
    """
    if octaves < 1 or min(size) < 1:
        raise WavdiffError(
            f"noise is estimated in at least 1 octave of a picture with pixels, got {octaves} and {size}"
        )
    windows = flat_windows(read, size, 2 ** (octaves + 1))
    if windows is None:
        return NoiseEstimate(0.0, (0.0,) * octaves, ((0.0,) * channels,) * octaves, (0.0,) * octaves, True, (), None)
    measured = measure_octaves(windows, octaves)
    estimate = _audit(measured, octaves, channels)
    blind = blind_level(windows, denoise, max(estimate.sigma, 1 / 255), seed) if denoise is not None else None
    return NoiseEstimate(**{**estimate.__dict__, "blind": blind})


def _audit(measured: list[Octave | None], octaves: int, channels: int) -> NoiseEstimate:
    levels: list[float] = []
    per_channel: list[tuple[float, ...]] = []
    errors: list[float] = []
    findings: list[str] = []
    for octave, found in enumerate(measured):
        finer = levels[-1] if levels else None
        if found is None:
            level = finer or 0.0
            apart, error = per_channel[-1] if per_channel else (0.0,) * channels, level
        else:
            level = math.sqrt(sum(value**2 for value in found.levels) / channels)
            error = math.sqrt(sum(value**2 for value in found.errors) / channels) / math.sqrt(channels)
            apart = tuple(found.levels)
            suspected = not found.determined or (octave > 1 and not findings)
            if finer is not None and level > finer and suspected:
                level, apart, error = finer, per_channel[-1], level - finer  # an upper bound only
        allowed = TOLERANCE * max(level, finer or 0.0) + 3 * error
        if finer is not None and abs(level - finer) > allowed and max(level, finer) > 2 * NOTHING:
            how = "less" if level < finer else "more"
            numbers = f"{255 * level:.1f} and {255 * finer:.1f} of 255"
            findings.append(f"octave {octave + 1} has {how} noise than octave {octave} ({numbers})")
        levels.append(level)
        errors.append(error)
        per_channel.append(apart)
    if len(levels) > 1 and levels[0] < levels[1] * (1 - TOLERANCE) and findings:
        findings.append("the finest octave is quieter than the next: the picture was smoothed, enlarged or compressed")
    first = per_channel[0]
    if channels == 3 and max(first) > NOTHING and max(first) > (1 + 2 * TOLERANCE) * min(first):
        names = ", ".join(f"{name} {255 * value:.1f}" for name, value in zip("RGB", first, strict=True))
        findings.append(f"channels differ ({names} of 255)")
    octave_findings = [line for line in findings if line.startswith("octave")]
    white = not octave_findings
    sigma = levels[0]
    return NoiseEstimate(sigma, tuple(levels), tuple(per_channel), tuple(errors), white, tuple(findings), None)


def blind_level(windows: Tensor, denoise: Denoise, guess: float, seed: int = 0) -> float | None:
    """The maximum-likelihood noise level under the denoiser's prior, [0, 1] units; None where there is no root.

    Args:
        windows: (N, C, h, w); at most two are used.
        denoise: the posterior mean.
        guess: where to look first.
        seed: of the probe.
    """
    count = len(windows)
    y = windows[torch.linspace(0, count - 1, min(count, 2)).round().long()]
    probe = torch.randint(0, 2, y.shape, generator=torch.Generator().manual_seed(seed)).to(y) * 2 - 1
    step = 0.02

    def excess(sigma: float) -> float:
        clean = denoise(y, sigma)
        divergence = float((probe * (denoise(y + step * probe, sigma) - clean)).sum()) / step
        return float((y - clean).square().sum()) - (2 * sigma) ** 2 * (y.numel() - divergence)

    guess = min(guess, 0.225)
    low, high = guess / 2, 2 * guess
    for _ in range(3):
        if excess(low) > 0:
            break
        low, high = low / 2, low
    if excess(low) <= 0:
        return None
    for _ in range(2):
        if excess(high) < 0:
            break
        low, high = high, min(high * 2, 0.45)
    if excess(high) >= 0:
        return None
    for _ in range(4):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return math.sqrt(low * high)
