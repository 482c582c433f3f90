"""The walk from coarse to fine over a picture of any size, tile by tile, with the result of one pass over the whole.

Scale after scale, and step after step of a solver, every tile is computed from the state of the step before, read
with a halo of half the network's receptive field. The halo is cut off again, so no tile knows where it ends: tiled
and untiled results differ by rounding only (Kadkhodaie et al., ICLR 2023, make their networks local for the same
reason). What lies between two scales, a coarse image or the state of a solver, is a `Plane`; nothing else is as large
as the picture.

The picture is framed by FRAME pixels of its own mirror image, cut off at the end, so that its border is far from the
networks' zero padding. Random numbers are a function of the seed, the scale, the step and the place, not of the tile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from wavdiff.images.rectangle import Read, Rectangle, Write
from wavdiff.models import wavelets
from wavdiff.models.cascade.blind_denoisers import BlindDetailDenoiser, BlindLowpassDenoiser, mean_at_top
from wavdiff.models.cascade.denoisers import DetailDenoiser
from wavdiff.models.cascade.folded_denoisers import (
    FusedBlindDetailDenoiser,
    FusedBlindLowpassDenoiser,
    FusedDetailDenoiser,
    FusedLowpassDenoiser,
)
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.cascade.networks import BiasFreeNetwork, LocalNetwork
from wavdiff.models.cascade.random_numbers import position_noise
from wavdiff.models.cascade.solvers import Ladder, Step, from_level, recurrence
from wavdiff.restoration.frame import FramedPicture
from wavdiff.restoration.planes import Plane, tiles
from wavdiff.system.devices import has_fast_bfloat16
from wavdiff.system.errors import WavdiffError

FRAME = 16
"""Pixels of mirror image around a noisy picture."""


SMALL_FRAME = 8
"""Pixels of mirror image around a small picture that is enlarged."""


LARGEST_TILE = 512 * 512
"""Pixels of a tile, on the grid of its scale, however much memory there is."""


Progress = Callable[[int, int], None]
"""progress(tiles done, tiles in all)."""


class _Image(Protocol):
    """What a scale is refined from: a plane, or the framed picture itself."""

    size: tuple[int, int]

    def read(self, where: Rectangle) -> Tensor: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class _Noisy:
    """The observation of one scale: the picture, and the noise levels of its details and its coarse image."""

    picture: FramedPicture
    level: float
    coarse_level: float


@dataclass
class _Target:
    """Where a scale's image goes: a plane for the next scale, or, cut out of its frame, the caller."""

    plane: Plane | None
    inner: Rectangle
    write_picture: Write

    def write(self, where: Rectangle, values: Tensor) -> None:
        values = values.cpu()
        if self.plane is not None:
            self.plane.write(where, values)
            return
        seen = Rectangle(
            max(where.top, self.inner.top),
            min(where.bottom, self.inner.bottom),
            max(where.left, self.inner.left),
            min(where.right, self.inner.right),
        )
        if seen.height > 0 and seen.width > 0:
            self.write_picture(seen.top - self.inner.top, seen.left - self.inner.left, where.cut(values, seen))


class TiledWalk:
    """The verbs of a cascade over one picture.

    Args:
        cascade: its detail networks must be local and its wavelet Haar; to denoise, its low-pass network local too.
        channels: P of the picture, 1 or 3. A gray picture meets an RGB cascade as three equal channels, folded into one
            (see `fused`); the channels of an RGB picture meet a gray cascade apart.
        memory_bytes: what planes and tiles may take together, roughly.
        precision: torch.bfloat16, torch.float32, or None for bfloat16 where the processor has it fast.
        progress: called after every tile.
        tile_pixels: most pixels of a tile, on the grid of its scale; None for what the memory allows.

    Raises:
        WavdiffError: a cascade that cannot be walked tile by tile.
    """

    def __init__(
        self,
        cascade: WaveletCascade,
        channels: int,
        *,
        memory_bytes: int = 1 << 30,
        precision: torch.dtype | None = None,
        progress: Progress | None = None,
        tile_pixels: int | None = None,
    ) -> None:
        if cascade.wavelet != "haar":
            raise WavdiffError(f"pictures are walked in tiles with the Haar wavelet only, not {cascade.wavelet!r}")
        if channels not in (1, 3):
            raise WavdiffError(f"a picture has 1 (gray) or 3 (RGB) channels, got {channels}")
        for name in cascade.scale_names[1:]:
            local_network(cascade, name)
        self.device = cascade.device  # diffusers looks it up slowly: for all modules
        if precision is None:
            fast = cascade.autocast and has_fast_bfloat16(self.device)
            precision = torch.bfloat16 if fast else torch.float32
        self.cascade, self.channels, self.progress = cascade, channels, progress
        self.precision, self.memory_bytes, self.tile_pixels = precision, memory_bytes, tile_pixels
        self.images = channels if cascade.channels == 1 else 1
        self.gray = cascade.channels == 3 and channels == 1
        self._done, self._all = 0, 0

    @torch.inference_mode()
    def denoise(
        self,
        read: Read,
        size: tuple[int, int],
        noise_levels: list[float],
        write: Write,
        *,
        mode: Literal["mean", "sample"] = "mean",
        seed: int = 0,
        ladders: tuple[Ladder, Ladder] | None = None,
    ) -> None:
        """Remove white noise.

        Args:
            read, size: the noisy picture, any size.
            noise_levels: for every detail scale, finest first, and the low-pass image: the standard deviation of the
                noise there as that of white noise on the picture, library units; for white noise all are equal.
            write: takes the result.
            mode: "mean" (the estimated posterior mean) or "sample" (a draw from the posterior).
            seed: of the draw.
            ladders: (low-pass, details) for "sample"; they start at the noise level.
        """
        levels = self.cascade.levels
        if len(noise_levels) != levels + 1 or not all(0 <= level < float("inf") for level in noise_levels):
            raise WavdiffError(f"{levels + 1} noise levels of at least 0 are needed, got {noise_levels}")
        local_network(self.cascade, "low")
        picture = FramedPicture(read, size, self.channels, FRAME, 2**levels)
        # A level of exactly zero has no denoiser; 1e-4 is beyond what 16 bits can show.
        given = [max(level, 1e-4) for level in noise_levels]
        details = [level / 2 ** (scale + 1) for scale, level in enumerate(given[:-1])]
        low, fine = ladders or (
            self.cascade.ladder("lowpass", solver="sde-dpm"),
            self.cascade.ladder("details", solver="sde-dpm"),
        )
        coarse_level = given[-1] / 2**levels
        low = from_level(low, coarse_level / self.cascade.lowpass.std)
        fines = [from_level(fine, details[s] / self.cascade.details[s].std) for s in range(levels)]
        calls = [len(recurrence(ladder)) for ladder in (*fines, low)] if mode == "sample" else [1] * (levels + 1)
        self._plan(picture.size, range(levels + 1), calls)

        if levels:
            picture.keep_half(self.channels * picture.size[0] * picture.size[1] <= self.memory_bytes // 8)
        target = self._target(picture, levels, levels, write)
        if mode == "sample":
            self._sample_lowpass(picture, coarse_level, target, low, seed)
        else:
            self._mean_lowpass(picture, coarse_level, target)
        for scale in range(levels - 1, -1, -1):
            coarse, target = target.plane, self._target(picture, scale, scale, write)
            assert coarse is not None
            noisy = _Noisy(picture, details[scale], coarse_level)
            if mode == "sample":
                self._sample_details(coarse, scale, target, fines[scale], seed, noisy)
            else:
                self._mean_details(coarse, scale, target, noisy)
            coarse.close()
            coarse_level = (coarse_level**2 + 3 * details[scale] ** 2) ** 0.5
        picture.close()

    @torch.inference_mode()
    def upscale(
        self,
        read: Read,
        size: tuple[int, int],
        factor: int,
        write: Write,
        *,
        mode: Literal["mean", "sample"] = "mean",
        seed: int = 0,
        ladder: Ladder | None = None,
    ) -> None:
        """Enlarge a picture; the block means of the result are the picture, to rounding.

        Args:
            read, size: the small picture, any size.
            factor: 2, 4, ... 2^J.
            write: takes the result, `factor` times as large.
            mode: "mean" (one call a scale) or "sample".
            seed, ladder: of the draw.
        """
        scales = self.cascade.scales_of(factor)
        picture = FramedPicture(read, size, self.channels, SMALL_FRAME)
        ladder = ladder or self.cascade.ladder("details")
        large = (picture.size[0] * factor, picture.size[1] * factor)
        self._plan(large, range(scales), [len(recurrence(ladder)) if mode == "sample" else 1] * scales)
        coarse: FramedPicture | Plane = picture
        for scale in range(scales - 1, -1, -1):
            target = self._target(picture, scale - scales, scale, write)
            if mode == "sample":
                self._sample_details(coarse, scale, target, ladder, seed, None)
            else:
                self._mean_details(coarse, scale, target, None)
            coarse.close()
            if target.plane is not None:
                coarse = target.plane

    # One scale, one network call

    def _mean_lowpass(self, picture: FramedPicture, level: float, target: _Target) -> None:
        model, levels = self.cascade.lowpass, self.cascade.levels
        denoiser = self._lowpass_denoiser(level / model.std, model.std, mean=True)
        for tile, region in self._tiles("low", picture.size_at(levels)):
            clean = denoiser(self._images(picture.at(levels, region)))
            target.write(tile, region.cut(clean, tile).flatten(0, 1))
            self._count()

    def _mean_details(self, coarse: _Image, scale: int, target: _Target, noisy: _Noisy | None) -> None:
        model: DetailDenoiser | BlindDetailDenoiser = self.cascade.details[scale]
        level = noisy.level / model.std if noisy else model.top
        knows_noise = noisy is not None and self.cascade.conditioning_augmentation
        coarse_level = noisy.coarse_level / model.std if noisy and knows_noise else 0.0
        denoiser = self._detail_denoiser(scale, level, coarse_level, model.std, mean=True)
        for tile, region in self._tiles(str(scale), coarse.size):
            x = self._images(coarse.read(region))
            if noisy is None:
                details = mean_at_top(model, scale, x, region, lambda d: denoiser(d, x)[0])  # noqa: B023
            else:
                y, d = wavelets.split(self._images(noisy.picture.at(scale, region.scaled(2))))
                details, x = denoiser(d, x, y if knows_noise else None)
            fine = wavelets.join(region.cut(x, tile), region.cut(details, tile))
            target.write(tile.scaled(2), fine.flatten(0, 1))
            self._count()

    # One scale, a reverse diffusion

    def _sample_lowpass(self, picture: FramedPicture, level: float, target: _Target, ladder: Ladder, seed: int) -> None:
        model, levels = self.cascade.lowpass, self.cascade.levels

        def denoiser_at(step: Step) -> Callable[[Rectangle, Tensor], Tensor]:
            denoiser = self._lowpass_denoiser(step.level, 1.0)
            return lambda region, state: denoiser(state)

        self._solve(
            "low",
            picture.size_at(levels),
            lambda region: self._images(picture.at(levels, region)) / model.std,
            denoiser_at,
            lambda tile, state: target.write(tile, (model.std * state).flatten(0, 1)),
            ladder,
            (seed, "low"),
        )

    def _sample_details(
        self, coarse: _Image, scale: int, target: _Target, ladder: Ladder, seed: int, noisy: _Noisy | None
    ) -> None:
        model: DetailDenoiser = self.cascade.details[scale]
        count = 3 * self.channels
        key = (seed, "details", scale)

        def start(region: Rectangle) -> Tensor:
            if noisy is None:
                return self._images(ladder.sigma_max * position_noise((*key, "start"), count, region), 3)
            return wavelets.split(self._images(noisy.picture.at(scale, region.scaled(2))))[1] / model.std

        def denoiser_at(step: Step) -> Callable[[Rectangle, Tensor], Tensor]:
            denoiser = self._detail_denoiser(scale, step.level, 0.0, 1.0)
            return lambda region, state: denoiser(state, self._images(coarse.read(region)))[0]

        def finish(tile: Rectangle, state: Tensor) -> None:
            fine = wavelets.join(self._images(coarse.read(tile)), model.std * state)
            target.write(tile.scaled(2), fine.flatten(0, 1))

        self._solve(str(scale), coarse.size, start, denoiser_at, finish, ladder, key)

    def _solve(
        self,
        name: str,
        size: tuple[int, int],
        start: Callable[[Rectangle], Tensor],
        denoiser_at: Callable[[Step], Callable[[Rectangle, Tensor], Tensor]],
        finish: Callable[[Rectangle, Tensor], None],
        ladder: Ladder,
        key: tuple[object, ...],
    ) -> None:
        """Walk down the ladder, all tiles one step after the other; `finish` takes the tiles of the last step."""
        steps = recurrence(ladder)
        groups = 1 if name == "low" else 3
        count = groups * self.channels
        in_memory = 16 * count * size[0] * size[1] <= self.memory_bytes // 4
        state: Plane | None = None
        before: Plane | None = None
        for index, step in enumerate(steps):
            last = index == len(steps) - 1
            denoiser = denoiser_at(step)
            following = None if last else Plane(count, *size, in_memory=in_memory)
            denoised_plane = None if last or not steps[index + 1].before else Plane(count, *size, in_memory=in_memory)
            for tile, region in self._tiles(name, size):
                y = start(region) if state is None else self._images(state.read(region), groups)
                denoised = region.cut(denoiser(region, y), tile)
                y = step.state * region.cut(y, tile) + step.denoised * denoised
                if step.before and before is not None:
                    y = y + step.before * self._images(before.read(tile), groups)
                if step.noise:
                    noise = position_noise((*key, index), count, tile)
                    y = y + step.noise * self._images(noise, groups)
                if following is None:
                    finish(tile, y)
                else:
                    following.write(tile, y.flatten(0, 1))
                if denoised_plane is not None:
                    denoised_plane.write(tile, denoised.flatten(0, 1))
                self._count()
            for plane in (state, before):
                if plane is not None:
                    plane.close()
            state, before = following, denoised_plane

    # Pieces

    def _lowpass_denoiser(self, level: float, unit: float, *, mean: bool = False) -> Callable[[Tensor], Tensor]:
        model = self.cascade.lowpass
        if isinstance(model, BlindLowpassDenoiser):
            return FusedBlindLowpassDenoiser(model, unit, gray=self.gray, dtype=self._blind_precision(mean))
        return FusedLowpassDenoiser(model, level, unit, gray=self.gray, dtype=self.precision)

    def _detail_denoiser(
        self, scale: int, level: float, coarse_level: float, unit: float, *, mean: bool = False
    ) -> Callable[..., tuple[Tensor, Tensor]]:
        model: DetailDenoiser | BlindDetailDenoiser = self.cascade.details[scale]
        if isinstance(model, BlindDetailDenoiser):
            return FusedBlindDetailDenoiser(model, unit, gray=self.gray, dtype=self._blind_precision(mean))
        return FusedDetailDenoiser(model, level, coarse_level, unit, gray=self.gray, dtype=self.precision)

    def _blind_precision(self, mean: bool) -> torch.dtype:
        """Blind networks need float32 but in the steps of a solver (see `blind`)."""
        return torch.float32 if mean else self.precision

    def _images(self, values: Tensor, groups: int = 1) -> Tensor:
        """(P groups, h, w) as the batch that the networks see, (images, channels groups, h, w)."""
        if self.images == 1:
            return values[None].to(self.device)
        return values.reshape(self.images, -1, *values.shape[-2:]).to(self.device)

    def _most(self, name: str) -> int:
        """Pixels of a tile: half of the memory for what a network and its inputs hold per pixel."""
        if self.tile_pixels is not None:
            return self.tile_pixels
        width = int(local_network(self.cascade, name).config["width"])
        bytes_per_pixel = self.images * (3 * width * self.precision.itemsize + 400)
        return max(64 * 64, min(LARGEST_TILE, self.memory_bytes // 2 // bytes_per_pixel))

    def _tiles(self, name: str, size: tuple[int, int]) -> Any:
        halo = local_network(self.cascade, name).receptive_field // 2
        for tile in tiles(size, self._most(name)):
            yield tile, tile.grown(halo, size)

    def _target(self, picture: FramedPicture, shrink: int, scale: int, write: Write) -> _Target:
        """Target of x_scale, whose sides are the picture's divided by 2^shrink."""
        height, width = (side >> shrink if shrink >= 0 else side << -shrink for side in picture.size)
        if scale == 0:
            return _Target(None, picture.inner.scaled(2 ** max(-shrink, 0)), write)
        in_memory = 4 * self.channels * height * width <= self.memory_bytes // 8
        return _Target(Plane(self.channels, height, width, in_memory=in_memory), picture.inner, write)

    def _plan(self, size: tuple[int, int], scales: range, calls: list[int]) -> None:
        """Count the tiles of a walk over `size`; `calls` per scale, finest first, the low-pass last."""
        self._done = self._all = 0
        for scale, count in zip(scales, calls, strict=True):
            name = "low" if scale == self.cascade.levels else str(scale)
            shrink = self.cascade.levels if name == "low" else scale + 1
            self._all += count * sum(1 for _ in tiles((size[0] >> shrink, size[1] >> shrink), self._most(name)))

    def _count(self) -> None:
        self._done += 1
        if self.progress:
            self.progress(self._done, self._all)


def local_network(cascade: WaveletCascade, name: str) -> LocalNetwork | BiasFreeNetwork:
    """The network of scale `name`, if it is local.

    Raises:
        WavdiffError: it sees the whole image.
    """
    network = cascade.denoiser(name).network
    if not isinstance(network, LocalNetwork | BiasFreeNetwork):
        raise WavdiffError(
            f"the network of scale {name} sees the whole image, so pictures cannot be walked in tiles with this model"
        )
    return network
