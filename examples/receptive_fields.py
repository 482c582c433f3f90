"""PSNR of denoising against noise level, for models of several receptive fields: cascades beside flat networks.

    sh examples/receptive_fields.sh                     # trains what is compared by default, on 64x64 faces
    python examples/receptive_fields.py runs/receptive-fields/cascade-* runs/receptive-fields/flat-*
    python examples/receptive_fields.py small=runs/a large=runs/b --data pictures --size 160 --out report

This is figure 3 of Kadkhodaie, Guth, Mallat and Simoncelli (ICLR 2023) for any models and any pictures. A model is a
folder, a name that ships, or NAME=either; one without detail scales is called flat. White noise of known standard
deviation is added and removed again, by one call per scale over the whole picture, without tiles. As in the paper's
code, a picture's PSNR is 10 log10(1 / mean squared error) in [0, 1] units, of results that are not limited to this
range, and decibels are averaged over pictures. The noise of a picture follows from its name, the level and the seed,
so that all models remove the same noise, and differences between models are known better than the values: both have
their standard error over pictures.

`psnr.md` (tables), `psnr.json` (also of every picture) and `psnr.png` (curves) go into --out.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from receptive_field_study import NOISY, Model, Pictures, Study, common_format, measure, open_models, read_pictures

from wavdiff import __version__
from wavdiff.cli.options import check_number, noise_levels, refuse_existing
from wavdiff.evaluation.plots import pyplot
from wavdiff.evaluation.tables import NOTHING, markdown_table
from wavdiff.models.cascade.config import LARGEST_SIDE
from wavdiff.system.atomic import written_whole
from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import shown

SIGMAS = "3.2/255,5.7/255,10.3/255,18.5/255,33.3/255,59.9/255,108/255,194/255"
"""Those of the paper's figure."""


def reference_of(models: Sequence[Model], asked: str | None) -> str:
    """The model that others are compared with: the one asked for, or the flat one of largest receptive field.

    Raises:
        WavdiffError: no model of the name asked for.
    """
    names = [model.name for model in models]
    if asked is not None and asked not in names:
        raise WavdiffError(f"--beside {asked}: is not one of the models {', '.join(names)}")
    return asked or names[-1]  # the models are sorted


def report(study: Study, models: Sequence[Model], reference: str, pictures: Pictures, request: str) -> str:
    """The tables in Markdown."""
    columns = [f"{sigma * 255:g}" for sigma in study.sigmas]
    sides = {"x".join(str(side) for side in plane.shape[1:]) for plane in pictures.planes.values()}
    count = len(pictures.planes)
    enlarged = f" {pictures.enlarged} of them were enlarged to it and lack the finest details." * bool(
        pictures.enlarged
    )
    values = {"noisy picture": [NOTHING] * 4 + [f"{mean:.2f}" for mean, _ in study.mean_and_error(NOISY)]}
    excess = {}
    for model in models:
        facts = [model.kind, model.field_text]
        facts += [f"{model.parameters:,}", f"{model.multiply_adds_per_pixel:,.0f}"]
        values[model.name] = facts + [f"{mean:.2f}" for mean, _ in study.mean_and_error(model.name)]
        if model.name != reference:
            pairs = study.mean_and_error(model.name, reference)
            excess[model.name] = [f"{mean:+.2f} ± {error:.2f}" for mean, error in pairs]
    heads = ["kind", "receptive field", "parameters", "multiply-adds per pixel", *columns]
    parts = [
        f"# Denoising {count} pictures of {pictures.source}, {', '.join(sides)}",
        f"{request} PSNR in dB, by noise level (of 255).{enlarged}",
        markdown_table(heads, values),
    ]
    if excess:
        parts += [
            f"Beside {reference}: mean difference in dB and its standard error over the {count} pictures.",
            markdown_table(columns, excess),
        ]
    return "\n\n".join(parts) + "\n"


def results(study: Study, models: Sequence[Model], reference: str, pictures: Pictures) -> dict[str, Any]:
    """All numbers, for JSON."""

    def pairs(name: str, beside: str | None = None) -> list[dict[str, float | None]]:
        found = study.mean_and_error(name, beside)
        return [
            {"mean": round(mean, 4), "standard_error": None if math.isnan(error) else round(error, 4)}
            for mean, error in found
        ]

    table: dict[str, Any] = {}
    for name in study.psnr:
        by_picture = [[round(value, 3) for value in row] for row in study.psnr[name].tolist()]
        table[name] = {"psnr": pairs(name), "beside_reference": pairs(name, reference), "by_picture": by_picture}
    for model in models:
        table[model.name] |= {
            "kind": model.kind,
            "receptive_field": model.receptive_field,
            "parameters": model.parameters,
            "multiply_adds_per_pixel": round(model.multiply_adds_per_pixel),
        }
    return {
        "sigmas": [round(sigma, 8) for sigma in study.sigmas],
        "reference": reference,
        "models": table,
        "pictures": {"source": pictures.source, "enlarged": pictures.enlarged, "names": list(pictures.planes)},
    }


def draw(study: Study, models: Sequence[Model], reference: str, title: str) -> Any:
    """The curves: PSNR, and its excess over the reference's with standard errors, by noise level."""
    plots = pyplot()
    figure, axes = plots.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    levels = [sigma * 255 for sigma in study.sigmas]
    fields = sorted({model.receptive_field for model in models if model.receptive_field is not None})
    shades = plots.get_cmap("viridis")(np.linspace(0.0, 0.85, max(len(fields), 1)))
    colours: dict[int | None, Any] = dict(zip(fields, shades, strict=False))
    axes[0].plot(levels, [mean for mean, _ in study.mean_and_error(NOISY)], ":", color="gray", label="noisy picture")
    for model in models:
        style: dict[str, Any] = {
            "color": colours.get(model.receptive_field, "black"),
            "linestyle": "--" if model.flat else "-",
            "marker": "s" if model.flat else "o",
            "markersize": 3.5,
            "label": model.name,
        }
        axes[0].plot(levels, [mean for mean, _ in study.mean_and_error(model.name)], **style)
        means, errors = zip(*study.mean_and_error(model.name, reference), strict=True)
        axes[1].errorbar(levels, means, [0 if math.isnan(error) else error for error in errors], capsize=2, **style)
    for place, name in zip(axes, ("PSNR (dB)", f"PSNR above {reference} (dB)"), strict=True):
        place.set_xscale("log")
        place.set_xticks(levels, [f"{level:g}" for level in levels])
        place.minorticks_off()
        place.set(xlabel="noise level (of 255)", ylabel=name)
        place.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure


def run(chosen: argparse.Namespace) -> str:
    """Measure and write all files; returns the report."""
    sigmas = noise_levels(chosen.sigmas)
    if not sigmas or not all(0 < sigma < math.inf for sigma in sigmas):
        raise WavdiffError(f"--sigmas must be noise levels above 0, such as 25/255, got {shown(chosen.sigmas)}")
    check_number("--limit", chosen.limit, 1, 10**6)
    check_number("--seed", chosen.seed, 0, 2**62)
    check_number("--size", chosen.size, 1, LARGEST_SIDE)
    check_number("--crop", chosen.crop, 1, LARGEST_SIDE)
    files = {suffix: chosen.out / f"psnr.{suffix}" for suffix in ("md", "json", "png")}
    refuse_existing(list(files.values()), chosen.overwrite)
    pyplot()  # before minutes of measuring, not after
    models = open_models(chosen.models, chosen.device, float32=chosen.float32)
    reference = reference_of(models, chosen.beside)
    channels, size = common_format(models, chosen.size)
    pictures = read_pictures(chosen.data, chosen.data_dir, size, channels, chosen.crop, chosen.limit)
    study = measure(models, pictures.planes, sigmas, chosen.seed, lambda text: print(text, flush=True))
    precision = "float32" if chosen.float32 else "the models' own precision"
    text = report(study, models, reference, pictures, f"Noise of seed {chosen.seed}, {precision}.")
    figure = draw(study, models, reference, text.splitlines()[0].removeprefix("# "))
    versions = {"wavdiff": __version__, "torch": torch.__version__}
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, {chosen.device}"
    found = results(study, models, reference, pictures)
    found |= {"seed": chosen.seed, "float32": chosen.float32, "crop": chosen.crop, "size": size}
    found |= {"machine": machine, "versions": versions}
    with written_whole(files["md"]) as file:
        file.write(text.encode())
    with written_whole(files["json"]) as file:
        file.write((json.dumps(found) + "\n").encode())
    with written_whole(files["png"]) as file:
        figure.savefig(file, format="png", dpi=110)
    pyplot().close(figure)
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, usage=argparse.SUPPRESS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", metavar="MODEL", help="NAME=FOLDER, or a folder, or a model that ships")
    parser.add_argument("--data", default="faces", help="faces, celeba (held-out parts) or a folder of pictures")
    parser.add_argument("--data-dir", type=Path, metavar="FOLDER", help="where the files of a named source lie")
    parser.add_argument("--sigmas", default=SIGMAS, help=f"noise levels; default {SIGMAS}")
    parser.add_argument("--size", type=int, help="side of the pictures; default the models' own")
    parser.add_argument("--crop", type=int, help="side of the centre that is cut out before; default the largest")
    parser.add_argument("--limit", type=int, default=100, help="the first so many pictures; default 100")
    parser.add_argument("--beside", metavar="NAME", help="compare with this one; default the largest flat network")
    parser.add_argument("--seed", type=int, default=0, help="of the noise; default 0")
    parser.add_argument("--float32", action="store_true", help="no bfloat16 where it is fast")
    parser.add_argument("--device", default="cpu", help="default cpu")
    parser.add_argument("--out", type=Path, default=Path("receptive-fields"), help="folder; default receptive-fields")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier report in --out")
    chosen = parser.parse_args(arguments)
    try:
        print(f"\n{run(chosen)}\n{chosen.out / 'psnr.png'}")
    except (WavdiffError, OSError) as error:
        print(f"receptive_fields: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
