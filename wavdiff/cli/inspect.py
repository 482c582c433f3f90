"""`wavdiff inspect`: what a cascade is made of, and what it does to one picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from wavdiff.cli.options import (
    LARGEST_SEED,
    OverwriteOption,
    check_number,
    is_other_family,
    noise_level,
    refuse_existing,
    refuse_given,
    whole_numbers,
)
from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import one_line, shown

DEFAULT_SIGMA = 0.1
DEFAULT_OUT = Path("inspection")


def inspect(
    model: Annotated[str, typer.Argument(help="A shipped model (photos, faces, fashion) or a folder.")],
    image: Annotated[
        Path | None, typer.Argument(help="A picture without noise; without it, only the cascade is described.")
    ] = None,
    sigma: Annotated[
        str | None, typer.Option(help="Noise that is added, in units of [0, 1]: 0.1 or 25/255; default 0.1.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the noise; default 0.")] = None,
    pixel: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROW,COL", help="A pixel whose filters are drawn; may be repeated. Default: three places."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for pictures and tables; default inspection.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Look inside: a table of the scales and, with IMAGE, what each of them does to that picture.

    Of a hierarchical VAE: what every block does to the state of held-out images of its training data, with a plot.

    With IMAGE, noise is added to it and removed again. Written are the walk from coarse to fine, the filters that
    chosen pixels were averaged with (rows of the denoiser's Jacobian), and the noise level and energy of every scale.
    """
    if is_other_family(model):
        refuse_given(
            {"IMAGE": image is not None, "--sigma": sigma is not None, "--pixel": bool(pixel)},
            f"is for cascades, and {one_line(model)} is none",
        )
        _inspect_blocks(model, seed or 0, out or DEFAULT_OUT, as_json, overwrite)
        return
    if image is None:
        given = {"--sigma": sigma is not None, "--seed": seed is not None, "--pixel": bool(pixel)}
        refuse_given(
            {**given, "--out": out is not None, "--overwrite": overwrite},
            "needs an IMAGE: wavdiff inspect MODEL IMAGE {option}",
        )
    level = DEFAULT_SIGMA if sigma is None else noise_level(sigma)
    check_number("--seed", seed, 0, LARGEST_SEED)
    places = tuple(_place(text) for text in pixel or ())
    from wavdiff.evaluation.inspection import InspectionRequest, describe, inspect_file, planned_files, write_inspection
    from wavdiff.evaluation.tables import for_terminal
    from wavdiff.models.cascade.saved import load_cascade

    request = InspectionRequest(sigma=level, seed=seed or 0, places=places)
    folder = out or DEFAULT_OUT
    if image is not None:
        refuse_existing([folder / name for name in planned_files()], overwrite)
        if folder.exists() and not folder.is_dir():
            raise WavdiffError(f"--out {folder}: is a file, not a folder")
    cascade = load_cascade(model)
    description = describe(cascade, one_line(model))
    if image is None:
        typer.echo(json.dumps(description.as_json(), indent=1) if as_json else for_terminal(description.as_markdown()))
        return
    seen = inspect_file(cascade, image, request)
    text, numbers = write_inspection(seen, description, one_line(image.name), folder)
    typer.echo(json.dumps(numbers, indent=1) if as_json else for_terminal(text))
    typer.echo(one_line(f"{folder}: {', '.join(planned_files(len(seen.rows)))}"), err=True)


def _inspect_blocks(model: str, seed: int, out: Path, as_json: bool, overwrite: bool) -> None:
    """What the blocks of a hierarchical VAE do."""
    from wavdiff.evaluation.families import INSPECTED, FamilyRequest, inspect_family
    from wavdiff.evaluation.tables import for_terminal

    refuse_existing([out / name for name in INSPECTED], overwrite)
    numbers, text = inspect_family(FamilyRequest(model, limit=1000, seed=seed), out)
    typer.echo(json.dumps(numbers, indent=1) if as_json else for_terminal(text))
    typer.echo(one_line(f"{out}: {', '.join(INSPECTED)}"), err=True)


def _place(text: str) -> tuple[int, int]:
    """ROW,COL as two whole numbers."""
    numbers = whole_numbers(text)
    if numbers is None or len(numbers) != 2:
        raise WavdiffError(f"--pixel is ROW,COL counted from 0 at the top left, such as 40,64, got {shown(text)}")
    return numbers[0], numbers[1]
