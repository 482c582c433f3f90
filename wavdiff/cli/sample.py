"""`wavdiff sample`: new images, one per seed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wavdiff.cli.options import (
    LARGEST_SEED,
    MOST_STEPS,
    ModelOption,
    check_number,
    whole_numbers,
)
from wavdiff.errors import WavdiffError
from wavdiff.texts import shown

MOST_IMAGES = 10**6
LARGEST_SIDE = 4096


def sample(
    n: Annotated[int, typer.Option("--n", help="Number of images.")] = 64,
    seed: Annotated[int, typer.Option(help="Image k is drawn from SEED + k.")] = 0,
    model: ModelOption = "faces",
    out: Annotated[Path, typer.Option(help="Folder for the images.")] = Path("samples"),
    steps: Annotated[
        str | None, typer.Option(help="Rungs of the ladders: one number, or LOW,DETAILS; default the model's.")
    ] = None,
    solver: Annotated[
        str | None, typer.Option(help="dpm, heun, euler (deterministic) or sde-dpm (stochastic); default the model's.")
    ] = None,
    low_seed: Annotated[
        int | None, typer.Option(help="One seed for all low-pass images: the layout stays, details vary.")
    ] = None,
    stop_scale: Annotated[int, typer.Option(help="Stop at scale j: images of 1/2^j of the size.")] = 0,
    show_scales: Annotated[bool, typer.Option("--show-scales", help="Write the walk from coarse to fine.")] = False,
    size: Annotated[str | None, typer.Option(help="HEIGHTxWIDTH, default the model's.")] = None,
    batch_size: Annotated[int, typer.Option(help="Images at once; changes no image.")] = 64,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Draw all images again and replace what is there.")
    ] = False,
) -> None:
    """Draw new images: one PNG each, a contact sheet, and a record to repeat them.

    The same command again, also with a larger --n, draws what is missing. Under accelerate launch, torchrun or srun
    each process draws its share.
    """
    from wavdiff.sampling_run import SamplingRequest, write_samples

    check_number("--n", n, 1, MOST_IMAGES)
    check_number("--batch-size", batch_size, 1, MOST_IMAGES)
    check_number("--seed", seed, 0, LARGEST_SEED)
    check_number("--low-seed", low_seed, 0, LARGEST_SEED)
    request = SamplingRequest(
        model=model,
        seeds=tuple(range(seed, seed + n)),
        low_seed=low_seed,
        size=_size(size),
        steps=_steps(steps),
        solver=solver,
        stop_scale=stop_scale,
        batch_size=batch_size,
    )
    drawn = write_samples(request, out, show_scales=show_scales, overwrite=overwrite)
    if drawn is not None:
        before = f" ({n - drawn} were there)" if drawn < n else ""
        typer.echo(f"{n} images{before}, {out / 'sheet.png'} and {out / 'sample.json'}")


def _steps(text: str | None) -> tuple[int | None, int | None]:
    if text is None:
        return None, None
    numbers = whole_numbers(text)
    if not numbers or len(numbers) > 2 or min(numbers) < 1:
        raise WavdiffError(f"--steps is a number of at least 1, or two as in 24,10, got {shown(text)}")
    check_number("--steps", max(numbers), 1, MOST_STEPS)
    return numbers[0], numbers[-1]


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    sides = whole_numbers(text.lower(), "x")
    if not sides or len(sides) > 2 or min(sides) < 1:
        raise WavdiffError(f"--size is HEIGHTxWIDTH, such as 64x64, got {shown(text)}")
    if max(sides) > LARGEST_SIDE:
        raise WavdiffError(f"--size: a side has at most {LARGEST_SIDE} pixels, got {shown(text)}")
    return sides[0], sides[-1]
