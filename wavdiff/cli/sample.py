"""`wavdiff sample`: new images, one per seed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wavdiff.cli.options import LARGEST_SEED, PrecisionOption, check_number
from wavdiff.cli.sample_texts import read_ascents, read_correctors, read_range, read_size, read_steps
from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import shown

MOST_IMAGES = 10**6


def sample(
    n: Annotated[int, typer.Option("--n", help="Number of images.")] = 64,
    seed: Annotated[int, typer.Option(help="Image k is drawn from SEED + k.")] = 0,
    model: Annotated[str, typer.Option(help="A shipped model (faces, fashion, fashion-vdvae) or a folder.")] = "faces",
    out: Annotated[Path, typer.Option(help="Folder for the images.")] = Path("samples"),
    steps: Annotated[
        str | None, typer.Option(help="Rungs of the ladders: one number, or LOW,DETAILS; default the model's.")
    ] = None,
    solver: Annotated[
        str | None,
        typer.Option(
            help="dpm, heun, euler (deterministic), sde-dpm (stochastic) or ascent (the paper's); default the model's."
        ),
    ] = None,
    correctors: Annotated[
        str | None,
        typer.Option(
            help="Calls at each noise level before the step down: one number, or LOW,DETAILS; default the model's."
        ),
    ] = None,
    beta: Annotated[str | None, typer.Option(help="For ascent: LOW,DETAILS in (0, 1]; default 0.01,1.")] = None,
    h0: Annotated[str | None, typer.Option("--h0", help="For ascent: first step size; default 0.01,0.01.")] = None,
    sigma_0: Annotated[
        str | None, typer.Option("--sigma-0", help="For ascent: first noise level, of the range; default 1,1.")
    ] = None,
    sigma_l: Annotated[
        str | None, typer.Option("--sigma-l", help="For ascent: last noise level; default 0.05,0.015.")
    ] = None,
    step_size: Annotated[
        str | None, typer.Option(help="For ascent: fixed or growing steps; default fixed,growing.")
    ] = None,
    lowpass_range: Annotated[
        str | None,
        typer.Option(
            "--range", help="Stretch drawn low-pass images to LOW,HIGH in [0, 1], or none; default the model's."
        ),
    ] = None,
    low_seed: Annotated[
        int | None, typer.Option(help="One seed for all low-pass images: the layout stays, details vary.")
    ] = None,
    stop_scale: Annotated[int, typer.Option(help="Stop at scale j: images of 1/2^j of the size.")] = 0,
    show_scales: Annotated[
        bool,
        typer.Option("--show-scales", help="Write the walk from coarse to fine: walk.png, and walk.webp, which moves."),
    ] = False,
    labels: Annotated[
        bool, typer.Option("--labels", help="Seeds on the contact sheet, and small images enlarged.")
    ] = False,
    temperature: Annotated[
        float | None,
        typer.Option(help="For hierarchical VAEs: of the latents' standard deviations, in (0, 10]; default 1."),
    ] = None,
    texture: Annotated[
        bool, typer.Option("--texture", help="Draw also with a model that is not for drawing, such as photos.")
    ] = False,
    size: Annotated[str | None, typer.Option(help="HEIGHTxWIDTH, default the model's.")] = None,
    batch_size: Annotated[int, typer.Option(help="Images at once; changes no image.")] = 64,
    precision: PrecisionOption = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Draw all images again and replace what is there.")
    ] = False,
) -> None:
    """Draw new images: one PNG each, a contact sheet, and a record to repeat them.

    The same command again, also with a larger --n, draws what is missing. Under accelerate launch, torchrun or srun
    each process draws its share.
    """
    from wavdiff.batch.samples import SamplingRequest, write_samples
    from wavdiff.system.allocator import keep_freed_memory

    check_number("--n", n, 1, MOST_IMAGES)
    check_number("--batch-size", batch_size, 1, MOST_IMAGES)
    check_number("--seed", seed, 0, LARGEST_SEED)
    check_number("--low-seed", low_seed, 0, LARGEST_SEED)
    of_ascents = {"--beta": beta, "--h0": h0, "--sigma-0": sigma_0, "--sigma-l": sigma_l, "--step-size": step_size}
    ascents = read_ascents(of_ascents, solver)
    if ascents is not None and steps is not None:
        raise WavdiffError(f"--steps: the images decide the steps of --solver ascent, got {shown(steps)}")
    corrected = read_correctors(correctors)
    if ascents is not None and corrected is not None:
        raise WavdiffError(f"--correctors are for ladders, not for --solver ascent, got {shown(correctors)}")
    request = SamplingRequest(
        model=model,
        seeds=tuple(range(seed, seed + n)),
        low_seed=low_seed,
        size=read_size(size),
        steps=read_steps(steps) or (None, None),
        solver=None if ascents else solver,
        correctors=corrected,
        ascents=ascents,
        lowpass_range=read_range(lowpass_range),
        stop_scale=stop_scale,
        batch_size=batch_size,
        precision=precision,
        temperature=temperature,
        texture=texture,
    )
    keep_freed_memory()
    drawn = write_samples(request, out, show_scales=show_scales, labels=labels, overwrite=overwrite)
    if drawn is not None:
        before = f" ({n - drawn} were there)" if drawn < n else ""
        typer.echo(f"{n} images{before}, {out / 'sheet.png'} and {out / 'sample.json'}")
