"""`wavdiff train`: resolve a configuration, then train or say what would be trained."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wavdiff.errors import WavdiffError

if TYPE_CHECKING:
    from wavdiff.config import RunConfig


def train(
    data: Annotated[
        str | None, typer.Option(help="celeba, faces, fashion-mnist, or a folder of images; default: the config's.")
    ] = None,
    config: Annotated[
        str, typer.Option(help="A YAML file or a preset: tiny, photos, faces, fashion, celeba160.")
    ] = "tiny",
    out: Annotated[Path | None, typer.Option(help="Folder of the run; default runs/CONFIG. Rerun to continue.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where the files of a named source lie.")] = None,
    scales: Annotated[str | None, typer.Option(help="Scales to train, such as low,1,0; default all.")] = None,
    base: Annotated[
        str | None, typer.Option(help="A trained model; scales that are not trained here are taken from it.")
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(help="A trained model to start from; its networks may be smaller. The same as training.init."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps, the same as --set training.steps=N.")] = None,
    network_set: Annotated[
        list[str] | None, typer.Option("--set", help="Override one setting: section.name=value. May be repeated.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved configuration and parameter count, and stop.")
    ] = False,
) -> None:
    """Train a cascade; run the same command again to continue after an interruption."""
    from wavdiff.config import from_mapping, read_mapping, to_yaml

    mapping = read_mapping(config)
    section = mapping.setdefault("data", {})
    if not isinstance(section, dict):
        raise WavdiffError(f"configuration: data must be a mapping, got {section!r}")
    if data is not None:
        section["name"] = data
    if data_dir is not None:
        section["data_dir"] = str(data_dir)
    overrides = list(network_set or []) + ([f"training.steps={steps}"] if steps is not None else [])
    if init is not None:
        overrides.append(f"training.init={json.dumps(init)}")
    resolved = from_mapping(mapping, overrides)
    folder = out or Path("runs") / Path(config).stem
    chosen = [name.strip() for name in scales.split(",") if name.strip()] if scales else None
    if dry_run:
        typer.echo(to_yaml(resolved) + _size_report(resolved))
        return
    from wavdiff.training.loop import Trainer
    from wavdiff.training.progress import training_progress

    with _nothing_left(folder):
        trainer = Trainer(resolved, folder, chosen, base=base)
    with training_progress(trainer.total) as trainer.report:
        typer.echo(
            f"Training scales {', '.join(trainer.active) or 'none (all are trained)'}, steps {trainer.step} to "
            f"{trainer.total}, on {len(trainer.train_source):,} images of {resolved.data.name}, into {folder}",
            err=True,
        )
        model = trainer.run()
    typer.echo(f"Model: {model}")


@contextmanager
def _nothing_left(folder: Path) -> Iterator[None]:
    """Where a new run cannot begin, take back the folder that was made for it, and those above it."""
    places = [folder, *folder.parents]
    made = places[: next(k for k, place in enumerate(places) if place.exists() or place == place.parent)]
    try:
        yield
    except (WavdiffError, OSError):
        if made and os.path.isdir(folder):
            shutil.rmtree(folder)
        for place in made[1:]:
            with suppress(OSError):  # never made, or no longer empty
                place.rmdir()
        raise


def _size_report(config: RunConfig) -> str:
    from wavdiff.training.setup import build_cascade

    cascade = build_cascade(config, 1.0, [1.0] * config.model.levels)
    rows = []
    for name in cascade.scale_names:
        network = cascade.denoiser(name).network
        field = getattr(network, "receptive_field", None)
        count = sum(parameter.numel() for parameter in network.parameters())
        rows.append(
            f"# {name}: {count:,} parameters, receptive field {f'{field}x{field}' if field else 'the whole image'}"
        )
    total = sum(parameter.numel() for parameter in cascade.parameters())
    rows.append(f"# total: {total:,} parameters, {cascade.multiply_adds_per_pixel():,.0f} multiply-adds per pixel")
    return "\n".join(rows)
