"""`wavdiff denoise`: noisy pictures, cleaned."""

from __future__ import annotations

from typing import Annotated

import typer

from wavdiff.cli.options import noise_level
from wavdiff.cli.picture_options import PictureOptions, picture_command
from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import check_sigma


@picture_command(
    suffix_help="Behind the names of results; default _denoised.",
    seed_help="Of draws and --add-noise.",
)
def denoise(
    pictures: PictureOptions,
    sigma: Annotated[
        str,
        typer.Option(help="Standard deviation of the noise, in [0, 1): 0.1 or 25/255; auto measures it."),
    ] = "auto",
    noise: Annotated[
        str, typer.Option(metavar="auto|white|poisson", help="What is measured; poisson grows with brightness.")
    ] = "auto",
    gain: Annotated[
        float | None, typer.Option(help="Known noise: variance = gain x + read-noise^2, x from 0 (black) to 1.")
    ] = None,
    white: Annotated[
        float | None,
        typer.Option(help="Value in the file that is white, such as 4095; default its largest, or that of used bits."),
    ] = None,
    read_noise: Annotated[str, typer.Option(help="See --gain: 0.01 or 3/255.")] = "0",
    declip: Annotated[
        bool, typer.Option("--declip/--no-declip", help="Take back what noise cut off at black and white does to them.")
    ] = True,
    impulses: Annotated[
        bool | None,
        typer.Option(
            "--impulses/--no-impulses",
            help="Replace single values at black and white by their neighbours' median; default: where both are found.",
            show_default=False,
        ),
    ] = None,
    sample_posterior: Annotated[
        bool, typer.Option("--sample", help="A draw from the posterior instead of its mean.")
    ] = False,
    add_noise: Annotated[
        bool, typer.Option("--add-noise", help="Demonstration: add that noise first; says PSNR before and after.")
    ] = False,
) -> None:
    """Clean noisy pictures of any size. Nothing is added to them (but see --add-noise)."""
    level = None if sigma.strip().lower() == "auto" else check_sigma(noise_level(sigma), "--sigma")
    if level is None and add_noise:
        raise WavdiffError("--add-noise needs a level: give --sigma as a number such as 25/255, got auto")
    read = noise_level(read_noise, "--read-noise")
    own = {
        "sigma": level,
        "add_noise": add_noise,
        "noise": noise,
        "gain": gain,
        "read_noise": read,
        "white": white,
        "declip": declip,
        "impulses": impulses,
    }
    pictures.restore("denoise", "_denoised", sample_posterior, "--sample", own)
