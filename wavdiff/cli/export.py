"""`wavdiff export`: a model for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    model: Annotated[str, typer.Argument(help="A shipped model (photos, faces, fashion) or a folder.")],
    onnx: Annotated[Path, typer.Option(help="New folder for the graphs.")],
) -> None:
    """Write the denoiser of every scale as an ONNX graph, for any batch, size and noise level.

    examples/onnx_denoise.py runs them with NumPy and onnxruntime. Needs pip install "wavdiff[onnx]".
    """
    from wavdiff.adapters.onnx import export_onnx
    from wavdiff.models.cascade.saved import load_cascade

    for name in export_onnx(load_cascade(model), onnx):
        typer.echo(onnx / name)
