"""One run of `wavdiff sample`: images named by their seeds, a contact sheet, and the record that repeats it."""

from __future__ import annotations

import json
import platform
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from wavdiff import __version__
from wavdiff.api import load, sample_walk
from wavdiff.errors import WavdiffError
from wavdiff.images import image_grid, save_image
from wavdiff.pipeline import file_digest, find_model

SHEET_IMAGES = 400
WALK_IMAGES = 8
MOST_VALUES = 2**30
"""Of all images of one run, which are kept in memory until they are written: 4 GiB."""


@dataclass(frozen=True)
class SamplingRequest:
    """What decides the images: model, seeds, ladders, size; `batch_size` does not."""

    model: str
    seeds: tuple[int, ...]
    low_seed: int | None = None
    size: tuple[int, int] | None = None
    steps: tuple[int | None, int | None] = (None, None)
    solver: str | None = None
    stop_scale: int = 0
    batch_size: int = 64


def walk_picture(walk: list[Tensor]) -> Tensor:
    """The walk as one picture: a row per image, from x_J on the left to x_0, all shown at the size of x_0.

    Args:
        walk: x_J, ..., x_0, each (N, C, h, w).

    Returns:
        (C, H', W') in [-1, 1].
    """
    height, width = walk[-1].shape[-2:]
    shown = [functional.interpolate(image[:WALK_IMAGES], (height, width), mode="nearest") for image in walk]
    rows = torch.stack(shown, dim=1).flatten(0, 1)
    return image_grid(rows, columns=len(walk))


def write_samples(request: SamplingRequest, out: Path, *, show_scales: bool = False, overwrite: bool = False) -> None:
    """Draw the images and write them all into `out`.

    Raises:
        WavdiffError: files of these names exist and `overwrite` is off, or the request does not fit the model.
    """
    names = [f"{seed:06d}.png" for seed in request.seeds]
    extra = ["sheet.png", "sample.json", *(["walk.png"] if show_scales else [])]
    if out.exists() and not out.is_dir():
        raise WavdiffError(f"--out {out} is a file, not a folder")
    taken = [name for name in (*extra, *names) if (out / name).exists()]
    if taken and not overwrite:
        raise WavdiffError(f"{out / taken[0]} exists; choose another --out or give --overwrite")
    cascade = load(request.model)
    if not 0 <= request.stop_scale <= cascade.levels:
        raise WavdiffError(
            f"--stop-scale must be between 0 (the image) and {cascade.levels} (the low-pass), got {request.stop_scale}"
        )
    step = 2**cascade.levels
    if request.size is not None and any(side < step or side % step for side in request.size):
        raise WavdiffError(f"--size must be multiples of {step} for this model, got {'x'.join(map(str, request.size))}")
    height, width = request.size or cascade.image_size
    values = len(request.seeds) * cascade.channels * height * width
    if values > MOST_VALUES:
        raise WavdiffError(
            f"--n: one run holds at most {MOST_VALUES} pixel values, got {len(request.seeds)} images of "
            f"{height}x{width}; draw them in several runs with other --seed"
        )
    walk = sample_walk(
        cascade,
        request.seeds,
        low_seeds=None if request.low_seed is None else [request.low_seed] * len(request.seeds),
        batch_size=request.batch_size,
        size=request.size,
        stop_scale=request.stop_scale,
        solver=request.solver,
        lowpass_steps=request.steps[0],
        detail_steps=request.steps[1],
    )
    out.mkdir(parents=True, exist_ok=True)
    for name, image in zip(names, walk[-1], strict=True):
        save_image(out / name, image)
    if show_scales:
        save_image(out / "walk.png", walk_picture(walk))
    save_image(out / "sheet.png", image_grid(walk[-1][:SHEET_IMAGES]))
    lowpass, details = cascade.ladder("lowpass"), cascade.ladder("details")
    record = {
        **asdict(request),
        "model_sha256": file_digest(find_model(request.model) / "cascade" / "diffusion_pytorch_model.safetensors"),
        "model_ladders": {"lowpass": asdict(lowpass), "details": asdict(details)},
        "versions": {"wavdiff": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "repeat": _command(request),
    }
    (out / "sample.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _command(request: SamplingRequest) -> str:
    parts = [f"wavdiff sample --model {shlex.quote(request.model)} --n {len(request.seeds)} --seed {request.seeds[0]}"]
    if request.low_seed is not None:
        parts.append(f"--low-seed {request.low_seed}")
    if request.size is not None:
        parts.append(f"--size {request.size[0]}x{request.size[1]}")
    low, detail = request.steps
    if low is not None:
        parts.append(f"--steps {low},{detail}")
    if request.solver is not None:
        parts.append(f"--solver {request.solver}")
    if request.stop_scale:
        parts.append(f"--stop-scale {request.stop_scale}")
    return " ".join(parts)
