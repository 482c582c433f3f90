"""`wavdiff denoise` and `wavdiff upscale`: pictures that exist, made better.

Both say what shall be done with one picture as a `RestorationRequest`; what is read and written, for one file or
thousands, is the same for both and lies in `cli.files`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from wavdiff.cli.files import FileOptions, find_files, restore_files
from wavdiff.cli.options import LARGEST_SEED, MOST_DRAWS, MOST_STEPS, check_number, memory_bytes, noise_level
from wavdiff.errors import WavdiffError
from wavdiff.texts import shown

InputsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT",
        show_default=False,
        help="Files, folders (with all below), patterns in quotes such as 'in/**/*.png', or - for standard input. "
        "They are not changed.",
    ),
]
OutOption = Annotated[
    str | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE|DIR",
        help="For one input a file, or - for standard output; for more a folder, in which names and structure are "
        "kept. Default: beside the input, with the suffix.",
    ),
]
ExtOption = Annotated[
    str | None, typer.Option("--ext", metavar="png", help="Format of the results; default the input's own.")
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace existing results; inputs never.")]
SkipOption = Annotated[
    bool,
    typer.Option(
        "--skip-existing",
        help="To continue a run: leave out the inputs whose results all exist. What has only a part of them is made "
        "again.",
    ),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be written, with sizes, and write nothing.")
]
ModelOption = Annotated[
    str | None, typer.Option("--model", help="A shipped model or a model folder; default photos.", show_default=False)
]
MemoryOption = Annotated[
    str,
    typer.Option(
        "--memory",
        metavar="SIZE",
        help="Working memory, such as 500MB or 2GiB; changes no result but the rounding of draws.",
    ),
]
SamplesOption = Annotated[
    int,
    typer.Option("--samples", metavar="N", help="N posterior draws, their mean, and maps of their standard deviation."),
]
IntervalOption = Annotated[
    float | None,
    typer.Option("--interval", metavar="0.9", help="With --samples: images of the bounds that hold so much."),
]
SolverOption = Annotated[
    str | None, typer.Option("--solver", help="Of draws: dpm, sde-dpm, heun or euler; default the model's.")
]
StepsOption = Annotated[int | None, typer.Option("--steps", help="Of draws: rungs of the ladder; default the model's.")]
ColourOption = Annotated[
    str, typer.Option("--colour", help="How a gray model takes an RGB picture: channels (apart) or luma.")
]


def _colour(text: str) -> Literal["channels", "luma"]:
    if text not in ("channels", "luma"):
        raise WavdiffError(f"--colour must be channels or luma, got {shown(text)}")
    return "luma" if text == "luma" else "channels"


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
        from wavdiff.api import check_sigma

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


def check_draws(
    samples: int, interval: float | None, draws_one: bool, seed: int, solver: str | None, steps: int | None, flag: str
) -> None:
    """Check the options of posterior draws together.

    Args:
        samples, interval, seed, solver, steps: the options.
        draws_one: whether the result itself is a draw.
        flag: the option that says so.

    Raises:
        WavdiffError: a value out of range, or an option without effect.
    """
    if samples < 0 or samples == 1:
        raise WavdiffError(f"--samples must be at least 2 (for one draw give {flag}), got {shown(samples)}")
    if interval is not None:
        if not 0 < interval < 1:
            hint = f"; did you mean {interval / 100:g}?" if 1 < interval < 100 else ""
            raise WavdiffError(f"--interval must lie between 0 and 1, such as 0.9, got {interval:g}{hint}")
        if not samples:
            raise WavdiffError(f"--interval {interval:g} needs draws: give --samples, such as --samples 16")
    check_number("--samples", samples, 0, MOST_DRAWS)
    check_number("--seed", seed, 0, LARGEST_SEED)
    check_number("--steps", steps, 1, MOST_STEPS)
    for name, value in (("--steps", steps), ("--solver", solver)):
        if value is not None and not samples and not draws_one:
            raise WavdiffError(f"{name} is for draws: give {flag} or --samples, got {name} {value} alone")
