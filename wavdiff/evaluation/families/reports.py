"""From a model that is no cascade, and the held-out images of its training data, to a report."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from wavdiff.data.protocols import ImageSource, classes_of
from wavdiff.evaluation.families import classifier, vae
from wavdiff.evaluation.families.request import FamilyRequest
from wavdiff.evaluation.report_files import NUMBERS, REPORT, Say, as_json, quiet, update_card, where, write_files
from wavdiff.images import save_image
from wavdiff.models.family import Family, load_model
from wavdiff.models.folders import data_section, family_of, find_any_model, training_configuration
from wavdiff.models.vdvae.family import VdvaeFamily
from wavdiff.models.wavpool.family import WavpoolFamily
from wavdiff.system.errors import WavdiffError
from wavdiff.training.batches import heldout_images, open_data
from wavdiff.training.config import from_mapping

INSPECTED = ("inspection.json", "inspection.md", "blocks.png", "reconstructions.png")
"""Files of an inspection."""


@dataclass(frozen=True)
class Subject:
    """A model with its family and held-out images (N, C, H, W) in [-1, 1] of its size."""

    model: Any
    family: Family[Any, Any]
    images: torch.Tensor
    source: ImageSource


def open_subject(request: FamilyRequest) -> Subject:
    """Load the model and its images.

    Raises:
        WavdiffError: one of them is missing or damaged, or they do not fit.
    """
    folder = find_any_model(request.model)
    model, kind, own = load_model(folder), family_of(folder), training_configuration(folder)
    if own is None:
        raise WavdiffError(f"--model {request.model}: training.yaml is missing there, which says how images are cut")
    name, place = request.data, request.data_dir
    section = {**data_section(own)}
    if name is not None and name != section.get("name"):
        section |= {"name": name, "data_dir": None, "validation": ()}
    config = from_mapping({**own, "data": {**section, **({"data_dir": str(place)} if place else {}), "images": None}})
    family = kind(config)
    family.build({})
    source = open_data(config)[1]
    found = classes_of(source)
    if family.needs_classes and not (found and set(found) <= set(config.model.classes)):
        raise WavdiffError(f"data: the classes of {source.name} are not those of the model")
    images = heldout_images(family, source, request.limit)
    return Subject(model, family, images, source)


def run_family_evaluation(request: FamilyRequest, out: Path, say: Say = quiet) -> str:
    """Measure, write `evaluation.json` and `evaluation.md` into `out`, and return the Markdown.

    Raises:
        WavdiffError: as for `open_subject`, or a family that nothing can be said of.
    """
    subject = open_subject(request)
    results = {
        "request": asdict(replace(request, data_dir=None)),
        "images": {"source": subject.source.name, "held-out": len(subject.images)},
        **where(),
    }
    head = f"# {request.model} on {len(subject.images)} held-out images of {subject.source.name}\n\n"
    if isinstance(subject.family, VdvaeFamily):
        results["bound"], text = vae.evaluate(subject.family, subject.model, subject.images, request, say)
    elif isinstance(subject.family, WavpoolFamily):
        if request.importance is not None:
            raise WavdiffError(f"--importance is for hierarchical VAEs, and {request.model} is a classifier")
        results["accuracy"], text = classifier.evaluate(subject.family, subject.model, subject.images)
    else:
        raise WavdiffError(f"--model {request.model}: is a {subject.family.noun}, of which there is no evaluation")
    write_files(out, {NUMBERS: as_json(results), REPORT: head + text})
    if request.update_card:
        update_card(find_any_model(request.model), head + text, out)
    return head + text


def inspect_family(request: FamilyRequest, out: Path) -> tuple[dict[str, Any], str]:
    """What the blocks of a model do: numbers and Markdown, which are written into `out` with a plot.

    Raises:
        WavdiffError: as for `open_subject`, or a family whose blocks are not looked at.
    """
    subject = open_subject(request)
    if not isinstance(subject.family, VdvaeFamily):
        raise WavdiffError(f"--model {request.model}: is a {subject.family.noun}, into which inspect does not look")
    numbers, text, plot = vae.inspect(subject.family, subject.model, subject.images, request)
    write_files(out, {"inspection.json": as_json(numbers), "inspection.md": text, "blocks.png": plot})
    sheet = vae.reconstructions(subject.family, subject.model, subject.images, request.seed)
    save_image(out / "reconstructions.png", sheet)
    return numbers, text
