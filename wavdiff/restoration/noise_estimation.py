"""How noisy is a picture? The level per octave and channel, and whether the noise is white.

**Per octave.** In octave j (1 is the finest) white noise of standard deviation s is white with s / 2^j in every detail
coefficient, whatever the octave; octaves are independent. Blocks of details are ranked by the energy of the *next
coarser* octave at the same place: where that is weakest there is least texture, and under white noise the choice is
independent of what is then measured, so that it does not bias it. The level is the median of the variances of the
weakest tenth of the blocks, over the median of the chi-square distribution that white noise would give them. (Blocks
of low activity: Amer and Dubois, "Fast and reliable structure-oriented video noise estimation", 2005; the median as
in Donoho and Johnstone, "Ideal spatial adaptation by wavelet shrinkage", 1994, whose estimator over all HH
coefficients takes texture for noise.) Variances are about the mean of a block's details, so that slopes are not noise.

**Bars, margins, paper.** Where details are zero side by side there never was noise; blocks that they reach into do not
vote. Beside much of that only what has the spread of noise is taken for it, or the lines of a drawing would be.

**Clipping** hides noise: blocks with few pixels at the ends of the range are preferred, and variances divided by what
is left of the variance of a normal variable that is limited so that as many values sit at its ends (the clipped normal
of Foi, "Clipped noisy images: heteroskedastic modeling and practical denoising", 2009).

**JPEG** quantises the finest octave most. Its level is that of the second, where that has more, but at most
MOST_RAISED times its own, for the second octave has more texture as well.

**Lines.** Rows or columns that differ as wholes, by a scanner's or a sensor's fault, are found by the median along
each and named (`line_noise`).

**Texture.** A coarse octave of a picture full of texture has no flat block, and its estimate is an upper bound. White
noise makes the block variances chi-square distributed; where their spread is larger than that, the octave does not
count as determined, and takes its level from the next finer one. So does an octave coarser than the second that alone
has more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from wavdiff.images.rectangle import Read
from wavdiff.restoration.line_noise import line_levels
from wavdiff.restoration.octave_noise import Octave, flat_windows, measure_octaves
from wavdiff.system.errors import WavdiffError

NOTHING = 0.5 / 255
"""Below this no noise can be told from rounding to 8 bits."""
ROUNDING = 0.5
"""The same, in steps between the values that a picture can have."""
MOST_PARTS = 0.95
"""Part of the picture that was measured from which on it is not named."""
TOLERANCE = 0.15
"""Relative difference between octaves or channels that still counts as equal, beside the error bars."""
MOST_RAISED = 1.5
"""Level of a JPEG's second octave, over that of its first, that is believed to be noise."""
CUT_OFF = "cannot be measured: nearly all values lie at black or at white; give sigma"


@dataclass(frozen=True)
class NoiseEstimate:
    """What was found; all levels in [0, 1] units of the image.

    Attributes:
        sigma: the one level to use where the noise is white.
        octaves: level of every octave, finest first, as that of white noise: equal where the noise is white.
        channels: the same for every channel, [octave][channel].
        uncertainty: standard error of every octave.
        white: whether octaves agree, or one level is used for all.
        findings: plain-language lines; empty where octaves and channels agree.
        cut_off: whether nothing could be measured because nearly all values lie at the ends of the range.
        compressed: whether the picture comes from a JPEG file.
        lines: whether rows or columns differ.
        floor: less than this cannot be told from rounding.
        part: part of the picture that has a say: that is neither constant nor, too often, at black or white.
    """

    sigma: float
    octaves: tuple[float, ...]
    channels: tuple[tuple[float, ...], ...]
    uncertainty: tuple[float, ...]
    white: bool
    findings: tuple[str, ...]
    cut_off: bool = False
    compressed: bool = False
    lines: bool = False
    floor: float = NOTHING
    part: float = 1.0

    @property
    def measurable(self) -> bool:
        """Whether there is noise to speak of; less cannot be told from rounding."""
        return self.sigma >= self.floor or not self.white

    def report(self) -> str:
        """Lines for the terminal."""
        if self.cut_off:
            return f"the noise {CUT_OFF}"
        if not self.measurable:
            return f"no measurable noise (below {of_255(self.floor)}/255)"
        kind = "not white, removed with the level of each scale"
        if self.white:
            kind = "white in every channel, one level for all" if self.findings else "white"
        if self.lines:
            kind = "for lines that differ, one level for all"
        if self.compressed:
            kind = "after JPEG compression, one level for all"
        levels = ", ".join(
            f"{of_255(level)} ± {of_255(error)}" for level, error in zip(self.octaves, self.uncertainty, strict=True)
        )
        lines = [f"by octave, finest first: {levels} of 255", *self.findings]
        if self.part < MOST_PARTS:
            lines.append(f"measured in {self.part:.0%} of the picture, where it is neither constant nor cut off")
        head = f"noise {of_255(self.sigma)}/255 (sigma {self.sigma:.4f}), {kind}"
        return "\n  ".join([head, *lines])


def of_255(level: float) -> str:
    """A level in 8-bit values, with a decimal, or two digits where it is less than one of those."""
    value = 255 * level
    return f"{value:.1f}" if value >= 0.095 or value == 0 else f"{value:.1g}"


def estimate_noise_of(picture: Tensor, **settings: object) -> NoiseEstimate:
    """`estimate_noise` of a picture (C, H, W) in [-1, 1]."""
    channels, height, width = picture.shape
    return estimate_noise(lambda where: where.of(picture), (height, width), channels, **settings)  # type: ignore[arg-type]


def estimate_noise(
    read: Read,
    size: tuple[int, int],
    channels: int,
    octaves: int = 4,
    compressed: bool = False,
    step: float = 1 / 255,
) -> NoiseEstimate:
    """Measure the noise of a picture, at most on MOST_WINDOWS windows of it.

    Args:
        read, size, channels: the picture.
        octaves: how many to measure.
        compressed: whether it comes from a JPEG file.
        step: between the values that the picture can have, of its range.

    Raises:
        WavdiffError: fewer than one octave, or a picture without pixels.
    """
    if octaves < 1 or min(size) < 1:
        raise WavdiffError(
            f"noise is estimated in at least 1 octave of a picture with pixels, got {octaves} and {size}"
        )
    return estimate_in_windows(windows_of(read, size, octaves), channels, octaves, compressed, step)


def windows_of(read: Read, size: tuple[int, int], octaves: int) -> Tensor | None:
    """Windows (N, C, h, w) in which so many octaves are measured; None where the picture is too small."""
    return flat_windows(read, size, 2 ** (octaves + 1))


@torch.no_grad()
def estimate_in_windows(
    windows: Tensor | None, channels: int, octaves: int, compressed: bool, step: float
) -> NoiseEstimate:
    """`estimate_noise`, in the windows of a picture."""
    if windows is None:
        return NoiseEstimate(0.0, (0.0,) * octaves, ((0.0,) * channels,) * octaves, (0.0,) * octaves, True, ())
    measured = measure_octaves(windows, octaves)
    estimate = replace(_audit(measured, octaves, channels), floor=min(ROUNDING * step, NOTHING))
    if measured[0] is not None:
        estimate = replace(estimate, part=measured[0].part)
    if not compressed:
        estimate = _with_lines(estimate, line_levels(windows))
    return _decompressed(estimate, measured) if compressed and estimate.measurable else estimate


def _with_lines(estimate: NoiseEstimate, lines: tuple[float, float]) -> NoiseEstimate:
    """The estimate for a picture whose rows or columns differ.

    Offsets of deviation r are in one band alone, in which they are like white noise of r 2^(j/2) in octave j. Networks
    take all bands for equally noisy, so that this is too little for the finest: the level of the third is used for all
    (`benchmarks/real_pictures.py`: as good as the best that can be given).
    """
    if not max(lines):
        return estimate
    octaves = (max(*estimate.octaves, 2**1.5 * max(lines)),) * len(estimate.octaves)
    findings = [line for line in estimate.findings if not line.startswith(("octave", "the finest"))]
    findings += [
        f"{name} differ by {255 * level:.1f}/255, as of a scanner or a sensor: smoothed away with detail across them; "
        "better subtract what the lines have in common (a dark frame, or the mean of each line)"
        for name, level in zip(("rows", "columns"), lines, strict=True)
        if level
    ]
    return replace(estimate, sigma=octaves[0], octaves=octaves, white=True, lines=True, findings=tuple(findings))


def _decompressed(estimate: NoiseEstimate, measured: list[Octave | None]) -> NoiseEstimate:
    """The estimate for a picture from a JPEG file."""
    level, second = estimate.octaves[0], measured[1] if len(measured) > 1 else None
    if second is not None and not second.cut_off:
        level = max(level, min(_together(second.levels), MOST_RAISED * level))
    findings = [line for line in estimate.findings if not line.startswith(("octave", "the finest"))]
    if level > estimate.octaves[0]:
        findings.append(f"the level is that of octave 2: compression left {255 * estimate.octaves[0]:.1f} in octave 1")
    octaves = (level,) * len(estimate.octaves)
    return replace(estimate, sigma=level, octaves=octaves, white=True, compressed=True, findings=tuple(findings))


def _together(levels: list[float]) -> float:
    """The root mean square over channels."""
    return math.sqrt(sum(value**2 for value in levels) / len(levels))


def _audit(measured: list[Octave | None], octaves: int, channels: int) -> NoiseEstimate:
    levels: list[float] = []
    per_channel: list[tuple[float, ...]] = []
    errors: list[float] = []
    findings: list[str] = []
    for octave, found in enumerate(measured):
        finer = levels[-1] if levels else None
        if found is None or found.cut_off:
            level = finer or 0.0
            apart, error = per_channel[-1] if per_channel else (0.0,) * channels, level
        else:
            level = _together(found.levels)
            error = _together(found.errors) / math.sqrt(channels)
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
    cut_off = measured[0] is not None and measured[0].cut_off
    return NoiseEstimate(sigma, tuple(levels), tuple(per_channel), tuple(errors), white, tuple(findings), cut_off)
