"""`wavdiff upscale`: small pictures, enlarged."""

from __future__ import annotations

from typing import Annotated

import typer

from wavdiff.cli.options import MOST_DRAWS, check_number
from wavdiff.cli.picture_options import PictureOptions, picture_command
from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import shown


@picture_command(
    suffix_help="Behind the names of results; default _x2, _x4, ...",
    seed_help="Of draws; variant k is drawn from SEED + k.",
)
def upscale(
    pictures: PictureOptions,
    factor: Annotated[int, typer.Option(help="2, 4, ... as far as the model has scales.")] = 2,
    mode: Annotated[str, typer.Option(help="mean (sharp where it is sure) or sample (a plausible picture).")] = "mean",
    n: Annotated[int, typer.Option("--n", help="With --mode sample: number of variants, a file each.")] = 1,
) -> None:
    """Enlarge pictures; their block means stay exactly the input."""
    if factor < 2 or factor & (factor - 1):
        raise WavdiffError(f"--factor must be 2, 4, 8 or another power of two, got {shown(factor)}")
    if mode not in ("mean", "sample"):
        raise WavdiffError(f"--mode must be mean or sample, got {mode!r}")
    if n < 1 or (n > 1 and mode == "mean"):
        raise WavdiffError(f"--n must be at least 1, and 1 for --mode mean, which has one answer, got {shown(n)}")
    check_number("--n", n, 1, MOST_DRAWS)
    if n > 1 and pictures.samples:
        raise WavdiffError(
            f"--n and --samples both ask for several draws; give one of them, got {n} and {pictures.samples}"
        )
    pictures.restore("upscale", f"_x{factor}", mode == "sample", "--mode sample", {"factor": factor}, variants=n)
