"""`wavdiff import-published`: the cascades that the paper's authors released, as models of this package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wavdiff.cli.options import OverwriteOption


def import_published(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="A set of the release, such as multi_scale/celebA_160x160_gray, or a flat network."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the model.")],
    receptive_field: Annotated[
        int | None, typer.Option(help="Of the detail or flat networks: 5, 9, 13, 23, 43; default the largest there.")
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Take over the networks of Kadkhodaie, Guth, Mallat and Simoncelli (ICLR 2023) from the authors' release.

    The files are pickles; they are read as weights only, and nothing in them is executed.
    """
    from wavdiff.models.cascade.published.importing import import_release

    cascade = import_release(folder, out, receptive_field, overwrite)
    for name in cascade.scale_names:
        network = cascade.denoiser(name).network
        count = sum(parameter.numel() for parameter in network.parameters())
        field = network.receptive_field
        typer.echo(f"scale {name}: {count:,} parameters, receptive field {field}x{field}")
    typer.echo(f"Model: {out}")
