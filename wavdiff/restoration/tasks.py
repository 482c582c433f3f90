"""Denoise and upscale for one picture given by its rectangles, whatever the cascade.

A cascade whose networks are all local walks tile by tile (`walk`). One whose low-pass network sees the whole image, as
those that draw new images do, denoises the picture in one piece; it enlarges tile by tile all the same, unless the
result has the size of its training images: there the zeros around the image tell its networks where they are, which
helps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from wavdiff.images.rectangle import Read, Write
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.cascade.solvers import Schedule
from wavdiff.restoration.tiled import Progress, TiledCanvas, denoise_tiled, upscale_tiled

Mode = Literal["mean", "sample"]


def is_local(cascade: WaveletCascade) -> bool:
    """Whether every network of the cascade is local, so that it denoises tile by tile."""
    return cascade.wavelet == "haar" and all(
        cascade.denoiser(name).network.receptive_field is not None for name in cascade.scale_names
    )


def knows_border(cascade: WaveletCascade, size: tuple[int, int]) -> bool:
    """Whether pictures of `size` are whole images as the low-pass network saw them in training, border and all.

    It did if it is global, or if it is one of the published kind and sees all of a low-pass image at once.
    """
    network = cascade.lowpass.network
    field = network.receptive_field
    whole = field is None or (network.blind and field >= min(size) // 2**cascade.levels)
    return size == cascade.image_size and whole


def draw_schedules(
    cascade: WaveletCascade, verb: str, solver: str | None, steps: int | None
) -> tuple[Schedule, Schedule]:
    """(low-pass, details): the schedules of draws, with the user's changes.

    Denoising starts at a noisy picture, and defaults to the stochastic solver: the deterministic one would map every
    picture to one and the same draw.
    """
    changes: dict[str, Any] = {}
    if solver is not None:
        changes["solver"] = solver
    elif verb == "denoise":
        changes["solver"] = "sde-dpm"
    if steps is not None:
        changes["steps"] = steps
    return cascade.schedule("lowpass", **changes), cascade.schedule("details", **changes)


def denoise_picture(
    cascade: WaveletCascade,
    read: Read,
    size: tuple[int, int],
    channels: int,
    noise_levels: list[float],
    write: Write,
    *,
    mode: Mode = "mean",
    seed: int = 0,
    schedules: tuple[Schedule, Schedule] | None = None,
    memory_bytes: int = 1 << 30,
    progress: Progress | None = None,
) -> None:
    """Remove white noise from a picture; see `tiled.denoise_tiled` for the arguments.

    A cascade that is not local uses the first noise level for all scales.
    """
    if is_local(cascade) and not (knows_border(cascade, size) and len(set(noise_levels)) == 1):
        canvas = TiledCanvas(cascade, channels, seed=seed, memory_bytes=memory_bytes, progress=progress)
        denoise_tiled(canvas, read, size, noise_levels, write, mode=mode, schedules=schedules)
        return

    def verb(batch: Tensor, seeds: list[int]) -> Tensor:
        if mode == "sample":
            chosen = schedules or draw_schedules(cascade, "denoise", None, None)
            return cascade.draw_posterior(batch, noise_levels[0], seeds, *chosen)
        return cascade.denoise(batch, torch.full((batch.shape[0],), noise_levels[0], device=batch.device)).mean

    write(0, 0, _in_one_piece(cascade, read(0, size[0], 0, size[1]), seed, verb))
    if progress:
        progress(1, 1)


def upscale_picture(
    cascade: WaveletCascade,
    read: Read,
    size: tuple[int, int],
    channels: int,
    factor: int,
    write: Write,
    *,
    mode: Mode = "mean",
    seed: int = 0,
    schedule: Schedule | None = None,
    memory_bytes: int = 1 << 30,
    progress: Progress | None = None,
) -> None:
    """Enlarge a picture; see `tiled.upscale_tiled` for the arguments."""
    cascade.scales_of(factor)
    schedule = schedule or cascade.schedule("details")
    if cascade.wavelet == "haar" and not knows_border(cascade, (size[0] * factor, size[1] * factor)):
        canvas = TiledCanvas(cascade, channels, seed=seed, memory_bytes=memory_bytes, progress=progress)
        upscale_tiled(canvas, read, size, factor, write, schedule=schedule if mode == "sample" else None)
        return

    def verb(batch: Tensor, seeds: list[int]) -> Tensor:
        return cascade.upscale(batch, factor, seeds=seeds if mode == "sample" else None, schedule=schedule)

    write(0, 0, _in_one_piece(cascade, read(0, size[0], 0, size[1]), seed, verb))
    if progress:
        progress(1, 1)


def _in_one_piece(
    cascade: WaveletCascade, picture: Tensor, seed: int, verb: Callable[[Tensor, list[int]], Tensor]
) -> Tensor:
    """Apply `verb(batch, seeds)` to a picture (P, h, w): its channels apart, as they are, or gray as equal ones."""
    channels = picture.shape[0]
    picture = picture.to(cascade.device, torch.float32)
    if cascade.channels == 1:
        result = verb(picture[:, None], [seed * channels + row for row in range(channels)])[:, 0]
    elif channels == 3:
        result = verb(picture[None], [seed])[0]
    else:
        result = verb(picture.expand(3, -1, -1)[None], [seed])[0].mean(dim=0, keepdim=True)
    return result.clone().cpu()
