"""`wavdiff upscale`: small pictures, enlarged."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from wavdiff.cli.options import MOST_DRAWS, check_number, memory_bytes
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
from wavdiff.system.messages import shown


def upscale(
    inputs: InputsArgument,
    factor: Annotated[int, typer.Option(help="2, 4, ... as far as the model has scales.")] = 2,
    mode: Annotated[str, typer.Option(help="mean (sharp where it is sure) or sample (a plausible picture).")] = "mean",
    out: OutOption = None,
    suffix: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Behind the names of results; default _x2, _x4, ...")
    ] = None,
    ext: ExtOption = None,
    overwrite: OverwriteOption = False,
    skip_existing: SkipOption = False,
    dry_run: DryRunOption = False,
    model: ModelOption = None,
    memory: MemoryOption = "1GB",
    n: Annotated[int, typer.Option("--n", help="With --mode sample: number of variants, a file each.")] = 1,
    samples: SamplesOption = 0,
    interval: IntervalOption = None,
    seed: Annotated[int, typer.Option(help="Of draws; variant k is drawn from SEED + k.")] = 0,
    solver: SolverOption = None,
    steps: StepsOption = None,
    colour: ColourOption = "channels",
) -> None:
    """Enlarge pictures; their block means stay exactly the input."""
    if factor < 2 or factor & (factor - 1):
        raise WavdiffError(f"--factor must be 2, 4, 8 or another power of two, got {shown(factor)}")
    if mode not in ("mean", "sample"):
        raise WavdiffError(f"--mode must be mean or sample, got {mode!r}")
    if n < 1 or (n > 1 and mode == "mean"):
        raise WavdiffError(f"--n must be at least 1, and 1 for --mode mean, which has one answer, got {shown(n)}")
    check_number("--n", n, 1, MOST_DRAWS)
    if n > 1 and samples:
        raise WavdiffError(f"--n and --samples both ask for several draws; give one of them, got {n} and {samples}")
    check_draws(samples, interval, mode == "sample", seed, solver, steps, "--mode sample")
    memory_limit = memory_bytes(memory)
    options = FileOptions(out, suffix, ext, overwrite, skip_existing, dry_run, model)
    files = find_files(inputs, options, f"_x{factor}")
    from wavdiff.restoration import RestorationRequest

    chosen: Literal["mean", "sample"] = "sample" if mode == "sample" else "mean"
    request = RestorationRequest(
        verb="upscale",
        factor=factor,
        mode=chosen,
        samples=samples,
        interval=interval,
        seed=seed,
        solver=solver,
        steps=steps,
        memory_bytes=memory_limit,
        colour=_colour(colour),
    )
    restore_files(files, options, request, variants=n)
