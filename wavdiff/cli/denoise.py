"""`wavdiff denoise`: noisy pictures, cleaned."""

from __future__ import annotations

from typing import Annotated

import typer

from wavdiff.cli.options import memory_bytes, noise_level
from wavdiff.cli.picture_options import (
    ColourOption,
    DryRunOption,
    ExtOption,
    InputsArgument,
    IntervalOption,
    MemoryOption,
    ModelOption,
    OutOption,
    OverwriteOption,
    SamplesOption,
    SkipOption,
    SolverOption,
    StepsOption,
    _colour,
    check_draws,
)
from wavdiff.cli.pictures import FileOptions, find_files, restore_files
from wavdiff.system.errors import WavdiffError


def denoise(
    inputs: InputsArgument,
    sigma: Annotated[
        str,
        typer.Option(help="Standard deviation of the noise, in [0, 1): 0.1 or 25/255; auto measures it."),
    ] = "auto",
    out: OutOption = None,
    suffix: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Behind the names of results; default _denoised.")
    ] = None,
    ext: ExtOption = None,
    overwrite: OverwriteOption = False,
    skip_existing: SkipOption = False,
    dry_run: DryRunOption = False,
    model: ModelOption = None,
    memory: MemoryOption = "1GB",
    samples: SamplesOption = 0,
    interval: IntervalOption = None,
    sample_posterior: Annotated[
        bool, typer.Option("--sample", help="A draw from the posterior instead of its mean.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of draws and --add-noise.")] = 0,
    solver: SolverOption = None,
    steps: StepsOption = None,
    colour: ColourOption = "channels",
    add_noise: Annotated[
        bool, typer.Option("--add-noise", help="Demonstration: add that noise first; says PSNR before and after.")
    ] = False,
) -> None:
    """Clean noisy pictures of any size. Nothing is added to them (but see --add-noise)."""
    level = None if sigma.strip().lower() == "auto" else noise_level(sigma)
    if level is not None and not 0 <= level < 1:
        from wavdiff.system.messages import check_sigma

        check_sigma(level, "--sigma")
    if level is None and add_noise:
        raise WavdiffError("--add-noise needs a level: give --sigma as a number such as 25/255, got auto")
    check_draws(samples, interval, sample_posterior, seed, solver, steps, "--sample")
    memory_limit = memory_bytes(memory)
    options = FileOptions(out, suffix, ext, overwrite, skip_existing, dry_run, model)
    files = find_files(inputs, options, "_denoised")
    from wavdiff.restoration import RestorationRequest

    request = RestorationRequest(
        verb="denoise",
        sigma=level,
        mode="sample" if sample_posterior else "mean",
        samples=samples,
        interval=interval,
        seed=seed,
        solver=solver,
        steps=steps,
        memory_bytes=memory_limit,
        add_noise=add_noise,
        colour=_colour(colour),
    )
    restore_files(files, options, request)
