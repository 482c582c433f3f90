"""A picture of any size as a canvas: walked tile by tile, with the result of one pass over the whole.

Every tile is computed from the state of the step before, read with a halo of half the network's receptive field. The
halo is cut off again, so no tile knows where it ends: tiled and untiled results differ by rounding only (Kadkhodaie et
al., ICLR 2023, make their networks local for the same reason). What lies between two scales or steps is a `Plane`;
nothing else is as large as the picture.

The picture is framed by FRAME pixels of its own mirror image, cut off at the end, so that its border is far from the
networks' zero padding. Random numbers are a function of the seed, the scale, the step and the place, not of the tile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from wavdiff.images.disk_array import Plane
from wavdiff.images.rectangle import Read, Rectangle, Write, tiles
from wavdiff.models import wavelets
from wavdiff.models.cascade import walk
from wavdiff.models.cascade.canvas import AtLevel
from wavdiff.models.cascade.joint_walk import draw_posterior
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.cascade.solvers import Schedule
from wavdiff.models.random_numbers import position_noise
from wavdiff.restoration.frame import FramedPicture, block_means
from wavdiff.system.devices import has_fast_bfloat16, takes_winograd
from wavdiff.system.errors import WavdiffError

FRAME = 16
"""Pixels of mirror image around a noisy picture."""
SMALL_FRAME = 8
"""Pixels of mirror image around a small picture that is enlarged."""
LARGEST_TILE = 512 * 512
"""Pixels of a tile, on the grid of its scale, however much memory there is."""
HIDDEN_STATES = 3
"""Arrays as large as a network's hidden state that it needs at once."""
HIDDEN_STATES_WINOGRAD = 8
"""The same where Winograd's algorithm transforms input and output of a layer, to 64 / 36 of their size each."""
Progress = Callable[[int, int], None]
"""progress(tiles done, tiles in all)."""


class TiledCanvas:
    """One picture, see the module.

    Args:
        cascade: its detail networks must be local and its wavelet Haar; to denoise, its low-pass network local too.
        channels: P of the picture, 1 or 3. A gray picture meets an RGB cascade as three equal channels, folded into one
            (see `networks.folded`); the channels of an RGB picture meet a gray cascade apart.
        seed: of draws.
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
        seed: int = 0,
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
            check_local(cascade, name)
        self.device = cascade.device
        if precision is None:
            fast = cascade.autocast and has_fast_bfloat16(self.device)
            precision = torch.bfloat16 if fast else torch.float32
        self.cascade, self.planes, self.seed = cascade, channels, seed
        self.precision, self.memory_bytes, self.tile_pixels = precision, memory_bytes, tile_pixels
        self.images = channels if cascade.channels == 1 else 1
        self.gray = cascade.channels == 3 and channels == 1
        self.progress, self._done, self._all = progress, 0, 0

    def begin(self, framed: FramedPicture, factor: int, write: Write) -> None:
        """Take a framed picture, from which one `factor` times as large is made."""
        self._size = (framed.size[0] * factor, framed.size[1] * factor)
        self._inner, self._write = framed.inner.scaled(factor), write

    def size(self, grid: int) -> tuple[int, int]:
        """(height, width) of x_grid, framed."""
        return self._size[0] >> grid, self._size[1] >> grid

    def image(self, grid: int) -> Any:
        """A plane for the next scale or, cut out of its frame, the caller."""
        return _Delivery(self) if grid == 0 else _PlaneField(self, grid, 1, share=8)

    def plane(self, grid: int, groups: int) -> Any:
        """A plane."""
        return _PlaneField(self, grid, groups, share=16)

    def sweep(self, grid: int, denoiser: Any) -> Iterator[tuple[Rectangle, Rectangle]]:
        """Tiles, with half of the receptive field around them."""
        halo, size = denoiser.network.receptive_field // 2, self.size(grid)
        for tile in tiles(size, self._most(denoiser)):
            yield tile, tile.grown(halo, size)
            self._done += 1
            if self.progress:
                self.progress(self._done, self._all)

    def pieces(self, multiple: int) -> Iterator[Rectangle]:
        """Tiles that no network looks at."""
        height, width = self.size(0)
        for tile in tiles((height // multiple, width // multiple), max(1, LARGEST_TILE // multiple**2)):
            yield tile.scaled(multiple)

    def observe(self, image: Any, levels: int, wavelet: str) -> _Observed:
        """A plane by its block means."""
        return _Observed(lambda scale, where: block_means(image.read(where.scaled(2**scale)), 2**scale), levels)

    def noise(self, purpose: tuple[object, ...], step: object, groups: int, where: Rectangle) -> Tensor:
        """Noise by place."""
        return self.batch(position_noise((self.seed, *purpose, step), groups * self.planes, where))

    def at(self, denoiser: Any, level: float, coarse_level: float | None = None, *, mean: bool = False) -> AtLevel:
        """The denoiser's folded form; a blind one needs float32 but in a solver's steps (see `blind_denoisers`)."""
        dtype = torch.float32 if mean and denoiser.mean_draws else self.precision
        folded = denoiser.at(level, coarse_level or 0.0, gray=self.gray, dtype=dtype)
        return lambda noisy, coarse: folded.denoise(noisy, None, coarse)

    def batch(self, values: Tensor) -> Tensor:
        """(P c, h, w) as the batch that the networks see, (images, c, h, w)."""
        if self.images == 1:
            return values[None].to(self.device)
        return values.reshape(self.images, -1, *values.shape[-2:]).to(self.device)

    def deliver(self, where: Rectangle, values: Tensor) -> None:
        """Hand a rectangle of the framed result on, without its frame."""
        seen = where.common(self._inner)
        if seen.height > 0 and seen.width > 0:
            self._write(seen.relative_to(self._inner), where.cut(values, seen))

    def plan(self, calls: list[tuple[int, Any, int]]) -> None:
        """Count the tiles of a walk of calls: grid, denoiser, how often."""
        self._done = 0
        self._all = sum(
            count * sum(1 for _ in tiles(self.size(grid), self._most(denoiser))) for grid, denoiser, count in calls
        )

    def _most(self, denoiser: Any) -> int:
        """Pixels of a tile: half of the memory for what a network and its inputs hold per pixel."""
        if self.tile_pixels is not None:
            return self.tile_pixels
        width = int(denoiser.network.config["width"])
        winograd = self.precision == torch.float32 and takes_winograd(self.device)
        states = HIDDEN_STATES_WINOGRAD if winograd else HIDDEN_STATES
        bytes_per_pixel = self.images * (states * width * self.precision.itemsize + 400)
        return max(64 * 64, min(LARGEST_TILE, self.memory_bytes // 2 // bytes_per_pixel))


class _PlaneField:
    """A plane as a field; in memory where it fits into a part 1 / `share` of that, with its like."""

    def __init__(self, canvas: TiledCanvas, grid: int, groups: int, share: int) -> None:
        self.size, self._canvas = canvas.size(grid), canvas
        count = groups * canvas.planes
        in_memory = 4 * count * self.size[0] * self.size[1] <= canvas.memory_bytes // share
        self._plane = Plane(count, *self.size, in_memory=in_memory)

    def read(self, where: Rectangle) -> Tensor:
        return self._canvas.batch(self._plane.read(where))

    def write(self, where: Rectangle, values: Tensor) -> None:
        self._plane.write(where, values.flatten(0, 1).cpu())

    def close(self) -> None:
        self._plane.close()


class _Delivery:
    """Where x_0 goes."""

    def __init__(self, canvas: TiledCanvas) -> None:
        self._canvas = canvas

    def write(self, where: Rectangle, values: Tensor) -> None:
        self._canvas.deliver(where, values.flatten(0, 1).cpu())

    def close(self) -> None:
        pass


class _Observed:
    """An observation, by its x_scale: `at(scale, where)` are rectangles (images, c, h, w) of it."""

    def __init__(self, at: Callable[[int, Rectangle], Tensor], levels: int) -> None:
        self._at, self._levels = at, levels

    def coarse(self, where: Rectangle) -> Tensor:
        return self._at(self._levels, where)

    def split(self, scale: int, where: Rectangle) -> tuple[Tensor, Tensor]:
        return wavelets.split(self._at(scale, where.scaled(2)))


class _Framed:
    """A framed picture as a field that is read only."""

    def __init__(self, picture: FramedPicture, canvas: TiledCanvas) -> None:
        self._picture, self._canvas = picture, canvas

    def read(self, where: Rectangle) -> Tensor:
        return self._canvas.batch(self._picture.read(where))

    def write(self, where: Rectangle, values: Tensor) -> None:
        raise NotImplementedError("a picture is read only")

    def close(self) -> None:
        self._picture.close()


@torch.inference_mode()
def denoise_tiled(
    canvas: TiledCanvas,
    read: Read,
    size: tuple[int, int],
    noise_levels: list[float],
    write: Write,
    schedule: Schedule | None = None,
) -> None:
    """Remove noise.

    Args:
        canvas: the model, and how.
        read, size: the noisy picture, any size.
        noise_levels: for every detail scale, finest first, and the low-pass image: the standard deviation of the
            noise there as that of white noise on the picture, library units; for white noise all are equal.
        write: takes the result.
        schedule: of a draw from the posterior, starting at the noise level; None: its mean.
    """
    cascade, levels = canvas.cascade, canvas.cascade.levels
    if len(noise_levels) != levels + 1 or not all(0 <= level < float("inf") for level in noise_levels):
        raise WavdiffError(f"{levels + 1} noise levels of at least 0 are needed, got {noise_levels}")
    check_local(cascade, "low")
    picture = FramedPicture(read, size, canvas.planes, FRAME, 2**levels)
    canvas.begin(picture, 1, write)
    given = [max(level, 1e-7) for level in noise_levels]  # no schedule begins at zero
    calls = 1 if schedule is None else schedule.beginning_at(1.0).calls
    canvas.plan([(levels, cascade.lowpass, calls), *((k + 1, each, calls) for k, each in enumerate(cascade.details))])
    if schedule is not None:
        draw_posterior(cascade, canvas, _Framed(picture, canvas), given, schedule)
    else:
        if levels:
            picture.keep_half(canvas.planes * picture.size[0] * picture.size[1] <= canvas.memory_bytes // 8)
        observed = _Observed(lambda scale, where: canvas.batch(picture.at(scale, where)), levels)
        walk.denoise(cascade, canvas, observed, given)
    picture.close()


@torch.inference_mode()
def upscale_tiled(
    canvas: TiledCanvas,
    read: Read,
    size: tuple[int, int],
    factor: int,
    write: Write,
    schedule: Schedule | None = None,
) -> None:
    """Enlarge a picture; the block means of the result are the picture, to rounding.

    Args:
        canvas: the model, and how.
        read, size: the small picture, any size.
        factor: 2, 4, ... 2^J.
        write: takes the result, `factor` times as large.
        schedule: of a draw; None: the mean, one call a scale.
    """
    cascade = canvas.cascade
    scales = cascade.scales_of(factor)
    picture = FramedPicture(read, size, canvas.planes, SMALL_FRAME)
    canvas.begin(picture, factor, write)
    count = 1 if schedule is None else schedule.calls
    canvas.plan([(scale + 1, cascade.details[scale], count) for scale in range(scales)])
    walk.enlarge(cascade, canvas, _Framed(picture, canvas), scales, schedule)


def check_local(cascade: WaveletCascade, name: str) -> None:
    """Check that the network of scale `name` is local.

    Raises:
        WavdiffError: it sees the whole image.
    """
    if cascade.denoiser(name).network.receptive_field is None:
        raise WavdiffError(
            f"the network of scale {name} sees the whole image, so pictures cannot be walked in tiles with this model"
        )
