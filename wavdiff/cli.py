"""The command line: parse, load, call one function, save. Heavy imports wait until a command runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wavdiff.errors import WavdiffError

if TYPE_CHECKING:
    from wavdiff.config import RunConfig

app = typer.Typer(
    name="wavdiff",
    help="Draw, denoise and enlarge images with one small wavelet cascade.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ModelOption = Annotated[str, typer.Option("--model", help="A shipped model (faces, fashion) or a model folder.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace existing output files.")]


def _level(text: str) -> float:
    """A noise level "0.1" or "25/255"."""
    number, _, divisor = text.partition("/")
    try:
        return float(number) / float(divisor or 1)
    except (ValueError, ZeroDivisionError):
        raise WavdiffError(f"a noise level is a number such as 0.1 or 25/255, got {text!r}") from None


def _levels(text: str) -> list[float]:
    return [_level(part) for part in text.split(",") if part.strip()]


def _refuse_existing(paths: list[Path], overwrite: bool) -> None:
    taken = [path for path in paths if path.exists()]
    if taken and not overwrite:
        raise WavdiffError(f"{taken[0]} exists; choose another --out or give --overwrite")


def _output(image: Path, out: Path | None, suffix: str) -> Path:
    return image.with_name(f"{image.stem}{suffix}{image.suffix}") if out is None else out


def _keep_input(image: Path, targets: list[Path]) -> None:
    for path in targets:
        if path.resolve() == image.resolve() or (path.exists() and image.exists() and path.samefile(image)):
            raise WavdiffError(f"--out: {path} is the input file, which is never written to")


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from wavdiff import __version__

        typer.echo(f"wavdiff {__version__}")
        raise typer.Exit


@app.command()
def train(
    data: Annotated[
        str | None, typer.Option(help="celeba, faces, fashion-mnist, or a folder of images; default: the config's.")
    ] = None,
    config: Annotated[str, typer.Option(help="A YAML file, or a preset: tiny, faces, fashion, celeba160.")] = "tiny",
    out: Annotated[Path | None, typer.Option(help="Folder of the run; default runs/CONFIG. Rerun to continue.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where the files of a named source lie.")] = None,
    scales: Annotated[str | None, typer.Option(help="Scales to train, such as low,1,0; default all.")] = None,
    base: Annotated[
        str | None, typer.Option(help="A trained model; scales that are not trained here are taken from it.")
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
    resolved = from_mapping(mapping, overrides)
    folder = out or Path("runs") / Path(config).stem
    chosen = [name.strip() for name in scales.split(",") if name.strip()] if scales else None
    if dry_run:
        typer.echo(to_yaml(resolved) + _size_report(resolved))
        return
    from wavdiff.training.loop import Trainer
    from wavdiff.training.progress import training_progress

    trainer = Trainer(resolved, folder, chosen, base=base)
    with training_progress(trainer.total) as trainer.report:
        typer.echo(
            f"Training scales {', '.join(trainer.active) or 'none (all are trained)'}, steps {trainer.step} to "
            f"{trainer.total}, on {len(trainer.train_source):,} images of {resolved.data.name}, into {folder}",
            err=True,
        )
        model = trainer.run()
    typer.echo(f"Model: {model}")


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


@app.command()
def sample(
    n: Annotated[int, typer.Option("--n", help="Number of images.")] = 64,
    seed: Annotated[int, typer.Option(help="Image k is drawn from SEED + k.")] = 0,
    model: ModelOption = "faces",
    out: Annotated[Path, typer.Option(help="Folder for the images.")] = Path("samples"),
    steps: Annotated[
        str | None, typer.Option(help="Rungs of the ladders: one number, or LOW,DETAILS; default the model's.")
    ] = None,
    solver: Annotated[
        str | None, typer.Option(help="dpm, heun, euler (deterministic) or sde-dpm (stochastic); default the model's.")
    ] = None,
    low_seed: Annotated[
        int | None, typer.Option(help="One seed for all low-pass images: the layout stays, details vary.")
    ] = None,
    stop_scale: Annotated[int, typer.Option(help="Stop at scale j: images of 1/2^j of the size.")] = 0,
    show_scales: Annotated[bool, typer.Option("--show-scales", help="Write the walk from coarse to fine.")] = False,
    size: Annotated[str | None, typer.Option(help="HEIGHTxWIDTH, default the model's.")] = None,
    batch_size: Annotated[int, typer.Option(help="Images at once; changes no image.")] = 64,
    overwrite: OverwriteOption = False,
) -> None:
    """Draw new images: one PNG each, a contact sheet, and a record to repeat them."""
    from wavdiff.sampling_run import SamplingRequest, write_samples

    if n < 1:
        raise WavdiffError(f"--n must be at least 1, got {n}")
    if batch_size < 1:
        raise WavdiffError(f"--batch-size must be at least 1, got {batch_size}")
    if seed < 0 or (low_seed is not None and low_seed < 0):
        raise WavdiffError(f"--seed and --low-seed must be at least 0, got {seed if seed < 0 else low_seed}")
    request = SamplingRequest(
        model=model,
        seeds=tuple(range(seed, seed + n)),
        low_seed=low_seed,
        size=_size(size),
        steps=_steps(steps),
        solver=solver,
        stop_scale=stop_scale,
        batch_size=batch_size,
    )
    write_samples(request, out, show_scales=show_scales, overwrite=overwrite)
    typer.echo(f"{n} images, {out / 'sheet.png'} and {out / 'sample.json'}")


def _steps(text: str | None) -> tuple[int | None, int | None]:
    if text is None:
        return None, None
    parts = text.split(",")
    if len(parts) > 2 or not all(part.strip().isdigit() and int(part) >= 1 for part in parts):
        raise WavdiffError(f"--steps is a number of at least 1, or two as in 24,10, got {text!r}")
    return int(parts[0]), int(parts[-1])


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) not in (1, 2) or not all(part.isdigit() and 1 <= int(part) <= 65536 for part in parts):
        raise WavdiffError(f"--size is HEIGHTxWIDTH, such as 64x64, got {text!r}")
    return int(parts[0]), int(parts[-1])


@app.command()
def denoise(
    image: Annotated[Path, typer.Argument(help="The noisy picture. It is not changed.")],
    sigma: Annotated[str, typer.Option(help="Standard deviation of the noise, in [0, 1): 0.1 or 25/255.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Output file; default IMAGE_denoised.")] = None,
    model: ModelOption = "faces",
    add_noise: Annotated[
        bool, typer.Option("--add-noise", help="Demonstration: add that noise first; prints PSNR before and after.")
    ] = False,
    sample_posterior: Annotated[
        bool, typer.Option("--sample", help="A draw from the posterior instead of its mean.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of --add-noise and --sample.")] = 0,
    overwrite: OverwriteOption = False,
) -> None:
    """Clean a noisy picture of any size. Nothing is added to it (but see --add-noise)."""
    from wavdiff.api import check_sigma

    level = check_sigma(_level(sigma), "--sigma")
    target = _output(image, out, "_denoised")
    noisy_target = target.with_name(f"{target.stem}_input{target.suffix}")
    targets = [target, *([noisy_target] if add_noise else [])]
    _keep_input(image, targets)
    from wavdiff.images import check_output_path, load_image, save_image

    picture = load_image(image)
    for path in targets:
        check_output_path(path, picture)
    _refuse_existing(targets, overwrite)
    import torch

    from wavdiff import api
    from wavdiff.cascade import derive_generator

    cascade = api.load(model)
    pixels = picture.pixels
    if add_noise:
        pixels = pixels + 2 * level * torch.randn(pixels.shape, generator=derive_generator(seed, "added noise"))
    clean = api.denoise(cascade, pixels, level, mode="sample" if sample_posterior else "mean", seed=seed)
    save_image(target, clean, picture)
    if add_noise:
        from wavdiff.metrics import psnr

        save_image(noisy_target, pixels, picture)
        before, after = (float(psnr(x[None], picture.pixels[None])[0]) for x in (pixels, clean))
        typer.echo(f"PSNR {before:.2f} dB noisy (clipped to the file's range), {after:.2f} dB denoised")
    typer.echo(str(target))


@app.command()
def upscale(
    image: Annotated[Path, typer.Argument(help="The small picture. It is not changed.")],
    factor: Annotated[int, typer.Option(help="2, 4, ... as far as the model has scales.")] = 2,
    mode: Annotated[str, typer.Option(help="mean (sharp where it is sure) or sample (a plausible picture).")] = "mean",
    n: Annotated[int, typer.Option("--n", help="Number of variants, with --mode sample.")] = 1,
    seed: Annotated[int, typer.Option(help="Variant k is drawn from SEED + k.")] = 0,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Output file; default IMAGE_x2.")] = None,
    model: ModelOption = "faces",
    steps: Annotated[int | None, typer.Option(help="Rungs of the ladder, with --mode sample.")] = None,
    solver: Annotated[str | None, typer.Option(help="dpm, sde-dpm, heun or euler, with --mode sample.")] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Enlarge a picture; its block means stay exactly the input."""
    if mode not in ("mean", "sample"):
        raise WavdiffError(f"--mode must be mean or sample, got {mode!r}")
    if n < 1 or (n > 1 and mode == "mean"):
        raise WavdiffError(f"--n must be at least 1, and 1 for --mode mean, which has one answer, got {n}")
    if seed < 0:
        raise WavdiffError(f"--seed must be at least 0, got {seed}")
    if steps is not None and steps < 1:
        raise WavdiffError(f"--steps must be at least 1, got {steps}")
    target = _output(image, out, f"_x{factor}")
    targets = (
        [target] if n == 1 else [target.with_name(f"{target.stem}_{seed + k:06d}{target.suffix}") for k in range(n)]
    )
    _keep_input(image, targets)
    from wavdiff.images import check_output_path, load_image, save_image

    picture = load_image(image)
    for path in targets:
        check_output_path(path, picture)
    _refuse_existing(targets, overwrite)
    import torch

    from wavdiff import api

    cascade = api.load(model)
    for k, path in enumerate(targets):
        large = api.upscale(
            cascade, picture.pixels, factor, mode="sample" if mode == "sample" else "mean",
            seed=seed + k, steps=steps, solver=solver,
        )  # fmt: skip
        save_image(path, large, picture)
        means = torch.nn.functional.avg_pool2d(large[None], factor)[0]
        error = float((means - picture.pixels).abs().max()) / 2
        typer.echo(
            f"{path} (block means differ from the input by at most {error:.1e} of its range, before quantisation)"
        )


@app.command()
def evaluate(
    data: Annotated[str | None, typer.Option(help="Source or folder; default the model's own.")] = None,
    model: ModelOption = "faces",
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("evaluation"),
    sigmas: Annotated[str, typer.Option(help="Noise levels.")] = "10/255,25/255,50/255,100/255",
    factors: Annotated[str, typer.Option(help="Factors to enlarge by.")] = "2,4",
    compare: Annotated[list[str] | None, typer.Option(help="Another model beside it; may be repeated.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many held-out images.")] = 100,
    kid: Annotated[int, typer.Option(help="Samples to draw for KID-EffLite0; 0: none.")] = 0,
    bm3d: Annotated[bool, typer.Option(help="Run BM3D beside it.")] = True,
    data_dir: Annotated[Path | None, typer.Option(help="Where the files of a named source lie.")] = None,
    seed: Annotated[int, typer.Option(help="Of noise and samples.")] = 0,
    update_card: Annotated[bool, typer.Option("--update-card", help="Write the report into the model's card.")] = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Measure on held-out images: PSNR, SSIM and KID beside bicubic and BM3D; JSON, Markdown and plots."""
    _refuse_existing([out / "evaluation.json"], overwrite)
    from wavdiff.evaluation import EvaluationRequest, run_evaluation

    numbers = [part.strip() for part in factors.split(",") if part.strip()]
    if not all(part.isdigit() for part in numbers):
        raise WavdiffError(f"--factors are whole numbers such as 2,4, got {factors!r}")
    request = EvaluationRequest(
        models=(model, *(compare or [])),
        data=data,
        data_dir=data_dir,
        sigmas=tuple(_levels(sigmas)),
        factors=tuple(int(part) for part in numbers),
        limit=limit,
        kid_samples=kid,
        bm3d=bm3d,
        seed=seed,
        update_card=update_card,
    )
    typer.echo(run_evaluation(request, out, lambda text: typer.echo(text, err=True)))


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; a user's mistake is one line on stderr and exit status 1."""
    import click

    try:
        return app(args=arguments, standalone_mode=True)
    except WavdiffError as error:
        typer.echo(f"wavdiff: {error}", err=True)
        sys.exit(1)
    except click.exceptions.Abort:
        sys.exit(130)
    except OSError as error:
        typer.echo(f"wavdiff: {error.filename or 'a file'}: {error.strerror or error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
