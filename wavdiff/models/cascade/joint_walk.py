"""Draws from the posterior of a noisy picture: a reverse diffusion of the whole image, all scales together.

A cascade is a denoiser of whole images, so the picture y itself is walked down from its noise level to zero. At every
level all scales are denoised (`walk.denoise`), and what the details know of the coarse image is not lost, as it is
where a low-pass image is drawn first and kept.

The noise need not be equal at all scales: each walks down from its own level, all in the same number of steps. So a
step of the walk is one step of the recurrence for every scale, made on the wavelet pyramid; for white noise all are the
same, and it is made on the picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from wavdiff.images.rectangle import Rectangle
from wavdiff.models import wavelets
from wavdiff.models.cascade import walk
from wavdiff.models.cascade.canvas import Canvas, Field
from wavdiff.models.cascade.solvers import Schedule, Step, recurrence
from wavdiff.models.cascade.solving import Array, draw

POSTERIOR = Schedule(steps=16, solver="sde-dpm", sigma_min=0.008)
"""Of posterior draws, where a model names none. The last level is about half a step of an 8-bit file, below which
draws do not change; with it and 16 levels they are what 48 make (docs/results.md)."""


@dataclass(frozen=True)
class ScaleSteps:
    """One step of all scales, see `Step`.

    Attributes:
        scales: the step of every detail scale, finest first, and of the low-pass image; levels in units of the image.
        wavelet: of the pyramid.
    """

    scales: tuple[Step, ...]
    wavelet: str

    @property
    def before(self) -> bool:
        """Whether a scale looks at the last denoised image."""
        return any(step.before for step in self.scales)

    @property
    def noise(self) -> bool:
        """Whether a scale is given noise."""
        return any(step.noise for step in self.scales)

    def apply(self, state: Tensor, denoised: Tensor, before: Tensor | None, noise: Tensor | None) -> Tensor:
        """The images (B, C, H, W) after the step; sides are multiples of 2^J."""
        if len(set(self.scales)) == 1:
            return self.scales[0].apply(state, denoised, before, noise)
        levels = len(self.scales) - 1
        parts = [_parts(image, levels, self.wavelet) for image in (state, denoised, before, noise)]
        after = [step.apply(*given) for step, given in zip(self.scales, zip(*parts, strict=True), strict=True)]
        size = (state.shape[-2], state.shape[-1])
        return wavelets.reconstruct(wavelets.Pyramid(after[-1], tuple(after[:-1]), size), self.wavelet)


def _parts(image: Tensor | None, levels: int, wavelet: str) -> list[Any]:
    """The details of every scale, finest first, and the low-pass image."""
    if image is None:
        return [None] * (levels + 1)
    pyramid = wavelets.decompose(image, levels, wavelet)
    return [*pyramid.details, pyramid.coarse]


class ImageScales(walk.Scales, Protocol):
    """A cascade, and the rms of whole images over its training set, library units."""

    @property
    def std(self) -> float: ...  # noqa: D102


@dataclass(frozen=True)
class DrawnImage(Array):
    """A whole image.

    Attributes:
        cascade: the model.
        observed: the picture, on the grid of x_0.
        levels: as for `walk.denoise`.
    """

    cascade: ImageScales
    observed: Field
    levels: Sequence[float]

    @property
    def unit(self) -> float:
        """The rms of images."""
        return self.cascade.std

    def steps(self, schedule: Schedule) -> list[ScaleSteps]:
        """The recurrence of every scale, step by step."""
        each = [recurrence(schedule.beginning_at(level / self.unit)) for level in self.levels]
        return [ScaleSteps(scales, self.cascade.wavelet) for scales in zip(*each, strict=True)]

    def denoised(
        self, canvas: Canvas, step: ScaleSteps, state: Field | None
    ) -> Iterator[tuple[Rectangle, Tensor, Tensor]]:
        """Denoise all of the image first."""
        field, mean = state or self.observed, canvas.plane(0, 1)
        levels = [each.level * self.unit for each in step.scales]
        walk.denoise(self.cascade, canvas, canvas.observe(field, len(levels) - 1, self.cascade.wavelet), levels, mean)
        for piece in canvas.pieces(2 ** (len(levels) - 1)):
            yield piece, field.read(piece), mean.read(piece)
        mean.close()


def draw_posterior(
    cascade: ImageScales, canvas: Canvas, observed: Field, levels: Sequence[float], schedule: Schedule
) -> None:
    """Draw from the posterior of a noisy picture into `canvas.image(0)`.

    Args:
        cascade, canvas: the model, and where.
        observed: the picture, on the grid of x_0.
        levels: as for `walk.denoise`, positive numbers.
        schedule: begins at the noise level of every scale.
    """
    array = DrawnImage("image", 0, 1, ("image",), canvas.image(0).write, cascade, observed, levels)
    draw(canvas, array, schedule)
