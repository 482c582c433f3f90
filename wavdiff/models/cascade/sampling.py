"""Drawing any number of new images: schedules, groups of a fixed size, seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from wavdiff.models.cascade.ascent import Ascent
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.cascade.solvers import Counted, Schedule
from wavdiff.system.errors import WavdiffError

Progress = Callable[[int], None]
GROUP = 16
DRAWING = 2
"""Number of the drawing: equal seeds draw equal images where it is equal. 1 was version 0.5.0 and before."""


def sample_walk(
    cascade: WaveletCascade,
    seeds: Sequence[int],
    *,
    low_seeds: Sequence[int] | None = None,
    batch_size: int = 64,
    size: tuple[int, int] | None = None,
    stop_scale: int = 0,
    solver: str | None = None,
    lowpass_steps: int | None = None,
    detail_steps: int | None = None,
    correctors: tuple[int, int] | None = None,
    ascents: tuple[Ascent, Ascent] | None = None,
    lowpass_range: tuple[float, float] | Literal["model"] | None = "model",
    texture: bool = False,
    counted: Counted | None = None,
    progress: Progress | None = None,
) -> list[Tensor]:
    """Draw one image per seed and keep the walk.

    Args:
        cascade: the model.
        seeds: one per image.
        low_seeds: seeds of the low-pass images; default `seeds`.
        batch_size: images between two reports of progress; changes no image (see `_group_size`).
        size: (H, W), default the cascade's own.
        stop_scale: end the walk at x_{stop_scale}.
        solver: "dpm", "sde-dpm", "heun" or "euler"; default the cascade's.
        lowpass_steps, detail_steps: levels of the schedules; default the cascade's.
        correctors: (low-pass, details): calls at every level before the step down; default the cascade's.
        ascents: (low-pass, details): the paper's stochastic ascent instead of schedules.
        lowpass_range: pixels in [0, 1] to which drawn low-pass images are stretched; None: they are not; default the
            cascade's.
        texture: draw also with a model that is not for new images: what it draws has no objects.
        counted: told network calls, as in `CascadeVerbs.sample`; with schedules of images that fill a group up as well.
        progress: called with the number of images finished, after each batch.

    Returns:
        x_J, ..., x_{stop_scale}, each (N, C, h, w), clamped to [-1, 1] only by whoever saves them.
    """
    check_draws(cascade, texture)
    if batch_size < 1:
        raise WavdiffError(f"batch_size must be at least 1, got {batch_size}")
    shape = (cascade.channels, *(size or cascade.image_size))
    low, detail = ascents or sample_schedules(cascade, solver, lowpass_steps, detail_steps, correctors)
    limits = cascade.lowpass_range if lowpass_range == "model" else lowpass_range
    group = 1 if ascents else _group_size(cascade, shape)  # the images of an ascent end at different times
    walks = []
    for start in range(0, len(seeds), batch_size):
        part = list(seeds[start : start + batch_size])
        low_part = list(low_seeds[start : start + batch_size]) if low_seeds is not None else part
        if len(low_part) != len(part):
            raise WavdiffError(f"low_seeds: one per image is needed ({len(seeds)}), got {len(low_seeds or [])}")
        filling = -len(part) % group
        for first in range(0, len(part), group):
            walk = cascade.sample(
                shape,
                (part + part[-1:] * filling)[first : first + group],
                low_seeds=(low_part + low_part[-1:] * filling)[first : first + group],
                lowpass_schedule=low,
                detail_schedule=detail,
                stop_scale=stop_scale,
                lowpass_range=limits,
                counted=counted,
            )
            count = min(group, len(part) - first)
            walks.append([image[:count].float().cpu() for image in walk])
            if progress:
                progress(count)
    return [torch.cat(images).clone() for images in zip(*walks, strict=True)]


def check_draws(cascade: WaveletCascade, texture: bool) -> None:
    """Refuse a model that is not for new images, unless texture is all that is wanted; raises WavdiffError."""
    if not (cascade.draws or texture):
        raise WavdiffError(
            "this model restores pictures and does not draw them: its networks see small parts; --texture, in Python "
            "texture=True, draws what it knows, which is texture without objects"
        )


def sample_schedules(
    cascade: WaveletCascade,
    solver: str | None,
    lowpass_steps: int | None,
    detail_steps: int | None,
    correctors: tuple[int, int] | None = None,
) -> tuple[Schedule, Schedule]:
    """(low-pass, details): the cascade's schedules with the user's changes."""
    changes: dict[str, Any] = {"solver": solver} if solver else {}
    low, detail = ({} if steps is None else {"steps": steps} for steps in (lowpass_steps, detail_steps))
    if correctors is not None:
        low["correctors"], detail["correctors"] = correctors
    return cascade.schedule("lowpass", **{**changes, **low}), cascade.schedule("details", **{**changes, **detail})


def _group_size(cascade: WaveletCascade, shape: tuple[int, int, int]) -> int:
    """Images per network call, a function of the image size alone.

    Convolutions of different batch sizes round differently, and sampling amplifies it (by up to 0.02 in bfloat16).
    Groups of one size, filled up where images are missing, make an image bit-equal whatever it is drawn with.
    """
    height, width = cascade.image_size
    return max(1, min(GROUP, GROUP * height * width // (shape[1] * shape[2])))
