"""The walk from coarse to fine, once: sample, enlarge, denoise, over a canvas.

    verb               low-pass image                 details of a scale
    sample             reverse diffusion from noise   reverse diffusion from noise, given x_j
    enlarge            the input, kept exactly        the same; or the mean: one call at the top noise level
    denoise            one call                       one call, given the denoised x_j

A draw from the posterior of a noisy picture walks all scales together, with `denoise` as its denoiser (`joint_walk`):
drawn scale after scale, the low-pass image would not know what the noisy details say of it.

A step from x_{j+1} to x_j is the same in all of them, in training and in inspection: details are denoised given what is
known of the coarse image, which may come back corrected, and both are joined (`joined`). Networks are named by the
image they yield: `details[j]` yields x_j; 0 is the finest.

Source: Kadkhodaie, Guth, Mallat, Simoncelli (ICLR 2023, arXiv 2303.02984), with conditioning augmentation (Ho et al.,
"Cascaded diffusion models", 2022) as described in `denoisers`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from wavdiff.images.rectangle import Rectangle
from wavdiff.models import wavelets
from wavdiff.models.cascade.ascent import Ascent
from wavdiff.models.cascade.canvas import AtLevel, Canvas, Field, Observation, WholeCanvas
from wavdiff.models.cascade.denoising import Coarse, Denoised
from wavdiff.models.cascade.solvers import Counted
from wavdiff.models.cascade.solving import Drawn, Walker, draw, start_level
from wavdiff.models.random_numbers import position_noise


class Scales(Protocol):
    """What a walk asks of a cascade: a trained one, an exact one, or one that is watched."""

    lowpass: Any
    details: Any
    wavelet: str
    conditioning_augmentation: bool


def joined(denoised: Denoised, wavelet: str) -> Tensor:
    """The finer image (B, C, 2h, 2w) of denoised details and their coarse image."""
    assert denoised.coarse is not None
    return wavelets.join(denoised.coarse, denoised.mean, wavelet)


def sample(
    cascade: Scales,
    canvas: WholeCanvas,
    low: Walker,
    details: Walker,
    *,
    stop_scale: int = 0,
    finish_lowpass: Callable[[Tensor], Tensor] | None = None,
    counted: Counted | None = None,
) -> None:
    """Draw x_J, then the details of one scale after the other; `finish_lowpass` changes the drawn x_J."""
    levels = len(cascade.details)
    image = canvas.image(levels)
    middle = 2 * low.mean - 1 if isinstance(low, Ascent) else 0.0

    def start(where: Rectangle) -> Tensor:
        return start_level(low, cascade.lowpass) * canvas.noise(("low",), "start", 1, where) + middle

    draw(canvas, Drawn("low", levels, 1, ("low",), image.write, cascade.lowpass, start), low, counted)
    if finish_lowpass:
        image.values = finish_lowpass(image.values)
    for scale in range(levels - 1, stop_scale - 1, -1):
        finer = canvas.image(scale)
        draw_details(cascade, canvas, scale, image, finer, details, counted=counted)
        image = finer


def enlarge(cascade: Scales, canvas: Canvas, small: Field, scales: int, walker: Walker | None) -> None:
    """Enlarge x_scales to x_0: by draws along `walker`, or where that is None by the mean of the details."""
    for scale in range(scales - 1, -1, -1):
        finer = canvas.image(scale)
        if walker is None:
            denoise_details(cascade, canvas, scale, small, finer)
        else:
            draw_details(cascade, canvas, scale, small, finer, walker)
        small.close()
        small = finer


def denoise(
    cascade: Scales,
    canvas: Canvas,
    observed: Observation,
    levels: Sequence[Any],
    finished: Field | None = None,
) -> None:
    """Denoise a noisy picture: its posterior mean.

    Args:
        cascade, canvas: the model, and where.
        observed: the picture.
        levels: for every detail scale, finest first, and the low-pass image: the standard deviation of the noise there
            as that of white noise on the picture, library units; numbers, or for a whole canvas (B,).
        finished: takes x_0 where that is the mean of a solver's step; None: the canvas keeps it.
    """
    mean = finished is None

    def field(grid: int) -> Field:
        if finished is None:
            return canvas.image(grid)
        return canvas.plane(grid, 1) if grid else finished

    count = len(cascade.details)
    low, coarse_level = cascade.lowpass, levels[-1] / 2**count
    image = field(count)
    answer = canvas.at(low, coarse_level, mean=mean)
    for tile, region in canvas.sweep(count, low):
        image.write(tile, region.cut(answer(observed.coarse(region), None).mean, tile))
    for scale in range(count - 1, -1, -1):
        finer, level = field(scale), levels[scale] / 2 ** (scale + 1)
        denoise_details(cascade, canvas, scale, image, finer, observed, level, coarse_level, mean=mean)
        image.close()
        image, coarse_level = finer, (coarse_level**2 + 3 * level**2) ** 0.5


def denoise_details(
    cascade: Scales,
    canvas: Canvas,
    scale: int,
    coarse: Field,
    finer: Field,
    observed: Observation | None = None,
    level: Any = None,
    coarse_level: Any = None,
    *,
    mean: bool = True,
) -> None:
    """x_scale from x_{scale + 1} by one call: given the noisy details, or without `observed` given x_{scale + 1}."""
    model = cascade.details[scale]
    knows_noise = observed is not None and cascade.conditioning_augmentation
    answer = canvas.at(
        model, model.top * model.std if observed is None else level, coarse_level if knows_noise else None, mean=mean
    )
    for tile, region in canvas.sweep(scale + 1, model):
        x = coarse.read(region)
        if observed is None:
            denoised = Denoised(mean_at_top(model, scale, x, region, answer), x)
        else:
            y, d = observed.split(scale, region)
            denoised = answer(d, Coarse(x, y if knows_noise else None))
        assert denoised.coarse is not None
        here = Denoised(region.cut(denoised.mean, tile), region.cut(denoised.coarse, tile))
        finer.write(tile.scaled(2), joined(here, cascade.wavelet))


def draw_details(
    cascade: Scales,
    canvas: Canvas,
    scale: int,
    coarse: Field,
    finer: Field,
    walker: Walker,
    counted: Counted | None = None,
) -> None:
    """x_scale from x_{scale + 1} by a reverse diffusion from noise."""
    model = cascade.details[scale]
    purpose = ("details", scale)

    def start(where: Rectangle) -> Tensor:
        return start_level(walker, model) * canvas.noise(purpose, "start", 3, where)

    def finish(tile: Rectangle, details: Tensor) -> None:
        finer.write(tile.scaled(2), joined(Denoised(details, coarse.read(tile)), cascade.wavelet))

    draw(canvas, Drawn(str(scale), scale + 1, 3, purpose, finish, model, start, coarse), walker, counted)


def mean_at_top(model: Any, scale: int, coarse: Tensor, where: Rectangle, answer: AtLevel) -> Tensor:
    """The mean of the details (B, 3C, h, w) given the coarse image (B, C, h, w) alone.

    At the top noise level the observation says (almost) nothing. A denoiser that is told its level is given the most
    likely one, zero. A blind one must see the noise: it is given a few draws that depend on the place only, and the
    mean is theirs.
    """
    batch, channels, height, width = coarse.shape
    if not model.mean_draws:
        return answer(coarse.new_zeros(batch, 3 * channels, height, width), Coarse(coarse)).mean
    means = []
    for number in range(model.mean_draws):
        noise = model.top * model.std * position_noise(("mean", scale, number), 3 * channels, where)[None]
        means.append(answer(noise.to(coarse).expand(batch, -1, -1, -1), Coarse(coarse)).mean)
    return torch.stack(means).mean(dim=0)
