"""What is asked of a picture, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import real_number, shown, whole_number

if TYPE_CHECKING:
    from wavdiff.restoration.degradations import Degradation

Quality = Literal["fast", "good", "best"]
QUALITIES: dict[Quality, int] = {"fast": 1, "good": 2, "best": 8}
"""Of means: over how many copies of the picture (see `copies`)."""
REAL = ("sigma", "gain", "read_noise", "white", "interval", "factor", "strength")
WHOLE = ("longest", "samples", "seed", "steps")
"""What must be a number, and a whole one."""
DENOISED_OCTAVES = 3
"""Octaves for which `denoise --samples` writes maps; `upscale --samples` writes those that it adds."""
LARGEST_FACTOR = 64
MOST_SIDE = 1_000_000


@dataclass(frozen=True)
class RestorationRequest:
    """What to do with a picture.

    Attributes:
        verb: "denoise", "upscale" or "restore".
        sigma: standard deviation of the noise in [0, 1) units; None: estimate it. For "restore": that of white noise
            in what is known of the picture; None: none but rounding.
        noise: where sigma is not given, "white", "poisson" (it grows with brightness), or "auto": measure which.
        gain, read_noise: the noise where it is known: its variance is gain x + read_noise^2 for x in [0, 1].
        white: value in the file that counts as 1, for "denoise"; None: the largest that it can hold, or the largest of
            10, 12 or 14 bits where a file of 16 uses no more. The noise is in its units only where it is given.
        declip: take back, in "denoise", what noise does that was cut off at black and white (see `clipped`).
        impulses: in "denoise", whether single values at black and white are replaced by the median of their neighbours;
            None: where there are some at both ends (see `impulses`).
        factor: above 1, for "upscale": powers of two keep block means, others are made by the next above, reduced.
        size, longest: (height, width) of the enlarged picture, or its longest side, in the place of a factor.
        mode: "mean" (the estimated posterior mean) or "sample" (one draw).
        quality: of means: "fast", "good" or "best", the mean over 1, 2 or 8 copies of the picture (see `copies`).
        samples: N >= 2: N draws, their mean (the result), and maps of their standard deviation; 0: none.
        interval: probability of the interval whose lower and upper images are written, such as 0.9; needs `samples`.
        seed: of draws and of `add_noise`; draw k uses `seed` + k.
        solver, steps: of draws; None: the cascade's.
        memory_bytes: what pixels, coefficients and tiles may take in memory, roughly.
        colour: how a gray cascade takes an RGB picture: "channels" (apart) or "luma" (see `channels`).
        pages: of a TIFF file of several, from 0; None: all, each restored as a picture of its own.
        add_noise: add noise of `sigma` to the picture first, and measure PSNR.
        denoise: for "upscale": remove noise first, as the settings for "denoise" say.
        strength: of means: the part of the noise that is taken away, in [0, 1].
        degradation: for "restore": what happened to the picture.
        method: for "restore": see `inverse.METHODS`; None: the best for the mode.

    Raises:
        WavdiffError: values out of range, or that do not go together.
    """

    verb: Literal["denoise", "upscale", "restore"]
    sigma: float | None = None
    noise: Literal["auto", "white", "poisson"] = "auto"
    gain: float | None = None
    read_noise: float = 0.0
    white: float | None = None
    declip: bool = True
    impulses: bool | None = None
    factor: float = 2
    size: tuple[int, int] | None = None
    longest: int | None = None
    mode: Literal["mean", "sample"] = "mean"
    quality: Quality = "fast"
    samples: int = 0
    interval: float | None = None
    seed: int = 0
    solver: str | None = None
    steps: int | None = None
    memory_bytes: int = 1 << 30
    add_noise: bool = False
    colour: Literal["channels", "luma"] = "channels"
    pages: tuple[int, ...] | None = None
    denoise: bool = False
    strength: float = 1.0
    degradation: Degradation | None = None
    method: str | None = None

    def __post_init__(self) -> None:
        # Python's own numbers, whatever they were: NumPy's integers would key other noise.
        for names, number in ((REAL, real_number), (WHOLE, whole_number)):
            for name in names:
                if getattr(self, name) is not None:
                    object.__setattr__(self, name, number(getattr(self, name), name))
        if self.mode not in ("mean", "sample"):
            raise WavdiffError(f"mode must be mean or sample, got {shown(self.mode)}")
        if self.quality not in QUALITIES:
            raise WavdiffError(f"quality must be fast, good or best, got {shown(self.quality)}")
        if self.quality != "fast" and (self.mode == "sample" or self.samples):
            raise WavdiffError(f"quality {self.quality} is for means: a mean of draws is no draw; leave it out")
        if self.samples < 0 or self.samples == 1:
            raise WavdiffError(f"samples must be 0 (none) or at least 2, got {self.samples}")
        if self.interval is not None and not (0 < self.interval < 1 and self.samples):
            raise WavdiffError(f"interval must lie between 0 and 1 and needs samples, got {self.interval}")
        if self.colour not in ("channels", "luma"):
            raise WavdiffError(f"colour must be channels or luma, got {self.colour!r}")
        if self.seed < 0:
            raise WavdiffError(f"seed must be at least 0, got {self.seed}")
        self._check_noise()
        self._check_size()
        self._check_restore()
        if not 0 <= self.strength <= 1:
            raise WavdiffError(f"strength must be in [0, 1], got {self.strength:g}")
        draws = self.samples or (self.mode == "sample" and self.verb == "denoise")
        if self.strength < 1 and (draws or self.add_noise):
            raise WavdiffError(
                f"strength is for means of pictures as they are, without draws or add_noise, got {self.strength:g}"
            )
        if self.verb == "upscale" and not self.denoise and (self.sigma is not None or self.strength < 1):
            raise WavdiffError("strength is of removing noise; give denoise with it, or leave it out")
        if self.add_noise and self.samples:
            raise WavdiffError("add_noise measures one result; give it without samples")
        if self.add_noise and self.white is not None:
            raise WavdiffError("white is for pictures as they are; give it without add_noise")
        if self.add_noise and (self.sigma is None or self.verb != "denoise"):
            raise WavdiffError("add_noise needs a sigma, and is for denoise")

    def _check_restore(self) -> None:
        if (self.verb == "restore") != (self.degradation is not None):
            raise WavdiffError("restore needs to know what happened to the picture, and only restore does")
        if self.verb != "restore":
            if self.method is not None:
                raise WavdiffError(f"method is for restore, got {shown(self.method)}")
            return
        unfit = {"quality": self.quality != "fast", "strength": self.strength < 1, "colour": self.colour != "channels"}
        unfit |= {"solver": self.solver is not None}
        if self.degradation is not None and self.degradation.jpeg:
            unfit |= {
                "sigma": bool(self.sigma),
                "samples": self.samples > 0,
                "mode": self.mode == "sample",
                "method": self.method is not None,
            }
        of = " of JPEG files" if self.degradation is not None and self.degradation.jpeg else ""
        for name, given in unfit.items():
            if given:
                raise WavdiffError(f"restore{of} has no {name}, got {shown(getattr(self, name))}; leave it out")

    def _check_noise(self) -> None:
        if self.noise not in ("auto", "white", "poisson"):
            raise WavdiffError(f"noise must be auto, white or poisson, got {shown(self.noise)}")
        if self.gain is not None and not 0 < self.gain < 1:
            raise WavdiffError(f"gain must lie between 0 and 1, got {self.gain:g}")
        if not 0 <= self.read_noise < 1:
            raise WavdiffError(f"read_noise must be in [0, 1), got {self.read_noise:g}")
        if self.read_noise and self.gain is None:
            raise WavdiffError(f"read_noise {self.read_noise:g} needs a gain; noise of one level is sigma")
        grows = self.gain is not None or self.noise == "poisson"
        if grows and (self.sigma is not None or (self.gain is not None and self.noise == "white")):
            raise WavdiffError(
                "noise poisson and a gain say that noise grows with brightness, sigma and noise white not"
            )
        if grows and self.colour == "luma":
            raise WavdiffError("colour luma mixes channels of different brightness; it is for white noise")

    def _check_size(self) -> None:
        if not 1 < self.factor <= LARGEST_FACTOR:
            raise WavdiffError(f"factor must be above 1 and at most {LARGEST_FACTOR}, got {self.factor:g}")
        if self.factor == int(self.factor):
            object.__setattr__(self, "factor", int(self.factor))
        if self.size is not None:
            sides = self.size if isinstance(self.size, tuple | list) else ()
            if len(sides) != 2:
                raise WavdiffError(f"size must be (height, width), got {shown(self.size)}")
            height, width = (whole_number(side, "a side of size") for side in sides)
            object.__setattr__(self, "size", (height, width))
            if self.longest is not None:
                raise WavdiffError("size and longest both say how large the result becomes; give one of them")
        if max(self.size or (0,)) > MOST_SIDE or (self.longest or 0) > MOST_SIDE:
            raise WavdiffError(
                f"a side of the result must be at most {MOST_SIDE} pixels, got {shown(self.size or self.longest)}"
            )
        if self.samples and self.verb == "upscale" and not self.is_power:
            raise WavdiffError("samples are mapped by octaves, which powers of two have; give factor 2, 4 or 8")

    @property
    def is_power(self) -> bool:
        """Whether the picture is enlarged by a power of two, which is known before it is seen."""
        given = self.size is None and self.longest is None
        return given and isinstance(self.factor, int) and self.factor & (self.factor - 1) == 0

    @property
    def octaves(self) -> int:
        """Number of octaves for which standard deviations are written."""
        return DENOISED_OCTAVES if self.verb != "upscale" else int(self.factor).bit_length() - 1


@dataclass(frozen=True)
class RestorationResult:
    """Files written, the main result first, and lines for the user."""

    written: list[Path] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)


def planned_outputs(target: Path, request: RestorationRequest) -> list[Path]:
    """All files that a request writes, the main result first."""
    beside = [target]

    def add(name: str, suffix: str = target.suffix) -> None:
        beside.append(target.with_name(f"{target.stem}_{name}{suffix}"))

    if request.add_noise:
        add("input")
    for draw in range(request.samples):
        add(f"sample_{request.seed + draw:06d}")
    if request.samples:
        for name in ("std", *(f"std_octave{octave}" for octave in range(1, request.octaves + 1))):
            add(name, ".png")
            add(name, ".npy")
    if request.interval is not None:
        add("lower")
        add("upper")
    return beside
