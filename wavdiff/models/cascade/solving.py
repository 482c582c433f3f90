"""The one solver, over a canvas: whole images and tiles, draws and correctors, every denoiser.

A walk down a schedule is `solvers.recurrence`: a state, the last two denoised images, and noise. The paper's ascent,
whose steps depend on the image itself, is the other sampler, for whole images.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wavdiff.images.rectangle import Rectangle
from wavdiff.models.cascade.ascent import Ascent, ascend
from wavdiff.models.cascade.canvas import Canvas, Field, WholeCanvas, WholeField
from wavdiff.models.cascade.denoising import Coarse, Denoiser
from wavdiff.models.cascade.solvers import Counted, Schedule, Step, recurrence

Walker = Schedule | Ascent


@dataclass(frozen=True)
class Array(ABC):
    """One array that is drawn: a low-pass image, the details of a scale, or a whole image.

    Attributes:
        name: of its scale, for messages.
        grid: number of the image on whose grid it lies.
        groups: its channels, in those of an image.
        purpose: what its random numbers are for.
        finish: takes the result, tile by tile.
    """

    name: str
    grid: int
    groups: int
    purpose: tuple[object, ...]
    finish: Callable[[Rectangle, Tensor], None]

    @property
    @abstractmethod
    def unit(self) -> float:
        """Rms of the array over the training set, library units: the unit of standard levels."""

    @abstractmethod
    def steps(self, schedule: Schedule) -> Sequence[Any]:
        """The walk down a schedule, as `recurrence`."""

    @abstractmethod
    def denoised(self, canvas: Canvas, step: Any, state: Field | None) -> Iterator[tuple[Rectangle, Tensor, Tensor]]:
        """Tiles, and of each the state and what it becomes denoised; None: the state at the first noise level."""


@dataclass(frozen=True)
class Drawn(Array):
    """The low-pass image or the details of a scale.

    Attributes:
        model: its denoiser.
        start: gives the state at the first noise level.
        coarse: for details, the coarse image.
    """

    model: Any
    start: Callable[[Rectangle], Tensor]
    coarse: Field | None = None

    @property
    def unit(self) -> float:
        """The rms of the scale."""
        return float(self.model.std)

    def steps(self, schedule: Schedule) -> list[Step]:
        """See `Array`."""
        return recurrence(schedule)

    def denoised(self, canvas: Canvas, step: Step, state: Field | None) -> Iterator[tuple[Rectangle, Tensor, Tensor]]:
        """See `Array`; each tile with the halo that the network needs."""
        answer = canvas.at(self.model, step.level * self.unit)
        for tile, region in canvas.sweep(self.grid, self.model):
            y = self.start(region) if state is None else state.read(region)
            mean = answer(y, None if self.coarse is None else Coarse(self.coarse.read(region))).mean
            yield tile, region.cut(y, tile), region.cut(mean, tile)


def solve(
    denoiser: Denoiser, start: Tensor, schedule: Walker, seeds: Sequence[int], coarse: Tensor | None = None
) -> Tensor:
    """Walk a batch from `start` down a schedule, with any denoiser: of a scale, of whole images, or an exact one.

    Args:
        denoiser: see `Denoiser`.
        start: the state at noise level `schedule.sigma_max * denoiser.std`, library units, (B, c, h, w).
        schedule: levels and solver, or the paper's ascent.
        seeds: one per image; only "sde-dpm", correctors and the ascent draw from them.
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
    array = Drawn("0", 0, 1, ("solve",), result.write, denoiser, lambda where: start, given)
    draw(canvas, array, schedule)
    return result.values


def start_level(walker: Walker, model: Any) -> float:
    """The noise level at which a walk from noise begins, library units."""
    return 2 * walker.sigma_0 if isinstance(walker, Ascent) else walker.sigma_max * float(model.std)


def draw(canvas: Canvas, array: Array, walker: Walker, counted: Counted | None = None) -> None:
    """Walk from the array's start to noise level zero; `counted` is told the network calls of every image."""
    if isinstance(walker, Ascent):
        assert isinstance(canvas, WholeCanvas) and isinstance(array, Drawn)
        calls = _ascend(canvas, array, walker)
    else:
        _descend(canvas, array, walker)
        calls = [walker.calls] * len(getattr(canvas, "seeds", ()))
    if counted:
        counted(array.name, calls)


def _descend(canvas: Canvas, array: Array, schedule: Schedule) -> None:
    """Every step of the schedule over all tiles before the next begins."""
    steps = array.steps(schedule)
    state: Field | None = None
    before: Field | None = None
    for index, step in enumerate(steps):
        last = index == len(steps) - 1
        following = None if last else canvas.plane(array.grid, array.groups)
        kept = None if last or not steps[index + 1].before else canvas.plane(array.grid, array.groups)
        for tile, y, mean in array.denoised(canvas, step, state):
            noise = array.unit * canvas.noise(array.purpose, index, array.groups, tile) if step.noise else None
            y = step.apply(y, mean, before.read(tile) if step.before and before else None, noise)
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
