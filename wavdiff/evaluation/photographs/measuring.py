"""One clean picture: every method's result is measured, timed and kept for looking at.

Times are those of the call alone, from tensor to tensor, on pictures of a size that was met before (`warm_up`): by the
clock, and of all processors together, which other work on the machine lengthens less.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from wavdiff.evaluation import metrics
from wavdiff.evaluation.photographs.calibration import measure_draws
from wavdiff.evaluation.photographs.crops import Strip, Tile, textured_window
from wavdiff.evaluation.photographs.reading import Photograph
from wavdiff.evaluation.report_files import Say, quiet
from wavdiff.evaluation.request import PhotographRequest
from wavdiff.evaluation.scores import Rows, Scores, level_name, score
from wavdiff.evaluation.trials import Trial, trials
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.random_numbers import derive_generator

WARM_SIDE = 32  # pixels


def seeded_noise(name: str, sigma: float, shape: tuple[int, ...], seed: int) -> Tensor:
    """White noise of standard deviation 1, which depends on the picture's name, the level, the shape and the seed."""
    return torch.randn(shape, generator=derive_generator(seed, "evaluation noise", name, level_name(sigma)))


def trials_of(
    photograph: Photograph, cascades: Mapping[str, WaveletCascade], request: PhotographRequest
) -> Iterator[tuple[str, Trial]]:
    """`trials` of one picture, with its own noise."""

    def noise(sigma: float) -> Tensor:
        return seeded_noise(photograph.name, sigma, tuple(photograph.pixels.shape), request.seed)[None]

    return trials(photograph.pixels[None], noise, cascades, request)


def measure_photograph(
    photograph: Photograph, cascades: Mapping[str, WaveletCascade], request: PhotographRequest, done: Say = quiet
) -> tuple[dict[str, Rows], list[Strip]]:
    """Measure all methods on one picture, at all levels and factors of the request; `done` is told of each.

    Returns:
        Tables by task, "denoise", "upscale", and "samples" (draws beside mean mode, in dB; see `measure_draws`); and
        crops to look at, one strip for every level and factor.

    Raises:
        WavdiffError: a picture too small for SSIM, or one that a method cannot take.
    """
    tables: dict[str, Rows] = {"denoise": {}, "upscale": {}, "samples": {}}
    strips = []
    window = textured_window(photograph.pixels, step=max((8, *request.factors)))
    for task, trial in trials_of(photograph, cascades, request):
        tables[task][trial.name], drawn, strip = _measure(trial, photograph.name, request, window)
        strips.append(strip)
        if drawn:
            tables["samples"][trial.name] = drawn
        done(photograph.name)
    return tables, strips


def _measure(
    trial: Trial, name: str, request: PhotographRequest, window: tuple[slice, slice]
) -> tuple[dict[str, Scores], dict[str, Scores], Strip]:
    """Scores and draws by method, and crops."""
    given, clean = trial.given, trial.clean
    scores: dict[str, Scores] = {}
    samples: dict[str, Scores] = {}
    scale = clean.shape[-1] // given.shape[-1]
    rows, columns = (slice(part.start // scale, part.stop // scale) for part in window)
    tiles = [] if scale == 1 else [Tile(f"small, 1/{scale}", given[0, :, rows, columns], scale)]
    for method, restore in trial.methods.items():
        noisy = method == "noisy"
        started = time.perf_counter(), time.process_time()
        estimate = restore(given)
        times = time.perf_counter() - started[0], time.process_time() - started[1]
        scores[method] = score(estimate[0], clean[0], given[0], None if noisy else times)
        caption = f"noisy, {trial.name}" if noisy else method.rpartition("/")[2]
        tiles.append(Tile(caption, estimate[0][:, *window]))
        if request.draws and method in trial.models:
            draw, purpose = partial(restore, mode="sample"), (request.seed, name, trial.name)
            samples[method], first = measure_draws(draw, given, estimate, clean, request.draws, purpose)
            tiles.append(Tile(f"{caption}, a draw", first[0][:, *window]))
    tiles.append(Tile("clean", clean[0][:, *window]))
    return scores, samples, Strip(trial.name, tiles)


def warm_up(cascades: Mapping[str, WaveletCascade], request: PhotographRequest, size: tuple[int, ...]) -> None:
    """Run every cascade once on noise (C, H, W), and BM3D on a little of it: imports and compilations."""
    photograph = Photograph("warm-up", 0.5 * seeded_noise("warm-up", 1.0, size, 0))
    once = replace(request, sigmas=(0.1,) if request.sigmas else (), bm3d=False)
    for _, trial in trials_of(photograph, cascades, once):
        for restore in trial.methods.values():
            restore(trial.given)
    if request.bm3d and request.sigmas:
        metrics.bm3d_denoise(photograph.pixels[None, :, :WARM_SIDE, :WARM_SIDE], 0.1)
