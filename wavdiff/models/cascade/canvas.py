"""Where a walk happens: a whole batch at once, or (in `restoration.tiled`) a picture tile by tile.

A walk computes arrays on the grids of the images x_0, x_1, ..., x_J, each half as fine as the one before. A canvas
says how: it gives arrays (`Field`), the tiles in which one is computed with the halo that a network needs around them,
noise, and a denoiser at its noise level. Scale after scale and step after step of a solver goes over all tiles before
the next begins, so that a halo is half of one receptive field and nothing is computed twice but that. A batch is one
tile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from wavdiff.images.rectangle import Rectangle
from wavdiff.models import wavelets
from wavdiff.models.cascade.denoising import Coarse, Denoised
from wavdiff.models.random_numbers import derive_generator, draw_noise

AtLevel = Callable[[Tensor, Coarse | None], Denoised]
"""A denoiser at its noise level: noisy coefficients and, of details, the coarse image without its level."""


class Field(Protocol):
    """An array (B, c, h, w), library units."""

    def read(self, where: Rectangle) -> Tensor:
        """A rectangle; not to be written to."""
        ...

    def write(self, where: Rectangle, values: Tensor) -> None:
        """Set a rectangle."""
        ...

    def close(self) -> None:
        """Give memory back."""
        ...


class Observation(Protocol):
    """A noisy picture as the scales see it."""

    def coarse(self, where: Rectangle) -> Tensor:
        """A rectangle of the noisy x_J, (B, C, h, w)."""
        ...

    def split(self, scale: int, where: Rectangle) -> tuple[Tensor, Tensor]:
        """The noisy x_{scale + 1} and the noisy details that make x_scale of it, both there."""
        ...


class Canvas(Protocol):
    """See the module."""

    def size(self, grid: int) -> tuple[int, int]:
        """(height, width) of x_grid."""
        ...

    def image(self, grid: int) -> Field:
        """Where x_grid goes: a field, or whoever wants the last image."""
        ...

    def plane(self, grid: int, groups: int) -> Field:
        """An array of `groups` times as many channels as an image has, on the grid of x_grid."""
        ...

    def sweep(self, grid: int, denoiser: Any) -> Iterator[tuple[Rectangle, Rectangle]]:
        """Tiles that cover x_grid, and each with the halo that the denoiser's network needs."""
        ...

    def pieces(self, multiple: int) -> Iterator[Rectangle]:
        """Rectangles that cover x_0, whose sides and corners are multiples of a power of two."""
        ...

    def observe(self, image: Field, levels: int, wavelet: str) -> Observation:
        """A field of x_0 as a noisy picture."""
        ...

    def noise(self, purpose: tuple[object, ...], step: object, groups: int, where: Rectangle) -> Tensor:
        """Standard normal noise for a step of a walk; what is drawn depends on seeds and not on the batch or tile."""
        ...

    def at(self, denoiser: Any, level: Any, coarse_level: Any = None, *, mean: bool = False) -> AtLevel:
        """A denoiser at its noise levels (library units); `mean`: its answer is kept, it is no step of a solver."""
        ...


class WholeField:
    """A tensor as a field; a tensor written to all of it stays what it is, with its gradients."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self.values = torch.zeros(0)

    def read(self, where: Rectangle) -> Tensor:
        """A rectangle, or the tensor itself."""
        if (where.height, where.width) == self.size:
            return self.values
        return self.values[..., where.top : where.bottom, where.left : where.right]

    def write(self, where: Rectangle, values: Tensor) -> None:
        """Take the tensor; all of it is written at once."""
        self.values = values

    def close(self) -> None:
        """Nothing is to be given back before the canvas is."""


class WholeObservation:
    """A batch (B, C, H, W) as its wavelet pyramid; sides that do not divide are padded as in `wavelets`."""

    def __init__(self, noisy: Tensor, levels: int, wavelet: str) -> None:
        self.pyramid = wavelets.decompose(noisy, levels, wavelet)
        coarse = [self.pyramid.coarse]
        for details in reversed(self.pyramid.details[1:]):
            coarse.append(wavelets.join(coarse[-1], details, wavelet))
        self._coarse = coarse[::-1]

    def coarse(self, where: Rectangle) -> Tensor:
        """The noisy x_J."""
        return self.pyramid.coarse

    def split(self, scale: int, where: Rectangle) -> tuple[Tensor, Tensor]:
        """The noisy x_{scale + 1} and details."""
        return self._coarse[scale], self.pyramid.details[scale]


class WholeCanvas:
    """A batch of images in one piece.

    The border is that of training: networks see zeros around it.

    Args:
        size: (height, width) of x_0; sides are multiples of 2^J.
        channels: of an image.
        like: a tensor of the kind to compute with.
        seeds: one per image, for noise.
        low_seeds: those of the low-pass images; None: `seeds`.

    Attributes:
        images: the fields of x_J, ..., as they were asked for.
    """

    def __init__(
        self,
        size: tuple[int, int],
        channels: int,
        like: Tensor,
        seeds: Sequence[int] = (),
        low_seeds: Sequence[int] | None = None,
    ) -> None:
        self._size, self.channels, self._like = size, channels, like
        self.seeds = list(seeds)
        self.low_seeds = self.seeds if low_seeds is None else list(low_seeds)
        self._generators: dict[tuple[object, ...], list[torch.Generator]] = {}
        self.images: list[WholeField] = []

    def size(self, grid: int) -> tuple[int, int]:
        """(height, width) of x_grid."""
        return self._size[0] >> grid, self._size[1] >> grid

    def image(self, grid: int) -> WholeField:
        """A field that `images` keeps."""
        self.images.append(WholeField(self.size(grid)))
        return self.images[-1]

    def plane(self, grid: int, groups: int) -> WholeField:
        """A field."""
        return WholeField(self.size(grid))

    def sweep(self, grid: int, denoiser: Any) -> Iterator[tuple[Rectangle, Rectangle]]:
        """All of it."""
        height, width = self.size(grid)
        whole = Rectangle(0, height, 0, width)
        yield whole, whole

    def pieces(self, multiple: int) -> Iterator[Rectangle]:
        """All of it."""
        yield Rectangle(0, self._size[0], 0, self._size[1])

    def observe(self, image: Field, levels: int, wavelet: str) -> WholeObservation:
        """Its pyramid."""
        return WholeObservation(image.read(*self.pieces(1)), levels, wavelet)

    def seeds_of(self, purpose: tuple[object, ...]) -> list[int]:
        """The seed of every image for a purpose."""
        return self.low_seeds if purpose == ("low",) else self.seeds

    def generators(self, purpose: tuple[object, ...]) -> list[torch.Generator]:
        """One generator per image for a purpose; each is drawn from step after step."""
        if purpose not in self._generators:
            self._generators[purpose] = [derive_generator(seed, *purpose) for seed in self.seeds_of(purpose)]
        return self._generators[purpose]

    def noise(self, purpose: tuple[object, ...], step: object, groups: int, where: Rectangle) -> Tensor:
        """Noise (B, c, h, w), image k from its own generator."""
        shape = (groups * self.channels, where.height, where.width)
        return draw_noise(shape, self.generators(purpose), self._like)

    def at(self, denoiser: Any, level: Any, coarse_level: Any = None, *, mean: bool = False) -> AtLevel:
        """The denoiser with levels for every image; levels are numbers or (B,).

        Under autocast the steps of a solver are made by the denoiser's folded form, in that precision.
        """
        device = self._like.device.type
        if not mean and torch.is_autocast_enabled(device) and hasattr(denoiser, "at"):
            dtype = torch.get_autocast_dtype(device)
            with torch.autocast(device, enabled=False):
                folded = denoiser.at(level, coarse_level or 0.0, gray=False, dtype=dtype)
            return lambda noisy, coarse: folded.denoise(noisy, None, coarse)

        def denoise(noisy: Tensor, coarse: Coarse | None) -> Denoised:
            if coarse is not None and coarse.observed is not None:
                coarse = Coarse(coarse.estimate, coarse.observed, _each(coarse_level, noisy))
            result: Denoised = denoiser.denoise(noisy, _each(level, noisy), coarse)
            return result

        return denoise


def _each(level: Any, like: Tensor) -> Tensor:
    """A level as one per image, (B,)."""
    return torch.as_tensor(level, dtype=like.dtype, device=like.device).expand(like.shape[0])
