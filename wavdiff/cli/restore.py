"""`wavdiff restore`: pictures of which something was lost, and that something is known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from wavdiff.batch.jobs import name_outputs
from wavdiff.batch.sources import Source
from wavdiff.cli.options import check_number, noise_level, refuse_existing, refuse_given
from wavdiff.cli.picture_options import PictureOptions, picture_command
from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import check_sigma, shown

OPERATORS = {
    "inpaint": ("--mask", "--colour-lost", "--grow"),
    "deblur": ("--kernel",),
    "upscale": ("--factor", "--filter"),
    "jpeg": (),
    "compressed": (),
}
"""What a picture may have gone through, and the options that say how."""


@picture_command(
    suffix_help="Behind the names of results; default _restored.",
    seed_help="Of draws.",
)
def restore(
    pictures: PictureOptions,
    op: Annotated[
        str,
        typer.Option(
            "--op",
            metavar="inpaint|deblur|upscale|jpeg|compressed",
            help="What is to be undone; several with +, such as deblur+upscale: blurred, reduced, pixels lost.",
        ),
    ],
    mask: Annotated[
        Path | None,
        typer.Option(
            help="To inpaint: a picture that is white where pixels are lost; default: where it is transparent."
        ),
    ] = None,
    colour_lost: Annotated[
        str | None, typer.Option("--colour-lost", metavar="'#ff00ff'", help="To inpaint: the colour of lost pixels.")
    ] = None,
    grow: Annotated[int, typer.Option(help="To inpaint: pixels around lost ones that are lost, too.")] = 0,
    kernel: Annotated[
        str | None,
        typer.Option(
            metavar="KERNEL", help="To deblur: gaussian:2.0, disk:3, motion:15,30 (pixels, degrees), or a picture."
        ),
    ] = None,
    factor: Annotated[int | None, typer.Option(help="To upscale: 2, 3, 4 ...", show_default="2")] = None,
    filter: Annotated[
        str | None,
        typer.Option(
            metavar="FILTER",
            help="By which it was reduced: bicubic, lanczos, box, or gaussian:S.",
            show_default="bicubic",
        ),
    ] = None,
    noise: Annotated[
        str, typer.Option(help="Standard deviation of white noise in the picture, in [0, 1): 0.01 or 2/255.")
    ] = "0",
    method: Annotated[
        str | None, typer.Option(metavar="moments|splitting|ascent", help="See docs/restore.md; default moments.")
    ] = None,
    mode: Annotated[str, typer.Option(help="mean (sharp where it is sure) or sample (a plausible picture).")] = "mean",
) -> None:
    """Fill in, sharpen or enlarge pictures by what is known of how they were made."""
    names = op.split("+")
    if not all(name in OPERATORS for name in names) or len(set(names)) < len(names):
        raise WavdiffError(f"--op must be some of {', '.join(OPERATORS)} between +, each once, got {shown(op)}")
    given: dict[str, object] = {"--mask": mask, "--colour-lost": colour_lost, "--grow": grow or None}
    given |= {"--kernel": kernel, "--factor": factor, "--filter": filter}
    for name, options in OPERATORS.items():
        if name not in names:
            alone = {option: given[option] is not None for option in options}
            refuse_given(alone, f"is of --op {name}, got --op {op}")
    if "compressed" in names and len(names) > 1:
        raise WavdiffError(f"--op compressed stands alone: its file has all measurements, got {shown(op)}")
    if "deblur" in names and kernel is None:
        raise WavdiffError("--op deblur needs the blur: give --kernel, such as gaussian:2.0")
    check_number("--factor", factor, 2, 16)
    check_number("--grow", grow, 0, 255)
    level = check_sigma(noise_level(noise, "--noise"), "--noise")
    if mode not in ("mean", "sample"):
        raise WavdiffError(f"--mode must be mean or sample, got {shown(mode)}")
    pictures.check_draws(mode == "sample", "--mode sample")
    from wavdiff.system.allocator import keep_freed_memory

    keep_freed_memory()  # before torch starts threads
    if "compressed" in names:
        _compressed(pictures, level, method, mode)
        return
    from wavdiff.images import read_colour
    from wavdiff.restoration.degradations import Degradation, read_mask
    from wavdiff.restoration.inverse import Way

    refuse_given({"--noise": bool(level) and "jpeg" in names}, "has no meaning with --op jpeg: the file says its own")
    Way("sample" if mode == "sample" or pictures.samples else "mean", cast(Any, method), pictures.steps)
    what: dict[str, Any] = {"kernel": kernel, "grow": grow, "jpeg": "jpeg" in names}
    what |= {"opacity": "inpaint" in names and mask is None and colour_lost is None}
    if mask is not None:
        what["hidden"] = read_mask(mask)
    if colour_lost is not None:
        what["colour"] = read_colour(colour_lost)
    if "upscale" in names:
        what |= {"factor": factor or 2, "filter": filter or "bicubic"}
    own = {"sigma": level, "degradation": Degradation(**what), "method": method}
    pictures.restore("restore", "_restored", mode == "sample", "--mode sample", own)


def _compressed(pictures: PictureOptions, noise: float, method: str | None, mode: str) -> None:
    """Pictures of .npz files of measurements."""
    defaults = PictureOptions([])
    for option in ("samples", "interval", "pages", "quality", "strength", "colour", "skip_existing", "dry_run"):
        given = getattr(pictures, option) != getattr(defaults, option)
        refuse_given({f"--{option.replace('_', '-')}": given}, "has no meaning with --op compressed")
    from wavdiff.adapters.restoring import restore as restored
    from wavdiff.api import load
    from wavdiff.images import check_output_path, save_image
    from wavdiff.models.folders import DEFAULT_RESTORATION_MODEL
    from wavdiff.restoration.inverse import misfit
    from wavdiff.restoration.measurements import read_measurements
    from wavdiff.system.devices import computing_in

    sources = [Path(name) for name in pictures.inputs]
    naming = name_outputs(pictures.out, len(sources) > 1, "_restored", pictures.suffix, pictures.ext)
    targets = [naming.target(Source(source.with_suffix(".png"), source.parent)) for source in sources]
    for target in targets:
        check_output_path(target)
    refuse_existing(targets, pictures.overwrite)
    model = load(pictures.model or DEFAULT_RESTORATION_MODEL)
    for source, target in zip(sources, targets, strict=True):
        found = read_measurements(source)
        settings: Any = {"noise": noise, "mode": mode, "method": method, "steps": pictures.steps, "seed": pictures.seed}
        with computing_in(pictures.precision):
            picture = restored(found.measured, found.operator, model=model, **settings)
        save_image(target, 2 * picture[0] - 1)
        off = misfit(found.operator, found.measured, picture)
        typer.echo(str(target))
        typer.echo(f"what was measured is met to {off:.2g} rms", err=True)
