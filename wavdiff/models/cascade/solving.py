"""The one solver, over a canvas: whole images and tiles, draws and correctors, every denoiser.

A walk down a schedule is `solvers.recurrence`: a state, the last two denoised images, and noise. The paper's ascent,
whose steps depend on the image itself, is the other sampler, for whole images.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wavdiff.images.rectangle import Rectangle
from wavdiff.models.cascade.ascent import Ascent, ascend
from wavdiff.models.cascade.canvas import Canvas, Field, WholeCanvas, WholeField
from wavdiff.models.cascade.denoising import Coarse, Denoiser
from wavdiff.models.cascade.solvers import Counted, Schedule, recurrence

Walker = Schedule | Ascent


@dataclass(frozen=True)
class Drawn:
    """One array that is drawn: a low-pass image, the details of a scale, or a whole image.

    Attributes:
        name: of its scale, for messages.
        model: its denoiser.
        grid: number of the image on whose grid it lies.
        groups: its channels, in those of an image.
        purpose: what its random numbers are for.
        start: gives the state at the first noise level.
        finish: takes the result, tile by tile.
        coarse: for details, the coarse image.
    """

    name: str
    model: Any
    grid: int
    groups: int
    purpose: tuple[object, ...]
    start: Callable[[Rectangle], Tensor]
    finish: Callable[[Rectangle, Tensor], None]
    coarse: Field | None = None


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
    array = Drawn("0", denoiser, 0, 1, ("solve",), lambda where: start, result.write, given)
    draw(canvas, array, schedule)
    return result.values


def start_level(walker: Walker, model: Any) -> float:
    """The noise level at which a walk from noise begins, library units."""
    return 2 * walker.sigma_0 if isinstance(walker, Ascent) else walker.sigma_max * float(model.std)


def draw(canvas: Canvas, array: Drawn, walker: Walker, counted: Counted | None = None) -> None:
    """Walk from the array's start to noise level zero; `counted` is told the network calls of every image."""
    if isinstance(walker, Ascent):
        assert isinstance(canvas, WholeCanvas)
        calls = _ascend(canvas, array, walker)
    else:
        _descend(canvas, array, walker)
        calls = [walker.calls] * len(getattr(canvas, "seeds", ()))
    if counted:
        counted(array.name, calls)


def _descend(canvas: Canvas, array: Drawn, schedule: Schedule) -> None:
    """Every step of the schedule over all tiles before the next begins."""
    model, coarse = array.model, array.coarse
    steps = recurrence(schedule)
    state: Field | None = None
    before: Field | None = None
    for index, step in enumerate(steps):
        last = index == len(steps) - 1
        answer = canvas.at(model, step.level * model.std)
        following = None if last else canvas.plane(array.grid, array.groups)
        kept = None if last or not steps[index + 1].before else canvas.plane(array.grid, array.groups)
        for tile, region in canvas.sweep(array.grid, model):
            y = array.start(region) if state is None else state.read(region)
            mean = region.cut(answer(y, None if coarse is None else Coarse(coarse.read(region))).mean, tile)
            noise = model.std * canvas.noise(array.purpose, index, array.groups, tile) if step.noise else None
            y = step.apply(region.cut(y, tile), mean, before.read(tile) if step.before and before else None, noise)
            if following is None:
                array.finish(tile, y)
            else:
                following.write(tile, y)
            if kept is not None:
                kept.write(tile, mean)
        for field in (state, before):
            if field is not None:
                field.close()
        state, before = following, kept


def _ascend(canvas: WholeCanvas, array: Drawn, ascent: Ascent) -> list[int]:
    """The paper's sampler; returns the network calls of every image."""
    [(whole, _)] = canvas.sweep(array.grid, array.model)
    known = None if array.coarse is None else Coarse(array.coarse.read(whole))
    state = array.start(whole)
    generators = canvas.generators(array.purpose)
    # In float32: rounded residuals of thousands of steps add up to stripes.
    with torch.autocast(state.device.type, enabled=False):
        ascended = ascend(lambda y, level: array.model.denoise(y, level, known).mean, state, ascent, generators)
    seeds = canvas.seeds_of(array.purpose)
    # Once each: a group may be filled up with copies (see `sampling.sample_walk`).
    lost = dict.fromkeys(seed for seed, bad in zip(seeds, ascended.diverged, strict=False) if bad)
    if lost:
        listed = ", ".join(map(str, lost))
        warnings.warn(f"scale {array.name}: the ascent did not converge for seeds {listed}", stacklevel=2)
    array.finish(whole, ascended.state)
    return ascended.calls
