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

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from wavdiff.images.rectangle import Rectangle
from wavdiff.models import wavelets
from wavdiff.models.cascade.ascent import Ascent, ascend
from wavdiff.models.cascade.canvas import AtLevel, Canvas, Field, Observation, WholeCanvas, WholeField
from wavdiff.models.cascade.denoisers import Coarse, Denoised, Denoiser
from wavdiff.models.cascade.random_numbers import position_noise
from wavdiff.models.cascade.solvers import Counted, Schedule, recurrence

Walker = Schedule | Ascent


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
        return _start_level(low, cascade.lowpass) * canvas.noise(("low",), "start", 1, where) + middle

    _draw(canvas, "low", cascade.lowpass, levels, start, image.write, low, counted=counted)
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
        _draw(canvas, "low", low, count, observed.coarse, image.write, begun)
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
        return _start_level(walker, model) * canvas.noise(purpose, "start", 3, where)

    def finish(tile: Rectangle, details: Tensor) -> None:
        finer.write(tile.scaled(2), joined(Denoised(details, coarse.read(tile)), cascade.wavelet))

    _draw(canvas, str(scale), model, scale + 1, start, finish, walker, purpose, coarse, counted)


def solve(
    denoiser: Denoiser, start: Tensor, schedule: Schedule, seeds: Sequence[int], coarse: Tensor | None = None
) -> Tensor:
    """Walk a batch from `start` down a schedule, with any denoiser: of a scale, of whole images, or an exact one.

    Args:
        denoiser: see `Denoiser`.
        start: the state at noise level `schedule.sigma_max * denoiser.std`, library units, (B, c, h, w).
        schedule: levels and solver.
        seeds: one per image; only "sde-dpm" and correctors draw from them.
        coarse: the exact coarse image, for details.

    Returns:
        A sample (B, c, h, w).
    """
    canvas = WholeCanvas((start.shape[-2], start.shape[-1]), start.shape[1], start, seeds)
    given = None
    if coarse is not None:
        given = WholeField((coarse.shape[-2], coarse.shape[-1]))
        given.values = coarse
    result = canvas.image(0)
    _draw(canvas, "0", denoiser, 0, lambda where: start, result.write, schedule, ("solve",), given, groups=1)
    return result.values


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
    for draw in range(model.mean_draws):
        noise = model.top * model.std * position_noise(("mean", scale, draw), 3 * channels, where)[None]
        means.append(answer(noise.to(coarse).expand(batch, -1, -1, -1), Coarse(coarse)).mean)
    return torch.stack(means).mean(dim=0)


def _start_level(walker: Walker, model: Any) -> float:
    """The noise level at which a walk from noise begins, library units."""
    return 2 * walker.sigma_0 if isinstance(walker, Ascent) else walker.sigma_max * float(model.std)


def _draw(
    canvas: Canvas,
    name: str,
    model: Any,
    grid: int,
    start: Callable[[Rectangle], Tensor],
    finish: Callable[[Rectangle, Tensor], None],
    walker: Walker,
    purpose: tuple[object, ...] = ("low",),
    coarse: Field | None = None,
    counted: Counted | None = None,
    groups: int | None = None,
) -> None:
    """The one solver: from `start` down the walk's steps, each over all tiles; `finish` takes those of the last."""
    if isinstance(walker, Ascent):
        assert isinstance(canvas, WholeCanvas)
        calls = _ascend(canvas, name, model, grid, start, finish, walker, purpose, coarse)
    else:
        groups = groups or (1 if coarse is None else 3)
        _descend(canvas, model, grid, groups, start, finish, walker, purpose, coarse)
        calls = [walker.calls] * len(canvas.seeds) if counted and isinstance(canvas, WholeCanvas) else []
    if counted:
        counted(name, calls)


def _descend(
    canvas: Canvas,
    model: Any,
    grid: int,
    groups: int,
    start: Callable[[Rectangle], Tensor],
    finish: Callable[[Rectangle, Tensor], None],
    schedule: Schedule,
    purpose: tuple[object, ...],
    coarse: Field | None,
) -> None:
    steps = recurrence(schedule)
    state: Field | None = None
    before: Field | None = None
    for index, step in enumerate(steps):
        last = index == len(steps) - 1
        answer = canvas.at(model, step.level * model.std)
        following = None if last else canvas.plane(grid, groups)
        kept = None if last or not steps[index + 1].before else canvas.plane(grid, groups)
        for tile, region in canvas.sweep(grid, model):
            y = start(region) if state is None else state.read(region)
            mean = region.cut(answer(y, None if coarse is None else Coarse(coarse.read(region))).mean, tile)
            noise = model.std * canvas.noise(purpose, index, groups, tile) if step.noise else None
            y = step.apply(region.cut(y, tile), mean, before.read(tile) if step.before and before else None, noise)
            if following is None:
                finish(tile, y)
            else:
                following.write(tile, y)
            if kept is not None:
                kept.write(tile, mean)
        for field in (state, before):
            if field is not None:
                field.close()
        state, before = following, kept


def _ascend(
    canvas: WholeCanvas,
    name: str,
    model: Any,
    grid: int,
    start: Callable[[Rectangle], Tensor],
    finish: Callable[[Rectangle, Tensor], None],
    ascent: Ascent,
    purpose: tuple[object, ...],
    coarse: Field | None,
) -> list[int]:
    """The paper's sampler on whole images; network calls of every image."""
    [(whole, _)] = canvas.sweep(grid, model)
    known = None if coarse is None else Coarse(coarse.read(whole))
    state = start(whole)
    # In float32: rounded residuals of thousands of steps add up to stripes.
    with torch.autocast(state.device.type, enabled=False):
        ascended = ascend(
            lambda y, level: model.denoise(y, level, known).mean, state, ascent, canvas.generators(purpose)
        )
    seeds = canvas.low_seeds if purpose == ("low",) else canvas.seeds
    # Once each: a group may be filled up with copies (see `sampling.sample_walk`).
    lost = dict.fromkeys(seed for seed, bad in zip(seeds, ascended.diverged, strict=False) if bad)
    if lost:
        warnings.warn(f"scale {name}: the ascent did not converge for seeds {', '.join(map(str, lost))}", stacklevel=2)
    finish(whole, ascended.state)
    return ascended.calls
