"""`wavdiff evaluate`: measure models on clean photographs, or on held-out images of their own kind."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from wavdiff.cli.options import (
    OverwriteOption,
    is_other_family,
    noise_levels,
    refuse_existing,
    refuse_given,
    whole_numbers,
)
from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import one_line, shown

SIGMAS, FACTORS = "10/255,25/255,50/255,100/255", "2,4"


def evaluate(
    folder: Annotated[
        Path | None, typer.Argument(help="Clean photographs (a folder, at any depth), each at its own size.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Instead of FOLDER: the held-out images of a source or folder, at the size of training."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="A shipped model or a model folder; default photos, without FOLDER faces."),
    ] = None,
    models: Annotated[
        list[str] | None, typer.Option(help="Several models, as a,b,c; may be repeated. The first is the subject.")
    ] = None,
    compare: Annotated[list[str] | None, typer.Option(help="The same: another model beside --model.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the report.")] = Path("evaluation"),
    sigmas: Annotated[str, typer.Option(help="Noise levels.")] = SIGMAS,
    factors: Annotated[str, typer.Option(help="Factors to enlarge by.")] = FACTORS,
    limit: Annotated[int, typer.Option(help="At most so many pictures.")] = 100,
    crop: Annotated[int | None, typer.Option(help="FOLDER: take the central CROP x CROP pixels only.")] = None,
    samples: Annotated[int, typer.Option(help="FOLDER: posterior draws of each picture, beside mean mode.")] = 0,
    crops: Annotated[int, typer.Option(help="FOLDER: of so many pictures, write before/after crops.")] = 12,
    kid: Annotated[int, typer.Option(help="Without FOLDER: samples to draw for KID-EffLite0; 0: none.")] = 0,
    importance: Annotated[
        int | None, typer.Option(help="Hierarchical VAEs: draws of the latents for the closer bound; default 100.")
    ] = None,
    bm3d: Annotated[bool, typer.Option(help="Run BM3D beside it (minutes per megapixel).")] = True,
    data_dir: Annotated[Path | None, typer.Option(help="Where the files of a named source lie.")] = None,
    seed: Annotated[int, typer.Option(help="Of noise and samples.")] = 0,
    update_card: Annotated[bool, typer.Option("--update-card", help="Write the report into the model's card.")] = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Measure PSNR, SSIM and time beside BM3D, bicubic and Lanczos; JSON, Markdown, plots, crops to look at.

    With FOLDER, on clean photographs at their own sizes. Without, on the held-out images of the model's own training
    data (or of --data), and with --kid on drawn samples; hierarchical VAEs: bounds on the likelihood; classifiers:
    accuracy.
    """
    written = ("evaluation.json", "evaluation.md", "denoising.png", "enlarging.png", "crops.html", "crops")
    refuse_existing([out / name for name in written], overwrite)
    if folder is not None:
        of_sources = {"--data": data is not None, "--data-dir": data_dir is not None, "--kid": bool(kid)}
        refuse_given(of_sources, "is for held-out images of training data and cannot stand beside FOLDER")
    else:
        refuse_given({"--crop": crop is not None, "--samples": bool(samples)}, "needs a FOLDER of clean photographs")
    named = _models(model, [*(models or []), *(compare or [])], "faces" if folder is None else "photos")
    if folder is None and len(named) == 1 and is_other_family(named[0]):
        of_cascades = {"--kid": bool(kid), "--sigmas": sigmas != SIGMAS, "--factors": factors != FACTORS}
        refuse_given(of_cascades, f"is for cascades, and {named[0]} is none")
        from wavdiff.evaluation.families import FamilyRequest, run_family_evaluation
        from wavdiff.evaluation.tables import for_terminal

        asked = FamilyRequest(named[0], data, data_dir, limit, importance, seed, update_card)
        typer.echo(for_terminal(run_family_evaluation(asked, out, lambda line: typer.echo(one_line(line), err=True))))
        return
    refuse_given({"--importance": importance is not None}, "is for hierarchical VAEs")
    from wavdiff.batch.report import batch_report
    from wavdiff.evaluation import EvaluationRequest, PhotographRequest, run_evaluation, run_photographs
    from wavdiff.evaluation.tables import for_terminal

    shared: dict[str, Any] = {
        "models": named,
        "sigmas": tuple(noise_levels(sigmas)),
        "factors": _factors(factors),
        "limit": limit,
        "bm3d": bm3d,
        "seed": seed,
        "update_card": update_card,
    }

    with batch_report(1, remaining=True) as report:
        if folder is not None:
            photographs = PhotographRequest(**shared, crop=crop, draws=samples, shown=crops)
            text = run_photographs(folder, photographs, out, report.say, report.advance)
        else:
            heldout = EvaluationRequest(**shared, data=data, data_dir=data_dir, kid_samples=kid)
            text = run_evaluation(heldout, out, report.say, report.advance)
    typer.echo(for_terminal(text))


def _models(model: str | None, others: list[str], default: str) -> tuple[str, ...]:
    """All models that were named, each once, in order; the default where there is none."""
    named = [*([model] if model is not None else []), *(name for text in others for name in text.split(","))]
    return tuple(dict.fromkeys(name.strip() for name in named if name.strip())) or (default,)


def _factors(text: str) -> tuple[int, ...]:
    numbers = whole_numbers(text)
    if numbers is None:
        raise WavdiffError(f"--factors are whole numbers such as 2,4, got {shown(text)}")
    return tuple(numbers)
