"""One clean picture: noise is added and removed, it is shrunk and enlarged, and every result is measured and timed.

Denoising, at each level: the noisy picture y = x + n with n white of standard deviation sigma, not limited to the range
of a file, goes to BM3D (colour BM3D for RGB, the gray one for gray) and to every cascade. Enlarging, by each factor f:
the means of f x f blocks go to Pillow's bicubic and Lanczos filters, in floating point, and to every cascade; rows and
columns at the bottom and right that fill no block are cut off before.

Times are those of the call alone, from tensor to tensor, on pictures of a size that was met before (`warm_up`): by the
clock, and of all processors together, which other work on the machine lengthens less.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from wavdiff.evaluation import metrics
from wavdiff.evaluation.photographs.calibration import measure_draws
from wavdiff.evaluation.photographs.crops import Strip, Tile, textured_window
from wavdiff.evaluation.photographs.reading import Photograph
from wavdiff.evaluation.request import PhotographRequest
from wavdiff.evaluation.scores import Rows, Scores, can_enlarge, denoised, enlarged, factor_name, level_name, score
from wavdiff.images import resize
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.cascade.random_numbers import derive_generator

Method = Callable[[Tensor], Tensor]
"""From what is given, (1, C, h, w), to an estimate of the clean picture, (1, C, H, W)."""


Draw = Callable[[Tensor, int], Tensor]
"""The same with a seed: a draw from the posterior."""


WARM_SIDE = 32  # pixels


@dataclass(frozen=True)
class Task:
    """One thing to undo.

    Attributes:
        name: "25/255" or "x2".
        given: the noisy or the small picture, (1, C, h, w).
        clean: the truth, (1, C, H, W).
        methods: references and models in mean mode, by name.
        draws: models in sample mode, by the same names.
    """

    name: str
    given: Tensor
    clean: Tensor
    methods: Mapping[str, Method]
    draws: Mapping[str, Draw]


@dataclass
class Measured:
    """What was found on one picture.

    Attributes:
        denoise: by noise level and method.
        upscale: by factor and method.
        samples: by noise level or factor and by model: draws beside mean mode, in dB; see `posterior`.
        strips: crops to look at, one strip for every level and factor.
    """

    denoise: Rows = field(default_factory=dict)
    upscale: Rows = field(default_factory=dict)
    samples: Rows = field(default_factory=dict)
    strips: list[Strip] = field(default_factory=list)


def seeded_noise(name: str, sigma: float, shape: tuple[int, ...], seed: int) -> Tensor:
    """White noise of standard deviation 1, which depends on the picture's name, the level, the shape and the seed."""
    return torch.randn(shape, generator=derive_generator(seed, "evaluation noise", name, level_name(sigma)))


def denoising_task(
    photograph: Photograph, sigma: float, cascades: Mapping[str, WaveletCascade], *, bm3d: bool, seed: int
) -> Task:
    """Noise of standard deviation `sigma`, in [0, 1] units, to be removed."""
    clean = photograph.pixels[None]
    noisy = clean + 2 * sigma * seeded_noise(photograph.name, sigma, tuple(photograph.pixels.shape), seed)[None]
    methods: dict[str, Method] = {"noisy": torch.clone}
    if bm3d:
        methods["BM3D"] = partial(metrics.bm3d_denoise, sigma=sigma)
    methods |= {name: partial(denoised, cascade, sigma=sigma) for name, cascade in cascades.items()}
    draws = {
        name: lambda given, seed, cascade=cascade: denoised(cascade, given, sigma, "sample", seed)
        for name, cascade in cascades.items()
    }
    return Task(level_name(sigma), noisy, clean, methods, draws)


def enlarging_task(photograph: Photograph, factor: int, cascades: Mapping[str, WaveletCascade]) -> Task:
    """Means of blocks, to be enlarged by `factor`."""
    height, width = (side // factor * factor for side in photograph.pixels.shape[-2:])
    clean = photograph.pixels[None, :, :height, :width]
    able = {name: cascade for name, cascade in cascades.items() if can_enlarge(cascade, factor)}
    methods: dict[str, Method] = {
        "bicubic": partial(resize, size=(height, width), method="bicubic"),
        "Lanczos": partial(resize, size=(height, width), method="lanczos"),
        **{name: partial(enlarged, cascade, factor=factor) for name, cascade in able.items()},
    }
    draws = {
        name: lambda given, seed, cascade=cascade: enlarged(cascade, given, factor, "sample", seed)
        for name, cascade in able.items()
    }
    return Task(factor_name(factor), functional.avg_pool2d(clean, factor), clean, methods, draws)


def measure_photograph(
    photograph: Photograph, cascades: Mapping[str, WaveletCascade], request: PhotographRequest
) -> Measured:
    """Measure all methods on one picture, at all levels and factors of the request.

    Raises:
        WavdiffError: a picture too small for SSIM, or one that a method cannot take.
    """
    found = Measured()
    window = textured_window(photograph.pixels, step=max((8, *request.factors)))
    for kind, tasks in (
        (found.denoise, (denoising_task(photograph, s, cascades, bm3d=request.bm3d, seed=request.seed)
                         for s in request.sigmas)),
        (found.upscale, (enlarging_task(photograph, f, cascades) for f in request.factors)),
    ):  # fmt: skip
        for task in tasks:
            kind[task.name], drawn, strip = _measure(task, photograph.name, request, window)
            found.strips.append(strip)
            if drawn:
                found.samples[task.name] = drawn
    return found


def _measure(
    task: Task, name: str, request: PhotographRequest, window: tuple[slice, slice]
) -> tuple[dict[str, Scores], dict[str, Scores], Strip]:
    scores: dict[str, Scores] = {}
    samples: dict[str, Scores] = {}
    scale = task.clean.shape[-1] // task.given.shape[-1]
    rows, columns = (slice(part.start // scale, part.stop // scale) for part in window)
    small = f"small, 1/{scale}"
    tiles = [] if scale == 1 else [Tile(small, task.given[0, :, rows, columns], scale)]
    for method, restore in task.methods.items():
        started = time.perf_counter(), time.process_time()
        estimate = restore(task.given)
        times = time.perf_counter() - started[0], time.process_time() - started[1]
        scores[method] = score(estimate[0], task.clean[0], task.given[0], times if method != "noisy" else None)
        caption = f"noisy, {task.name}" if method == "noisy" else method.rpartition("/")[2]
        tiles.append(Tile(caption, estimate[0][:, *window], psnr=scores[method]["psnr"]))
        if request.draws and method in task.draws:
            samples[method], first = measure_draws(
                task.draws[method], task.given, estimate, task.clean, request.draws, (request.seed, name, task.name)
            )
            tiles.append(
                Tile(f"{caption}, a draw", first[0][:, *window], psnr=float(metrics.psnr(first, task.clean)[0]))
            )
    tiles.append(Tile("clean", task.clean[0][:, *window]))
    return scores, samples, Strip(task.name, tiles)


def warm_up(cascades: Mapping[str, WaveletCascade], request: PhotographRequest, size: tuple[int, int, int]) -> None:
    """Run every cascade once on noise (C, H, W), and BM3D on a little of it: imports and compilations."""
    photograph = Photograph("warm-up", 0.5 * seeded_noise("warm-up", 1.0, size, 0))
    tasks = [denoising_task(photograph, 0.1, cascades, bm3d=False, seed=0)] if request.sigmas else []
    tasks += [enlarging_task(photograph, factor, cascades) for factor in request.factors]
    for task in tasks:
        for restore in task.methods.values():
            restore(task.given)
    if request.bm3d and request.sigmas:
        metrics.bm3d_denoise(photograph.pixels[None, :, :WARM_SIDE, :WARM_SIDE], 0.1)
