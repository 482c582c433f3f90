"""What a task is given: a picture by its rectangles, its noise, and how the work is done."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from wavdiff.images.rectangle import Read, Write, bands
from wavdiff.restoration.tiled import Progress

if TYPE_CHECKING:
    from wavdiff.restoration.brightness_noise import NoiseCurve

Mode = Literal["mean", "sample"]


@dataclass(frozen=True)
class Plain:
    """A picture without opacity or ink, by its rectangles.

    Attributes:
        read: gives them, in [-1, 1].
        size: (height, width).
        channels: 1 or 3.
        compressed: whether it comes from a JPEG file.
        step: between the values that it can have, in its range [0, 1].
        colour: the colour of the picture that it is of, as it is in the file; None: it is that.
        opacity: gives it, (1, h, w) in [0, 1]; None: it has none.
    """

    read: Read
    size: tuple[int, int]
    channels: int
    compressed: bool = False
    step: float = 1 / 255
    opacity: Read | None = None
    colour: Read | None = None

    def hand_over(self, write: Write) -> None:
        """Give the picture to `write`, band of rows by band of rows."""
        for band in bands(self.size):
            write(band, self.read(band))


@dataclass(frozen=True)
class Effort:
    """How a task is done: mean or draw, its seed, the memory, and who is told of tiles."""

    mode: Mode = "mean"
    seed: int = 0
    memory_bytes: int = 1 << 30
    progress: Progress | None = None


@dataclass(frozen=True)
class Noise:
    """Noise of a picture.

    Attributes:
        levels: of all scales, finest first, the low-pass last, library units; as of white noise on the picture.
        curve: where the noise grows with brightness; the levels are then those of the picture that it makes of it.
    """

    levels: list[float]
    curve: NoiseCurve | None = None

    @property
    def cut_off_level(self) -> float | None:
        """Level of white noise, that may have been cut off at black and white; None where there is no such."""
        return self.levels[0] if self.curve is None and self.levels[0] > 0 and len(set(self.levels)) == 1 else None

    def scaled(self, factor: float) -> Noise:
        """The noise of a picture that is multiplied by `factor`."""
        return replace(self, levels=[factor * level for level in self.levels])
