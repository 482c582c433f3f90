"""What to measure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import check_sigma, shown

SIGMAS = (10 / 255, 25 / 255, 50 / 255, 100 / 255)
FACTORS = (2, 4)
KID_LEAST = 4  # images in each set: two blocks of two for the standard error
MOST = 10**6  # of pictures, draws and samples: beyond is a slip of the keyboard
LARGEST_SEED = 2**62
MOST_DRAWS = 1000  # of one picture; all are kept
LEAST_SIDE = 16  # pixels: a window of SSIM, and what BM3D matches blocks in


@dataclass(frozen=True)
class Request:
    """What is measured on pictures of either kind.

    Attributes:
        models: the first one is the subject, the others stand beside it.
        sigmas: standard deviations of the noise, in [0, 1] units.
        factors: to enlarge by.
        limit: at most so many pictures, the first in their order.
        bm3d: whether BM3D stands beside the models.
        seed: of noise, draws and samples.
        update_card: whether the report goes into the subject's model card.

    Raises:
        WavdiffError: a value out of its range.
    """

    models: tuple[str, ...]
    sigmas: tuple[float, ...] = SIGMAS
    factors: tuple[int, ...] = FACTORS
    limit: int = 100
    bm3d: bool = True
    seed: int = 0
    update_card: bool = False

    def __post_init__(self) -> None:
        if not self.models:
            raise WavdiffError("--models names no model")
        for sigma in self.sigmas:
            if not check_sigma(sigma, "--sigmas"):
                raise WavdiffError("--sigmas must be above 0, got 0")
        _check_range("--limit", self.limit, 1, 2**62)
        _check_range("--seed", self.seed, 0, LARGEST_SEED)


@dataclass(frozen=True)
class EvaluationRequest(Request):
    """What to measure on held-out images.

    Attributes:
        data: a source of training images by name, or a folder; None for what the subject was trained on.
        data_dir: where the files of a named source lie.
        kid_samples: samples to draw for KID-EffLite0; 0 for none.
    """

    data: str | None = None
    data_dir: Path | None = None
    kid_samples: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kid_samples and self.kid_samples < KID_LEAST:
            raise WavdiffError(f"--kid must be 0 (none) or at least {KID_LEAST}, got {shown(self.kid_samples)}")
        _check_range("--kid", self.kid_samples, 0, MOST)
        for factor in self.factors:
            _check_range("--factors", factor, 1, MOST)


@dataclass(frozen=True)
class PhotographRequest(Request):
    """What to measure on clean photographs; `factors` are powers of two.

    Attributes:
        crop: the central part of at most so many pixels a side is taken; None for whole pictures.
        draws: posterior draws of every picture, level and factor; 0 for none. They cost as many network calls each as
            the schedule has levels.
        shown: of so many pictures, before/after crops are written.
    """

    crop: int | None = None
    draws: int = 0
    shown: int = 12

    def __post_init__(self) -> None:
        super().__post_init__()
        for factor in self.factors:
            if factor < 2 or factor & (factor - 1):
                raise WavdiffError(f"--factors are powers of two (2, 4, ...), got {factor}")
        if self.crop is not None and self.crop < LEAST_SIDE:
            raise WavdiffError(f"--crop must be at least {LEAST_SIDE} pixels, got {self.crop}")
        _check_range("--samples", self.draws, 0, MOST_DRAWS)
        _check_range("--crops", self.shown, 0, MOST)


def _check_range(option: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        rule = f"at least {least}" if value < least else f"at most {most}"
        raise WavdiffError(f"{option} must be {rule}, got {shown(value)}")
