"""`wavdiff denoise` and `wavdiff upscale`: pictures that exist, made better.

Both say what shall be done with one picture as a `RestorationRequest`; what is read and written, for one file or
thousands, is the same for both and lies in `cli.files`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from wavdiff.cli.options import LARGEST_SEED, MOST_DRAWS, MOST_STEPS, check_number
from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import shown

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
