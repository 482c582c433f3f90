"""`wavdiff upscale`: small pictures, enlarged."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from wavdiff.cli.options import MOST_DRAWS, check_number, noise_level, refuse_given, whole_numbers
from wavdiff.cli.picture_options import PictureOptions, picture_command
from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import check_sigma, shown


@picture_command(
    suffix_help="Behind the names of results; default _x2, _x4, ...",
    seed_help="Of draws; variant k is drawn from SEED + k.",
)
def upscale(
    pictures: PictureOptions,
    factor: Annotated[
        float | None,
        typer.Option(help="2, 4, 8, or any other: the next power of two, then reduced.", show_default="2"),
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Size of the results, such as 1920x1080, in place of a factor.")
    ] = None,
    longest: Annotated[
        int | None, typer.Option(metavar="PIXELS", help="Longest side of the results, in place of a factor.")
    ] = None,
    denoise: Annotated[
        bool, typer.Option("--denoise", help="Remove noise first, of a level that is measured, or of --sigma.")
    ] = False,
    sigma: Annotated[
        str | None, typer.Option(help="Noise to remove first: its standard deviation, such as 10/255.")
    ] = None,
    filter: Annotated[
        str | None,
        typer.Option(
            metavar="FILTER",
            help="By which the picture was made small, if not by block means: bicubic, lanczos, gaussian:S.",
        ),
    ] = None,
    mode: Annotated[str, typer.Option(help="mean (sharp where it is sure) or sample (a plausible picture).")] = "mean",
    n: Annotated[int, typer.Option("--n", help="With --mode sample: number of variants, a file each.")] = 1,
) -> None:
    """Enlarge pictures; by powers of two their block means stay exactly the input."""
    given = {"--factor": factor, "--size": size, "--longest": longest}
    named = [f"{name} {value}" for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise WavdiffError(
            f"--factor, --size and --longest all say how large results become; give one, got {' and '.join(named)}"
        )
    sides = None
    if size is not None:
        sides = whole_numbers(size.lower(), "x")
        if sides is None or len(sides) != 2 or min(sides) < 1:
            raise WavdiffError(f"--size must be WIDTHxHEIGHT in pixels, such as 1920x1080, got {shown(size)}")
    check_number("--longest", longest, 1, 1_000_000)
    if factor is not None and not factor > 1:
        raise WavdiffError(f"--factor must be above 1, such as 2, 4 or 1.5, got {factor:g}")
    level = None if sigma is None else check_sigma(noise_level(sigma), "--sigma")
    noise = {"denoise": denoise or level is not None, "sigma": level}
    own: dict[str, Any] = {"factor": factor or 2, "size": sides and (sides[1], sides[0]), "longest": longest, **noise}
    suffix = f"_{size.lower()}" if size else f"_{longest}" if longest else f"_x{own['factor']:g}"
    if mode not in ("mean", "sample"):
        raise WavdiffError(f"--mode must be mean or sample, got {mode!r}")
    if n < 1 or (n > 1 and mode == "mean"):
        raise WavdiffError(f"--n must be at least 1, and 1 for --mode mean, which has one answer, got {shown(n)}")
    check_number("--n", n, 1, MOST_DRAWS)
    if n > 1 and pictures.samples:
        raise WavdiffError(
            f"--n and --samples both ask for several draws; give one of them, got {n} and {pictures.samples}"
        )
    if filter is not None:
        others = {"--size": size is not None, "--longest": longest is not None, "--denoise": denoise}
        others |= {"--quality": pictures.quality != "fast", "--strength": pictures.strength < 1}
        refuse_given(others, f"does not go with --filter {filter}: give --factor, and --sigma where there is noise")
        if own["factor"] not in range(2, 17):
            raise WavdiffError(f"--factor with --filter must be a whole number from 2 to 16, got {own['factor']:g}")
        from wavdiff.system.allocator import keep_freed_memory

        keep_freed_memory()  # before torch starts threads
        from wavdiff.restoration.degradations import Degradation

        undone = {"sigma": level, "degradation": Degradation(factor=int(own["factor"]), filter=filter)}
        pictures.restore("restore", suffix, mode == "sample", "--mode sample", undone, variants=n)
        return
    pictures.restore("upscale", suffix, mode == "sample", "--mode sample", own, variants=n)
