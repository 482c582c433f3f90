"""The walk from coarse to fine, once: sample, enlarge, denoise, over a canvas.

    verb               low-pass image                 details of a scale
    sample             reverse diffusion from noise   reverse diffusion from noise, given x_j
    enlarge            the input, kept exactly        the same; or the mean: one call at the top noise level
    denoise            one call                       one call, given the denoised x_j
    draw the posterior reverse SDE from y_J           reverse SDE from the noisy details

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
from wavdiff.models.cascade.random_numbers import position_noise
from wavdiff.models.cascade.solvers import Counted, Schedule
from wavdiff.models.cascade.solving import Drawn, Walker, draw, start_level


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

    draw(canvas, Drawn("low", cascade.lowpass, levels, 1, ("low",), start, image.write), low, counted)
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
    schedules: tuple[Schedule, Schedule] | None = None,
) -> None:
    """Denoise a noisy picture: its posterior mean, or with `schedules` (low-pass, details) a draw from the posterior.

    Args:
        cascade, canvas: the model, and where.
        observed: the picture.
        levels: for every detail scale, finest first, and the low-pass image: the standard deviation of the noise there
            as that of white noise on the picture, library units; numbers, or for a whole canvas (B,).
        schedules: they begin at the noise level.
    """
    count = len(cascade.details)
    low, coarse_level = cascade.lowpass, levels[-1] / 2**count
    image = canvas.image(count)
    if schedules is None:
        answer = canvas.at(low, coarse_level, mean=True)
        for tile, region in canvas.sweep(count, low):
            image.write(tile, region.cut(answer(observed.coarse(region), None).mean, tile))
    else:
        begun = schedules[0].beginning_at(coarse_level / low.std)
        draw(canvas, Drawn("low", low, count, 1, ("low",), observed.coarse, image.write), begun)
    for scale in range(count - 1, -1, -1):
        finer, level = canvas.image(scale), levels[scale] / 2 ** (scale + 1)
        if schedules is None:
            denoise_details(cascade, canvas, scale, image, finer, observed, level, coarse_level)
        else:
            draw_details(cascade, canvas, scale, image, finer, schedules[1], observed, level)
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
) -> None:
    """x_scale from x_{scale + 1} by one call: given the noisy details, or without `observed` given x_{scale + 1}."""
    model = cascade.details[scale]
    knows_noise = observed is not None and cascade.conditioning_augmentation
    answer = canvas.at(
        model, model.top * model.std if observed is None else level, coarse_level if knows_noise else None, mean=True
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
    observed: Observation | None = None,
    level: float = 0.0,
    counted: Counted | None = None,
) -> None:
    """x_scale from x_{scale + 1} by a reverse diffusion, from noise or from the noisy details at `level`."""
    model = cascade.details[scale]
    purpose = ("details", scale)
    if observed is not None:
        assert isinstance(walker, Schedule)
        walker = walker.beginning_at(level / model.std)

    def start(where: Rectangle) -> Tensor:
        if observed is not None:
            return observed.split(scale, where)[1]
        return start_level(walker, model) * canvas.noise(purpose, "start", 3, where)

    def finish(tile: Rectangle, details: Tensor) -> None:
        finer.write(tile.scaled(2), joined(Denoised(details, coarse.read(tile)), cascade.wavelet))

    draw(canvas, Drawn(str(scale), model, scale + 1, 3, purpose, start, finish, coarse), walker, counted)


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
