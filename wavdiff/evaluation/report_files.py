"""Reports as they are written: what was asked and where, files in a folder, and a section of a model's card."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from wavdiff import __version__
from wavdiff.evaluation.request import Request
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.system.atomic import written_whole

Say = Callable[[str], None]
Advance = Callable[[str, int, int, str], None]
"""Told how far something is: what is counted, how many of them are done, of how many, and a line that says so."""


def quiet(*_: object) -> None:
    """Say nothing."""


NUMBERS, REPORT = "evaluation.json", "evaluation.md"
CARD_MARK = "<!-- written by wavdiff evaluate --update-card -->"


def heading(request: Request, images: dict[str, Any], cascades: Mapping[str, WaveletCascade]) -> dict[str, Any]:
    """What every report's numbers begin with: the request, the pictures, the machine, and the cost of the models."""
    return {
        "request": asdict(request),
        "images": images,
        **where(),
        "multiply_adds_per_pixel": {name: round(c.multiply_adds_per_pixel()) for name, c in cascades.items()},
    }


def where() -> dict[str, Any]:
    """The machine and the versions that numbers come from."""
    return {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "versions": {"wavdiff": __version__, "torch": torch.__version__},
    }


def as_json(values: Any) -> str:
    """The text of a JSON file."""
    return json.dumps(values, indent=1) + "\n"


def write_files(out: Path, files: Mapping[str, bytes | str], say: Say | None = None) -> None:
    """Write {name: content} into a folder; every file appears complete or not at all.

    Args:
        out: the folder, made where it is missing; files of the same names are replaced.
        files: texts are written in UTF-8.
        say: told the name of every file.

    Raises:
        WavdiffError: the folder cannot be written.
    """
    for name, content in files.items():
        with written_whole(out / name) as file:
            file.write(content.encode() if isinstance(content, str) else content)
        if say:
            say(str(out / name))


def update_card(model: Path, text: str, out: Path | None = None) -> None:
    """Put a report into a model's card, in place of an earlier one, and the picture of neighbours beside it.

    Args:
        model: the folder of the model.
        text: the report in Markdown; its first line, the title, is left out.
        out: the folder of the report, where `neighbours-*.png` may lie; None: there are none.
    """
    card = model / "README.md"
    before = card.read_text(encoding="utf-8").split(CARD_MARK)[0].rstrip() if card.is_file() else ""
    body = text.split("\n", 1)[1].strip()
    neighbours = list(out.glob("neighbours-*.png")) if out else []
    if neighbours:
        shutil.copyfile(neighbours[0], model / "neighbours.png")
        body += "\n\nSamples, each with its nearest training photograph on its right:\n\n![neighbours](neighbours.png)"
    write_files(model, {card.name: f"{before}\n\n{CARD_MARK}\n# Evaluation\n\n{body}\n"})
