"""One picture on its way through a cascade: its planes beside colour first, then colour, as often as asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from wavdiff.images import Planes
from wavdiff.images.disk_array import Plane
from wavdiff.images.rectangle import Read, Rectangle, Write
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.restoration.block_means import BlockMeans, write_projected
from wavdiff.restoration.channels import (
    LUMA_NOISE,
    Source,
    limited,
    opacity_of,
    premultiplied,
    reading_luma,
    rescaled_read,
    rescaled_write,
    unmultiplied,
    with_noise,
    writing_luma,
)
from wavdiff.restoration.checks import Fidelity
from wavdiff.restoration.clipped import is_cut_off, write_unclipped
from wavdiff.restoration.copies import Copy, copies_of, write_averaged
from wavdiff.restoration.impulses import cleaned_of_impulses
from wavdiff.restoration.plain import Effort, Mode, Noise, Plain
from wavdiff.restoration.request import QUALITIES, RestorationRequest
from wavdiff.restoration.target_size import NO_MEANS, power_above, reduce_plane, reduced_plane, size_of_result
from wavdiff.restoration.tasks import Denoise, Task, Upscale, is_local
from wavdiff.restoration.tiled import Progress
from wavdiff.restoration.undoing import Restore
from wavdiff.restoration.used_range import request_within, used_share
from wavdiff.system.errors import WavdiffError

TASKS: dict[str, Callable[[WaveletCascade, RestorationRequest], Task]] = {
    "denoise": Denoise,
    "upscale": Upscale,
    "restore": Restore,
}
"""What a request's verb asks for."""


class Restorer:
    """One picture: its planes beside colour are made first, then colour is, as often as asked.

    Opacity is carried: denoising leaves it alone; enlarging takes colour premultiplied by it, enlarges both, and
    divides again, so that the hidden colour of transparent pixels never bleeds into visible ones. The black ink of CMYK
    is a gray picture of its own.

    Args:
        cascade: the model.
        reader: the picture.
        request: what to do.
        progress: called with (tiles done, tiles in all).
        limited: whether the result will be limited to black and white, as it is in files.

    Attributes:
        size: (height, width) of the result.
        messages: lines for the user.

    Raises:
        WavdiffError: the model or the picture does not fit the request.
    """

    def __init__(
        self,
        cascade: WaveletCascade,
        reader: Source,
        request: RestorationRequest,
        progress: Progress | None,
        *,
        limited: bool,
    ) -> None:
        self.reader, self.request, self.progress, self._limited = reader, request, progress, limited
        self.messages: list[str] = []
        info = reader.info
        self.channels = info.channels
        if request.colour == "luma" and cascade.channels != 1:
            raise WavdiffError("colour luma is for gray models; this model knows colour, leave it out")
        if request.add_noise and info.has_key:
            raise WavdiffError("add_noise is for gray and RGB pictures, not for CMYK")
        may_use_less = request.verb == "denoise" and not request.add_noise
        self._white = used_share(reader, request.white, self.messages) if may_use_less else 1.0
        self.size = size_of_result(request, info.size)
        power = power_above(self.size, info.size)
        self.task = TASKS[request.verb](cascade, replace(request_within(request, self._white), factor=power))
        self._worked = (info.size[0] * self.task.factor, info.size[1] * self.task.factor)
        """Size at which the model works; `size` is smaller where that is no power of two times the picture's."""
        if self._worked != self.size:
            self.messages.append(f"enlarged by {power}, then reduced to {self.size[1]}x{self.size[0]}; {NO_MEANS}")
        self.alpha: Plane | None = None
        self.key: Plane | None = None
        self._enlarges_alpha = info.has_alpha and self.task.enlarges_opacity
        self._copies = copies_of(request.quality, self.task.factor, may_turn=is_local(cascade))
        if len(self._copies) < QUALITIES[request.quality]:
            self.messages.append("this model knows pictures that stand upright: the mean of two copies, one mirrored")
        self._walks = (request.samples or len(self._copies)) + int(info.has_key) + int(self._enlarges_alpha)
        self._walked = 0
        self._known: Any = None
        self._cleaned: Callable[[Read], Read] | None = None
        """What replaces impulses."""
        self._cut_off: float | None = None
        """Level of the noise where it was cut off at black and white, and that is to be taken back."""

    def prepare(self) -> None:
        """Make the planes beside colour, and study the picture."""
        if self._enlarges_alpha:
            self.alpha = self._side_plane("alpha", "opacity: ")
        if self.reader.info.has_key:
            self.key = self._side_plane("key", "black ink: ")
        if self.request.verb == "denoise" and not self.request.add_noise:
            picture = self.noisy
            self._cleaned = cleaned_of_impulses(picture.read, picture.size, self.request.impulses, self.messages)
        picture = self.noisy
        self._known = self.task.study(picture, "", self.messages)
        if isinstance(self._known, Noise) and self.request.declip and not self.request.add_noise:
            level = self._known.cut_off_level
            self._cut_off = level if level is not None and is_cut_off(picture.read, picture.size) else None

    def close(self) -> None:
        """Give the planes beside colour back."""
        for plane in (self.alpha, self.key):
            if plane is not None:
                plane.close()

    @property
    def noisy(self) -> Plain:
        """The picture as the cascade sees it: premultiplied, or with the noise that is added for a demonstration."""
        plain, level = self._plain("colour"), 2 * (self.request.sigma or 0.0)
        if self._white != 1:
            plain = replace(plain, read=rescaled_read(plain.read, 1 / self._white))
        if self._cleaned:
            plain = replace(plain, read=self._cleaned(plain.read))
        if self._enlarges_alpha:
            return replace(plain, read=premultiplied(self.reader))
        if self.request.add_noise:
            plain = replace(plain, read=with_noise(plain.read, level, self.request.seed, self.channels))
        return plain

    def fits(self, count: int) -> bool:
        """Whether `count` planes of colour may lie in memory."""
        return 4 * self.channels * self._worked[0] * self._worked[1] * count <= self.request.memory_bytes // 4

    def colour(self, write: Write, mode: Mode, draw: int) -> None:
        """Restore colour; `draw` counts posterior draws."""
        if self._white != 1:
            write = rescaled_write(write, self._white)
        picture, seed, finish = self.noisy, self.request.seed + draw, self._finish()
        write = self._weakened(picture.read, write)
        if finish is None:
            self._run(picture, self._known, write, mode, seed, self._copies)
            return
        plane = Plane(self.channels, *self._worked, in_memory=self.fits(1 + self.request.samples))
        try:
            self._run(picture, self._known, plane.write, mode, seed, self._copies)
            finish(plane, write)
        finally:
            plane.close()

    def _finish(self) -> Callable[[Plane, Write], None] | None:
        """What is done with all of the colour behind the model, if anything."""
        factor, level, small = self.task.factor, self._cut_off, self.noisy
        if self._worked != self.size:
            return lambda plane, write: reduce_plane(plane, self.size, write)
        if self.request.verb == "upscale" and self._limited and self.task.cascade.wavelet == "haar":
            upper = self.alpha.read if self.alpha is not None else None
            return lambda plane, write: write_projected(plane, small.read, factor, upper, write)
        return None if level is None else lambda plane, write: write_unclipped(plane, small.read, level, write)

    def observer(self, maximum: int) -> BlockMeans | Fidelity | None:
        """What watches the one result of a request: block means of an enlargement, or PSNR where noise was added.

        Args:
            maximum: largest integer of the file that is written.
        """
        if self.request.add_noise:
            return Fidelity(self.noisy.read, self._plain("colour").read)
        if self.request.verb != "upscale" or self._worked != self.size:
            return None
        return BlockMeans(self.noisy.read, self.task.factor, self.completed, maximum, self.request.denoise)

    def completed(self, where: Rectangle, colour: Tensor) -> Planes:
        """A rectangle of the result with its planes beside colour; colour is divided by its opacity."""
        key = self.key.read(where) if self.key is not None else None
        if self.alpha is not None:
            return Planes(*unmultiplied(colour, self.alpha.read(where)), key)
        opacity = opacity_of(self.reader, filled=self.task.fills_opacity)
        return Planes(colour, None if opacity is None else opacity(where), key)

    def _plain(self, name: str) -> Plain:
        """A plane of the source: "colour", "key", or "alpha" from [0, 1] to [-1, 1]."""

        def read(where: Rectangle) -> Tensor:
            values: Tensor = getattr(self.reader.read(where), name)
            return 2 * values - 1 if name == "alpha" else values

        info = self.reader.info
        channels, step = self.channels if name == "colour" else 1, info.step / self._white
        beside = (opacity_of(self.reader), lambda where: self.reader.read(where).colour)
        return Plain(read, info.size, channels, info.format == "JPEG", step, *beside)

    def _side_plane(self, name: str, prefix: str) -> Plane:
        """The restored opacity or ink, always as the mean; opacity stays within its surroundings."""
        in_memory = 4 * self._worked[0] * self._worked[1] <= self.request.memory_bytes // 16
        plane = Plane(1, *self._worked, in_memory=in_memory)
        given = self._plain(name)
        write: Write = plane.write
        if name == "alpha":
            write = limited(given.read, given.size, self.task.factor, write)
        else:
            write = self._weakened(given.read, write)
        self._run(given, self.task.study(given, prefix, self.messages), write, "mean", 0)
        return plane if self._worked == self.size else reduced_plane(plane, self.size, in_memory)

    def _weakened(self, noisy: Read, write: Write) -> Write:
        part = self.request.strength if self.request.verb == "denoise" else 1.0
        return write if part == 1 else lambda where, values: write(where, noisy(where).lerp(values, part))

    def _run(
        self,
        picture: Plain,
        known: Any,
        write: Write,
        mode: Mode,
        seed: int,
        copies: tuple[Copy, ...] = (Copy(),),
    ) -> None:
        if picture.channels == 3 and self.request.colour == "luma":
            picture = replace(picture, read=reading_luma(picture.read))
            write, known = writing_luma(write), known and known.scaled(LUMA_NOISE)

        def run(copy: Plain, write: Write) -> None:
            walked = self._walked
            self._walked += 1

            def progress(done: int, total: int) -> None:
                if self.progress:
                    self.progress(walked * total + done, self._walks * total)

            self.task.run(copy, known, write, Effort(mode, seed, self.request.memory_bytes * 5 // 8, progress))

        write_averaged(run, picture, copies, self._worked, write, in_memory=self.fits(1))
