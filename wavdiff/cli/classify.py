"""`wavdiff classify`: the classes of pictures, with probabilities."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import one_line


def classify(
    pictures: Annotated[list[Path], typer.Argument(help="Picture files.")],
    model: Annotated[str, typer.Option(help="A trained classifier: the folder of a run, or of a model.")],
    top: Annotated[int, typer.Option(help="So many classes, the most probable ones.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: all classes of every picture.")] = False,
) -> None:
    """Say what is on pictures, by a WavPool classifier (wavdiff train --config wavpool-fashion)."""
    from wavdiff.api import classify as classify_picture
    from wavdiff.api import load_classifier
    from wavdiff.images import load_image

    if top < 1:
        raise WavdiffError(f"--top must be at least 1, got {top}")
    classifier = load_classifier(model)
    found = {str(picture): classify_picture(load_image(picture).pixels, classifier) for picture in pictures}
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    for name, probabilities in found.items():
        best = sorted(probabilities.items(), key=lambda item: -item[1])[:top]
        typer.echo(one_line(f"{name}: {', '.join(f'{label} {value:.3f}' for label, value in best)}"))
