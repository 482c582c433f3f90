"""`wavdiff train`: resolve a configuration, then train or say what would be trained."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import shown

if TYPE_CHECKING:
    from wavdiff.data import Images
    from wavdiff.models.run_config import RunConfig


def train(
    data: Annotated[
        str | None,
        typer.Option(help="celeba, faces, fashion-mnist, a folder, shards (.tar) or hub:NAME; default: the config's."),
    ] = None,
    config: Annotated[
        str,
        typer.Option(
            help="A YAML file or a preset: tiny, photos, faces, fashion, celeba64, celeba160, celeba-hq320, "
            "vdvae-fashion, wavpool-fashion ..."
        ),
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
    network: Annotated[
        str | None,
        typer.Option(help="bias-free: the paper's blind networks in the place of the configuration's; see --dry-run."),
    ] = None,
    network_set: Annotated[
        list[str] | None, typer.Option("--set", help="Override one setting: section.name=value. May be repeated.")
    ] = None,
    max_hours: Annotated[
        float | None, typer.Option(help="Save and stop after so long; run the same command again to continue.")
    ] = None,
    max_steps: Annotated[int | None, typer.Option(help="Save and stop after so many steps of this call.")] = None,
    status: Annotated[
        Path | None, typer.Option(help="Say where the run in this folder stands, draw its curves, and stop.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved configuration, its size and how long it takes here.")
    ] = False,
) -> None:
    """Train a cascade; run the same command again to continue after an interruption.

    Ctrl-C and SIGTERM save and stop (exit status 130 and 143); a second one stops at once.
    """
    if status is not None:
        _show_status(status)
        return
    for name, value in (("--max-hours", max_hours), ("--max-steps", max_steps)):
        if value is not None and not value > 0:
            raise WavdiffError(f"{name} must be above 0, got {value}")
    if network not in (None, "bias-free"):
        raise WavdiffError(f"--network must be bias-free, or be left out, got {shown(network)}")
    from wavdiff.models.cascade.config import with_published_networks
    from wavdiff.training.config import from_mapping, read_mapping, to_yaml

    mapping = read_mapping(config)
    if network is not None:
        mapping = with_published_networks(mapping)
    section = mapping.setdefault("data", {})
    if not isinstance(section, dict):
        raise WavdiffError(f"configuration: data must be a mapping, got {section!r}")
    if data is not None:
        section["name"] = data
    if data_dir is not None:
        section["data_dir"] = str(data_dir)
    overrides = list(network_set or []) + ([f"training.steps={steps}"] if steps is not None else [])
    if init is not None:
        overrides.append(f"training.init={json.dumps(init, ensure_ascii=False)}")
    resolved = from_mapping(mapping, overrides)
    folder = out or Path("runs") / Path(config).stem
    chosen = [name.strip() for name in scales.split(",") if name.strip()] if scales else None
    if dry_run:
        typer.echo(to_yaml(resolved) + _size_report(resolved))
        return
    from wavdiff.data import count_images
    from wavdiff.system.allocator import keep_freed_memory
    from wavdiff.training.progress import training_progress
    from wavdiff.training.trainer import Trainer

    keep_freed_memory()
    with _nothing_left(folder):
        trainer = Trainer(resolved, folder, chosen, base=base, max_hours=max_hours, max_steps=max_steps)
    main = trainer.accelerator.is_main_process
    with training_progress(trainer.total, enabled=main) as trainer.report:
        if main:
            trainer.expect = _say_if_long
            images = count_images(trainer.train_source)
            known = "a stream of" if images is None else f"{images:,}"
            typer.echo(
                f"Training scales {', '.join(trainer.active) or 'none (all are trained)'}, steps "
                f"{trainer.state.step} to {trainer.total}, on {known} images of {resolved.data.name} as "
                f"{_kind(resolved)}, into {folder}",
                err=True,
            )
            _name_small_images(trainer.train_source, resolved)
        model = trainer.run()
    if trainer.stopped is None:
        if main:
            typer.echo(f"Model: {model}")
        return
    if main:
        why = "limit reached" if trainer.stopped < 0 else f"stopped by {signal.Signals(trainer.stopped).name}"
        typer.echo(
            f"{why} after step {trainer.state.step} of {trainer.total}; saved. Run the same command to continue. "
            f"Model so far: {model}",
            err=True,
        )
    if trainer.stopped > 0:
        raise typer.Exit(128 + trainer.stopped)


def _name_small_images(source: Images, config: RunConfig) -> None:
    """Say how many images have fewer pixels than an example, for what they lack is not learned but interpolated."""
    if config.data.pad or not hasattr(source, "smaller_than"):
        return
    looked, small = source.smaller_than(config.image_size)
    if small:
        height, width = config.image_size
        typer.echo(
            f"{small:,} of {looked:,} images looked at are smaller than the {width}x{height} of an example: they are "
            "enlarged (Lanczos), and teach smooth details",
            err=True,
        )


def _kind(config: RunConfig) -> str:
    height, width = config.image_size
    return f"{width}x{height} {'gray' if config.channels == 1 else 'RGB'}"


def _say_if_long(seconds: float) -> None:
    """Say at once what will take hours, for the first record may be far."""
    from wavdiff.training.status import duration

    if seconds > 3600:
        typer.echo(f"about {duration(seconds)} left, if steps go on as the second one", err=True)


def _show_status(folder: Path) -> None:
    from wavdiff.training.status import read_status, status_table
    from wavdiff.training.status_plot import status_plot

    found = read_status(folder)
    typer.echo(status_table(found))
    plot = folder / "status.png"
    try:
        if status_plot(found, plot):
            typer.echo(f"Curves: {plot}")
    except WavdiffError as error:
        typer.echo(f"wavdiff: {error}", err=True)


@contextmanager
def _nothing_left(folder: Path) -> Iterator[None]:
    """Where a new run cannot begin, take back the folder that was made for it, and those above it."""
    from wavdiff.system.processes import find_processes

    places = [folder, *folder.parents]
    made = places[: next(k for k, place in enumerate(places) if place.exists() or place == place.parent)]
    try:
        yield
    except (WavdiffError, OSError):
        if made and find_processes().is_main and folder.is_dir():
            if {path.name for path in folder.iterdir()} <= {"run.json"}:  # else another process uses it
                (folder / "run.json").unlink(missing_ok=True)
            for place in made:
                with suppress(OSError):  # never made, or not empty
                    place.rmdir()
        raise


def _size_report(config: RunConfig) -> str:
    from wavdiff.models import find_family
    from wavdiff.training.estimate import estimate_training

    family = find_family(config.family)(config)
    model = family.build({})
    counts = {name: sum(weight.numel() for weight in part.parameters()) for name, part in family.parts.items()}
    rows = [(f"{name}: {count:,} parameters", family.part_note(name)) for name, count in counts.items()]
    rows.append((f"total: {sum(counts.values()):,} parameters", family.cost(model)))
    rows.append((f"images as {_kind(config)}", ""))
    lines = [", ".join(filter(None, row)) for row in rows]
    estimate = estimate_training(config)
    if estimate is not None:
        lines += estimate.report().splitlines()
        if config.data.name == "celeba" and config.image_size > (64, 64) and estimate.is_long:
            lines.append("what trains in a night on two cores: --config celeba64")
    return "\n".join(f"# {line}" for line in lines)
