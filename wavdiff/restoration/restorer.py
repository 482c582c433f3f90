"""One picture on its way through a cascade: its planes beside colour first, then colour, as often as asked.

Opacity is carried: denoising leaves it alone; enlarging takes colour premultiplied by it, enlarges both, and divides
again, so that the hidden colour of transparent pixels never bleeds into visible ones. The black ink of CMYK is a gray
picture of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d

from wavdiff.images import Planes
from wavdiff.images.rectangle import Read, Rectangle, Write
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.cascade.random_numbers import position_noise
from wavdiff.restoration.channels import LUMA_NOISE, reading_luma, writing_luma
from wavdiff.restoration.planes import Plane
from wavdiff.restoration.request import RestorationRequest
from wavdiff.restoration.tasks import Mode, denoise_picture, draw_schedules, is_local, upscale_picture
from wavdiff.restoration.tiled import Progress, TiledCanvas, denoise_tiled
from wavdiff.system.errors import WavdiffError

if TYPE_CHECKING:
    from wavdiff.restoration.noise_estimation import NoiseEstimate
from wavdiff.images.rectangle import at
from wavdiff.restoration.channels import VISIBLE, Source


class Work:
    """One picture on its way: its planes beside colour are made first, then colour is, as often as asked."""

    def __init__(
        self, cascade: WaveletCascade, reader: Source, request: RestorationRequest, progress: Progress | None
    ) -> None:
        self.cascade, self.reader, self.request, self.progress = cascade, reader, request, progress
        self.messages: list[str] = []
        info = reader.info
        self.channels = info.channels
        if request.colour == "luma" and cascade.channels != 1:
            raise WavdiffError("colour luma is for gray models; this model knows colour, leave it out")
        if request.add_noise and info.has_key:
            raise WavdiffError("add_noise is for gray and RGB pictures, not for CMYK")
        factor = request.factor if request.verb == "upscale" else 1
        if request.verb == "upscale":
            cascade.scales_of(factor)
        self.size = (info.size[0] * factor, info.size[1] * factor)
        self.schedules = draw_schedules(cascade, request.verb, request.solver, request.steps)
        self.alpha: Plane | None = None
        self.key: Plane | None = None
        self._enlarges_alpha = info.has_alpha and request.verb == "upscale"
        self.walks = max(request.samples, 1) + int(info.has_key) + int(self._enlarges_alpha)
        self.walked = 0
        self._levels: dict[str, list[float]] = {}

    def prepare(self) -> None:
        """Make the planes beside colour, and find the noise level."""
        info, request = self.reader.info, self.request
        if self._enlarges_alpha:
            self.alpha = self._side_plane(self._read("alpha"), limited=True)
        if info.has_key:
            self.key = self._side_plane(self._read("key"), "black ink: ")
        if request.verb == "denoise":
            self._noise_levels(self._colour_read(), self.channels, "")

    def fits(self, count: int) -> bool:
        """Whether `count` planes of colour may lie in memory."""
        return 4 * self.channels * self.size[0] * self.size[1] * count <= self.request.memory_bytes // 4

    def close(self) -> None:
        """Give the planes beside colour back."""
        for plane in (self.alpha, self.key):
            if plane is not None:
                plane.close()

    def colour(self, write: Write, mode: Mode, draw: int) -> None:
        """Restore colour; `draw` counts posterior draws."""
        levels = self._levels.get("")
        if levels is not None and max(levels) == 0:  # nothing to remove
            self.copy(self.noisy, write)
        else:
            self._walk(self._colour_read(), self.channels, write, mode, self.request.seed + draw, levels)

    def completed(self, top: int, left: int, colour: Tensor) -> Planes:
        """A rectangle of the result with its planes beside colour; colour is divided by its opacity."""
        where = at(top, left, colour)
        key = self.key.read(where) if self.key is not None else None
        if self.alpha is not None:
            alpha = (self.alpha.read(where) + 1) / 2
            alpha = alpha.clamp(0, 1)
            light = torch.where(alpha > VISIBLE, (colour + 1) / 2 / alpha.clamp(min=VISIBLE), torch.zeros(()))
            return Planes(2 * light.clamp(0, 1) - 1, alpha, key)
        if self.reader.info.has_alpha:
            return Planes(colour, self.reader.read(where.top, where.bottom, where.left, where.right).alpha, key)
        return Planes(colour, None, key)

    def copy(self, read: Callable[[Rectangle], Tensor], write: Write) -> None:
        """Hand a picture of the result's size over, band of rows by band of rows."""
        height, width = self.size
        rows = max(1, (1 << 20) // width)
        for top in range(0, height, rows):
            where = Rectangle(top, min(top + rows, height), 0, width)
            write(top, 0, read(where))

    def noisy(self, where: Rectangle) -> Tensor:
        """A rectangle of the picture as the cascade sees it."""
        return self._colour_read()(where.top, where.bottom, where.left, where.right)

    def compared(self, write: Write) -> Write:
        """`write`, which for an enlargement also compares block means with the input, where a tile has whole blocks."""
        factor = self.request.factor
        if self.request.verb != "upscale":
            return write
        read, place = self._colour_read(), len(self.messages)
        largest = 0.0
        self.messages.append("")

        def compare(top: int, left: int, values: Tensor) -> None:
            nonlocal largest
            where = at(top, left, values)
            first = [-(-edge // factor) for edge in (where.top, where.left)]
            last = [edge // factor for edge in (where.bottom, where.right)]
            if first[0] < last[0] and first[1] < last[1]:
                small = Rectangle(first[0], last[0], first[1], last[1])
                means = avg_pool2d(where.cut(values, small.scaled(factor))[None], factor)[0]
                largest = max(
                    largest, float((means - read(small.top, small.bottom, small.left, small.right)).abs().max())
                )
            self.messages[place] = (
                f"block means differ from the input by at most {largest / 2:.1e} of its range, "
                "before rounding to the file"
            )
            write(top, left, values)

        return compare

    def measured(self, write: Write) -> None:
        """Restore a picture to which noise was added, and say the PSNR before and after."""
        before = after = 0.0

        def measure(top: int, left: int, values: Tensor) -> None:
            nonlocal before, after
            where = at(top, left, values)
            clean = self.reader.read(where.top, where.bottom, where.left, where.right).colour
            before += float((self.noisy(where).clamp(-1, 1) - clean).double().square().sum())
            after += float((values.clamp(-1, 1) - clean).double().square().sum())
            write(top, left, values)

        self.colour(measure, self.request.mode, 0)
        count = self.channels * self.size[0] * self.size[1]
        psnr = [float(10 * torch.log10(torch.tensor(4 * count / max(error, 1e-12)))) for error in (before, after)]
        self.messages.append(f"PSNR {psnr[0]:.2f} dB noisy, {psnr[1]:.2f} dB denoised (both clipped to the range)")

    def _read(self, name: str) -> Read:
        def read(top: int, bottom: int, left: int, right: int) -> Tensor:
            values: Tensor = getattr(self.reader.read(top, bottom, left, right), name)
            return 2 * values - 1 if name == "alpha" else values

        return read

    def _colour_read(self) -> Read:
        plain = self._read("colour")
        request = self.request
        if self.alpha is not None:

            def premultiplied(top: int, bottom: int, left: int, right: int) -> Tensor:
                planes = self.reader.read(top, bottom, left, right)
                assert planes.alpha is not None
                return (planes.colour + 1) * planes.alpha - 1

            return premultiplied
        if request.add_noise and request.sigma is not None:
            level = 2 * request.sigma

            def noisy(top: int, bottom: int, left: int, right: int) -> Tensor:
                where = Rectangle(top, bottom, left, right)
                noise = position_noise((request.seed, "added noise"), self.channels, where)
                return plain(top, bottom, left, right) + level * noise

            return noisy
        return plain

    def _side_plane(self, read: Read, name: str = "", *, limited: bool = False) -> Plane:
        """The restored alpha or key plane, always as the mean; `limited`: see `_limited`."""
        plane = Plane(1, *self.size, in_memory=4 * self.size[0] * self.size[1] <= self.request.memory_bytes // 16)
        levels = self._noise_levels(read, 1, name) if self.request.verb == "denoise" else None

        def write(top: int, left: int, values: Tensor) -> None:
            where = at(top, left, values)
            plane.write(where, self._limited(read, where, values) if limited else values)

        if levels is not None and max(levels) == 0:
            self.copy(lambda where: read(where.top, where.bottom, where.left, where.right), write)
        else:
            self._walk(read, 1, write, "mean", 0, levels)
        return plane

    def _limited(self, read: Read, where: Rectangle, values: Tensor) -> Tensor:
        """Enlarged values within the range of the small picture's nine pixels around them.

        What is opaque all around stays opaque to the last bit, and what is transparent stays transparent.
        """
        factor, size = self.request.factor, self.reader.info.size
        small = Rectangle(
            where.top // factor, -(-where.bottom // factor), where.left // factor, -(-where.right // factor)
        )
        region = small.grown(1, size)
        around = read(region.top, region.bottom, region.left, region.right)[None]
        upper, lower = (sign * max_pool2d(sign * around, 3, stride=1, padding=1)[0] for sign in (1, -1))
        limits = []
        for limit in (lower, upper):
            large = region.cut(limit, small).repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)
            limits.append(small.scaled(factor).cut(large, where))
        return torch.maximum(torch.minimum(values, limits[1]), limits[0])

    def _walk(self, read: Read, channels: int, write: Write, mode: Mode, seed: int, levels: list[float] | None) -> None:
        request, walked = self.request, self.walked
        self.walked += 1

        def progress(done: int, total: int) -> None:
            if self.progress:
                self.progress(walked * total + done, self.walks * total)

        size, memory = self.reader.info.size, request.memory_bytes * 5 // 8
        if channels == 3 and request.colour == "luma":
            read, write = reading_luma(read), writing_luma(write)
            levels = None if levels is None else [LUMA_NOISE * level for level in levels]
        if request.verb == "upscale":
            upscale_picture(
                self.cascade, read, size, channels, request.factor, write, mode=mode, seed=seed,
                schedule=self.schedules[1], memory_bytes=memory, progress=progress,
            )  # fmt: skip
            return
        assert levels is not None
        denoise_picture(
            self.cascade, read, size, channels, levels, write, mode=mode, seed=seed,
            schedules=self.schedules, memory_bytes=memory, progress=progress,
        )  # fmt: skip

    def _noise_levels(self, read: Read, channels: int, name: str) -> list[float]:
        """Library-unit noise levels of all scales, given or estimated."""
        scales = self.cascade.levels + 1
        if self.request.sigma is not None:
            self._levels[name] = [2 * self.request.sigma] * scales
        else:
            estimate = estimate_levels(self.cascade, read, self.reader.info.size, channels)
            self.messages += [f"{name}{line}" for line in estimate.report().splitlines()]
            if not estimate.white and not is_local(self.cascade):
                self.messages.append(f"{name}this model takes one level for all scales: that of the finest octave")
            levels = scale_levels(estimate, scales) if estimate.measurable else [0.0] * scales
            self._levels[name] = self._within_training(levels, name)
        check_noise(self.cascade, max(self._levels[name]) / 2, given=self.request.sigma is not None)
        return self._levels[name]

    def _within_training(self, levels: list[float], name: str) -> list[float]:
        """Levels; single ones above what the model was trained for are limited to that, and the others cleaned."""
        most = self.cascade.noise_max
        if most is None or not min(levels) <= 2 * most < max(levels):
            return levels
        self.messages.append(
            f"{name}octaves with more noise than this model was trained for are cleaned as of {255 * most:.0f}/255"
        )
        return [min(level, 2 * most) for level in levels]


def check_noise(cascade: WaveletCascade, sigma: float, *, given: bool) -> None:
    """Refuse noise that a model never saw: beyond it, networks return anything.

    Raises:
        WavdiffError: `sigma`, in [0, 1] units, is above `cascade.noise_max`.
    """
    most = cascade.noise_max
    if most is not None and sigma > most * (1 + 1e-6):
        what = "sigma is" if given else "the noise was estimated as"
        raise WavdiffError(
            f"{what} {sigma:.3g} ({255 * sigma:.0f}/255), but this model was trained for noise of at most {most:.3g} "
            f"({255 * most:.0f}/255); choose another model"
        )


def estimate_levels(cascade: WaveletCascade, read: Read, size: tuple[int, int], channels: int) -> NoiseEstimate:
    """The noise of a picture, with the cascade's own estimate as a second opinion where its networks are local."""
    denoise: Callable[[Tensor, float], Tensor] | None = None
    if is_local(cascade):

        def denoise(batch: Tensor, sigma: float) -> Tensor:
            results = torch.empty_like(batch)
            for picture, result in zip(batch, results, strict=True):
                denoise_tiled(
                    TiledCanvas(cascade, channels),
                    lambda top, bottom, left, right: picture[:, top:bottom, left:right],  # noqa: B023
                    (picture.shape[1], picture.shape[2]),
                    [2 * sigma] * (cascade.levels + 1),
                    lambda top, left, values: result[  # noqa: B023
                        :, top : top + values.shape[1], left : left + values.shape[2]
                    ].copy_(values),
                )
            return results

    from wavdiff.restoration.noise_estimation import estimate_noise

    return estimate_noise(read, size, channels, octaves=max(cascade.levels, 1) + 1, denoise=denoise)


def scale_levels(estimate: NoiseEstimate, scales: int) -> list[float]:
    """The estimate as noise levels of every scale, finest first, the low-pass last; library units."""
    if estimate.white:
        return [2 * estimate.sigma] * scales
    octaves = [*estimate.octaves, *[estimate.octaves[-1]] * scales]
    return [2 * level for level in octaves[:scales]]
