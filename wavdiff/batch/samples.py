"""One run of `wavdiff sample`: images named by their seeds, a contact sheet, and the record that repeats it.

Each process draws every k-th of the missing images, in batches that are written at once, so that memory does not grow
with their number and an interruption costs one batch at most. Only the contact sheet waits for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from wavdiff.batch.drawers import Drawer, SamplingRequest, find_drawer
from wavdiff.batch.report import sampling_progress
from wavdiff.batch.sample_record import ANIMATION, SHEET, WALK, Plan, begin, image_name, write_record
from wavdiff.images import image_grid, load_image, save_image
from wavdiff.images.labels import labelled_grid, save_animation
from wavdiff.system.devices import check_choices, computing_in
from wavdiff.system.errors import WavdiffError
from wavdiff.system.processes import Processes, join_processes, termination_as_exit

SHEET_IMAGES, WALK_IMAGES = 400, 8
FRAME_SECONDS = 0.8
MOST_VALUES = 2**28  # of the images of one batch: 1 GiB
__all__ = ["SamplingRequest", "walk_picture", "write_samples"]


def walk_picture(walk: list[Tensor]) -> Tensor:
    """The walk as one picture: a row per image, from x_J on the left to x_0, all shown at the size of x_0.

    Args:
        walk: x_J, ..., x_0, each (N, C, h, w).

    Returns:
        (C, H', W') in [-1, 1].
    """
    rows = torch.stack(_at_full_size(walk), dim=1).flatten(0, 1)
    return image_grid(rows, columns=len(walk))


def walk_frames(walk: list[Tensor], seeds: Sequence[int]) -> list[Tensor]:
    """The walk as frames, one for each scale: the first images side by side, with their seeds and their size."""
    frames = []
    for image, shown in zip(walk, _at_full_size(walk), strict=True):
        size = f"{image.shape[-1]}x{image.shape[-2]}"
        frames.append(labelled_grid(shown, [f"{seed}: {size}" for seed in seeds[: len(shown)]], columns=4))
    return [*frames, frames[-1], frames[-1]]  # the last is looked at longest


def _at_full_size(walk: list[Tensor]) -> list[Tensor]:
    """The first images of every scale, every pixel as a square, in the size of x_0."""
    size = tuple(walk[-1].shape[-2:])
    return [functional.interpolate(image[:WALK_IMAGES], size, mode="nearest") for image in walk]


def write_samples(
    request: SamplingRequest,
    out: Path,
    *,
    show_scales: bool = False,
    labels: bool = False,
    overwrite: bool = False,
) -> int | None:
    """Draw the images that `out` does not have yet, each into a file as soon as it is drawn, and the contact sheet.

    With several processes each draws its share; the main process writes what there is once.

    Args:
        out: the folder, new or of an earlier run of the same request, perhaps with fewer seeds.
        show_scales: write the walk of the first images from coarse to fine, as a picture and as an animation.
        labels: whether the contact sheet has seeds, and small images enlarged.
        overwrite: draw all images again and replace what is there.

    Returns:
        The number of images that all processes together drew; None in all processes but the main one.

    Raises:
        WavdiffError: the folder holds images of another request and `overwrite` is off, the request does not fit the
            model, or another process has failed.
    """
    with termination_as_exit(), computing_in(request.precision):
        processes = join_processes()
        drawer = find_drawer(request, processes.device)
        drawer.check(show_scales)
        check_choices(processes.device)
        _check(request, drawer)
        plan = processes.from_main(lambda: begin(request, drawer, out, show_scales, overwrite))
        if not plan.complete:
            _draw_share(request, drawer, plan, out, processes)
        processes.gather(None)
        if processes.is_main and not plan.complete:
            if show_scales:
                walk = drawer.walk(request.seeds[:WALK_IMAGES])
                save_image(out / WALK, walk_picture(walk))
                save_animation(out / ANIMATION, walk_frames(walk, request.seeds), FRAME_SECONDS)
            height, width = drawer.size
            most = max(1, min(SHEET_IMAGES, MOST_VALUES // (drawer.channels * height * width)))
            shown = [load_image(out / image_name(seed)).pixels for seed in request.seeds[:most]]
            names = [str(seed) for seed in request.seeds[:most]]
            images = torch.stack(shown)
            save_image(out / SHEET, labelled_grid(images, names) if labels else image_grid(images))
            write_record(out, plan.record, finished=True)
        return len(plan.missing) if processes.is_main else None


def _check(request: SamplingRequest, drawer: Drawer) -> None:
    height, width = drawer.size
    most = min(request.batch_size, len(request.seeds))
    if most * drawer.channels * height * width > MOST_VALUES:
        raise WavdiffError(
            f"--batch-size: one batch holds at most {MOST_VALUES} pixel values, got {most} images of {height}x{width}"
        )


def _draw_share(request: SamplingRequest, drawer: Drawer, plan: Plan, out: Path, processes: Processes) -> None:
    share = plan.missing[processes.index :: processes.count]
    with sampling_progress(len(share), processes) as advance:
        for start in range(0, len(share), request.batch_size):
            seeds = share[start : start + request.batch_size]
            for seed, image in zip(seeds, drawer.walk(seeds)[-1], strict=True):
                save_image(out / image_name(seed), image)
            advance(len(seeds))
