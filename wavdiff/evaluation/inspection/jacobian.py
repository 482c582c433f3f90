"""Rows of Jacobians: of which noisy values a denoised pixel was made.

A pixel's value here is the mean over its channels, and a row is what it gains where a noisy pixel grows, in all its
channels alike: of a gray picture, simply d denoised / d noisy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from wavdiff.evaluation.inspection.pixels import Place
from wavdiff.evaluation.inspection.recorded import RecordedWalk, ScaleCall, reach
from wavdiff.models import wavelets
from wavdiff.models.cascade.verbs import CascadeVerbs

STEP = 0.05
"""Step of finite differences, in standard deviations of the noise."""


@dataclass(frozen=True)
class Row:
    """The row of one pixel with respect to one image, and its numbers.

    Attributes:
        values: (h, w), summed over channels; a part of the image where `origin` is not (0, 0).
        origin: (row, column) of `values[0, 0]` in that image.
        centre: (row, column) of the pixel in that image.
        sum: of all values.
        noise_gain: |row|^2, over channels apart, times their number: the variance of the pixel, of noise of variance 1.
        asymmetry: |row - column| / sqrt(|row|^2 + |column|^2): 0 of a symmetric Jacobian, 1 where both have nothing in
            common; None where it was not asked for.
        constant: D(y) - row . y, in [0, 1] units: the part of the pixel's value that is no filtered picture, 0 of a
            bias-free network; None for details.
    """

    values: Tensor
    origin: tuple[int, int]
    centre: tuple[int, int]
    sum: float
    noise_gain: float
    asymmetry: float | None = None
    constant: float | None = None

    @property
    def effective_pixels(self) -> float:
        """sum^2 / |row|^2, which for a sum of 1 is 1 / |row|^2: a plain average has the number of its pixels."""
        return self.sum**2 / self.noise_gain if self.noise_gain > 0 else 0.0

    def measures(self) -> dict[str, float | None]:
        """The numbers, for JSON."""
        return {
            "sum": self.sum,
            "noise_gain": self.noise_gain,
            "effective_pixels": self.effective_pixels,
            "largest": float(self.values.abs().max()),
            "asymmetry": self.asymmetry,
            "constant": self.constant,
        }


@dataclass(frozen=True)
class DetailRows:
    """The rows of the part of a pixel of x_k that its details hold.

    Attributes:
        noisy: with respect to the noisy details, as a picture of x_k; its sum is zero.
        coarse: with respect to the coarse image x_{k+1} as the coarser scales left it.
        observed: with respect to x_{k+1} as it was observed; None where the cascade does not look at it.
    """

    noisy: Row
    coarse: Row
    observed: Row | None


@dataclass(frozen=True)
class PixelRows:
    """All rows of one pixel of x_0, and of the pixels of the coarser images that it lies in.

    Attributes:
        place: the pixel.
        whole: of the denoised x_0 with respect to the noisy picture, through the whole walk.
        lowpass: of the denoised x_J with respect to the noisy x_J.
        details: of each scale, finest first.
    """

    place: Place
    whole: Row
    lowpass: Row
    details: tuple[DetailRows, ...]


def pixel_rows(cascade: CascadeVerbs, noisy: Tensor, noise_level: float, place: Place) -> PixelRows:
    """Differentiate the walk at one pixel.

    Where all networks are local only the window that matters is computed, with the result of the whole picture.

    Args:
        cascade: trained or exact denoisers, in evaluation mode.
        noisy: (B, C, H, W); several B are the planes of one picture given to a gray cascade.
        noise_level: standard deviation of the noise, library units.
        place: the pixel.

    Returns:
        Its rows.
    """
    radius, levels = reach(cascade), cascade.levels
    top, left, part = _window(noisy, place, radius, levels)
    found = _differentiated(cascade, part, noise_level, (place.row - top, place.column - left))

    # What a pixel reaches depends on what lies around that, so that columns need twice the window.
    outer_top, outer_left, outer = _window(noisy, place, None if radius is None else 2 * radius, levels)
    outer_low = wavelets.decompose(outer, levels, cascade.wavelet).coarse
    centres = [((place.row - outer_top) >> scale, (place.column - outer_left) >> scale) for scale in (0, levels)]

    def walked(picture: Tensor) -> Tensor:
        return RecordedWalk(cascade, gradients=False).run(picture, noise_level)[-1]

    def lowpassed(picture: Tensor) -> Tensor:
        low_levels = torch.full((picture.shape[0],), found.low_level, dtype=picture.dtype, device=picture.device)
        result: Tensor = cascade.lowpass.denoise(picture, low_levels).mean
        return result

    columns = [
        _column(walked, outer, centres[0], STEP * noise_level),
        _column(lowpassed, outer_low, centres[1], STEP * found.low_level),
    ]

    def made(row: Tensor, scale: int, column: Tensor | None = None, constant: float | None = None) -> Row:
        summed = row.sum(dim=(0, 1))
        shift = ((top - outer_top) >> scale, (left - outer_left) >> scale)
        planes = row.shape[0] * row.shape[1]
        return Row(
            values=summed,
            origin=(top >> scale, left >> scale),
            centre=(place.row >> scale, place.column >> scale),
            sum=float(summed.double().sum()),
            noise_gain=float(row.double().square().sum()) * planes,
            asymmetry=None if column is None else _asymmetry(row, column, shift),
            constant=constant,
        )

    details = []
    for scale, (own, coarse, observed) in enumerate(found.details):
        details.append(
            DetailRows(
                # The adjoint of the wavelet step is its inverse over 4.
                noisy=made(wavelets.join(torch.zeros_like(coarse), own, cascade.wavelet) / 4, scale),
                coarse=made(coarse, scale + 1),
                observed=None if observed is None else made(observed, scale + 1),
            )
        )
    whole = made(found.whole, 0, columns[0], found.whole_constant)
    return PixelRows(place, whole, made(found.lowpass, levels, columns[1], found.low_constant), tuple(details))


@dataclass(frozen=True)
class _Gradients:
    """Rows as they come, channels apart, without the graph; `details` finest first: noisy, coarse, observed."""

    whole: Tensor
    whole_constant: float
    lowpass: Tensor
    low_constant: float
    low_level: float
    details: list[tuple[Tensor, Tensor, Tensor | None]]


def _differentiated(cascade: CascadeVerbs, noisy: Tensor, noise_level: float, centre: tuple[int, int]) -> _Gradients:
    """All rows of the pixel `centre` of a picture (B, C, H, W)."""
    noisy = noisy.detach().clone().requires_grad_()
    walk = RecordedWalk(cascade, gradients=True)
    with torch.enable_grad():
        image = walk.run(noisy, noise_level)[-1]
        low, *details = walk.calls
        centres = [(centre[0] >> scale, centre[1] >> scale) for scale in range(walk.levels + 1)]
        pixel, low_pixel = _pixel(image, centres[0]), _pixel(low.denoised, centres[-1])
        whole, lowpass = _gradient(pixel, noisy), _gradient(low_pixel, low.noisy)
        return _Gradients(
            whole,
            _constant(pixel, whole, noisy),
            lowpass,
            _constant(low_pixel, lowpass, low.noisy),
            low.noise_level,
            [
                _detail_gradients(call, at, cascade.wavelet)
                for call, at in zip(reversed(details), centres, strict=False)
            ],
        )


def _window(noisy: Tensor, place: Place, radius: int | None, levels: int) -> tuple[int, int, Tensor]:
    """Top, left and pixels of a window that reaches so far around a pixel, on the grid of the coarsest scale."""
    if radius is None:
        return 0, 0, noisy
    step = 2**levels
    height, width = noisy.shape[-2:]
    top, left = (max(0, (centre - radius) // step * step) for centre in (place.row, place.column))
    bottom, right = (-(-(centre + radius + 1) // step) * step for centre in (place.row, place.column))
    return top, left, noisy[..., top : min(bottom, height), left : min(right, width)]


def _pixel(image: Tensor, centre: tuple[int, int]) -> Tensor:
    """The mean over batch and channels of one pixel."""
    return image[..., centre[0], centre[1]].mean()


def _gradient_if_used(value: Tensor, given: Tensor) -> Tensor | None:
    """d value / d given; None where it does not depend on that. The graph is kept."""
    if not value.requires_grad:
        return None
    return torch.autograd.grad(value, given, retain_graph=True, allow_unused=True)[0]


def _gradient(value: Tensor, given: Tensor) -> Tensor:
    """d value / d given, zero where it does not depend on that."""
    found = _gradient_if_used(value, given)
    return torch.zeros_like(given) if found is None else found


def _constant(value: Tensor, row: Tensor, given: Tensor) -> float:
    """value - row . given, where both count from black; in [0, 1] units."""
    return (float(value.detach()) + 1 - float((row * (given.detach() + 1)).double().sum())) / 2


def _detail_gradients(call: ScaleCall, centre: tuple[int, int], wavelet: str) -> tuple[Tensor, Tensor, Tensor | None]:
    """Rows of the part of a pixel that details hold: in noisy details, coarse image, and that as observed."""
    assert call.coarse is not None
    # pytorch-wavelets passes no gradient to the details where the coarse image asks for none.
    nothing = torch.zeros_like(call.coarse, requires_grad=True)
    part = wavelets.join(nothing, call.denoised, wavelet)
    pixel = _pixel(part, centre)
    observed = None if call.observed is None else _gradient_if_used(pixel, call.observed)
    return _gradient(pixel, call.noisy), _gradient(pixel, call.coarse), observed


def _column(function: Callable[[Tensor], Tensor], given: Tensor, centre: tuple[int, int], step: float) -> Tensor:
    """Where one pixel goes: the derivative of all outputs by the pixel, all channels alike, by central differences.

    Scaled as the row is: of a mean over channels.
    """
    change = torch.zeros_like(given)
    change[..., centre[0], centre[1]] = step
    planes = given.shape[0] * given.shape[1]
    with torch.no_grad():
        return (function(given + change) - function(given - change)) / (2 * step * planes)


def _asymmetry(row: Tensor, column: Tensor, shift: tuple[int, int]) -> float:
    """|row - column| / sqrt(|row|^2 + |column|^2), where the row's window lies `shift` inside the column's."""
    row, column = row.double(), column.double().clone()
    energy = float(row.square().sum() + column.square().sum())
    column[..., shift[0] : shift[0] + row.shape[-2], shift[1] : shift[1] + row.shape[-1]] -= row
    return (float(column.square().sum()) / energy) ** 0.5 if energy > 0 else 0.0
