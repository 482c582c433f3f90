"""`wavdiff assemble`: one cascade from scales that were trained apart."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wavdiff.cli.options import OverwriteOption


def assemble(
    parts: Annotated[list[str], typer.Argument(help="Runs or models; FOLDER:low,1 takes just these scales from one.")],
    out: Annotated[Path, typer.Option(help="Folder for the assembled model.")],
    overwrite: OverwriteOption = False,
) -> None:
    """Join scales that were trained apart into one cascade, after checking that they fit."""
    from wavdiff.models.cascade.training.assembling import assemble as join
    from wavdiff.models.cascade.training.assembling import open_part

    taken = join([open_part(part) for part in parts], out, overwrite)
    for name, part in taken.items():
        typer.echo(f"scale {name}: {part}")
    typer.echo(f"Model: {out}")
