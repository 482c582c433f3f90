"""A cascade as ONNX graphs, one for the denoiser of each scale, for whatever runs them (onnxruntime, browsers, phones).

A graph is the function `denoise` of `models.cascade.denoising`, preconditioning included, with any batch, height, width
and noise level; images are float32 in [-1, 1], noise levels in the same units (twice sigma of [0, 1]):

| file | inputs | outputs |
|---|---|---|
| `low.onnx` | `noisy` (B, C, h, w), `level` (B,) | `mean` (B, C, h, w) |
| `details-K.onnx` | `noisy` (B, 3C, h, w), `level` (B,), `estimate`, `observed` (B, C, h, w), `coarse_level` (B,) | `mean` (B, 3C, h, w), `coarse` (B, C, h, w) |

With `coarse_level` 0 and `observed` equal to `estimate` the coarse image is exact. What joins the scales is a Haar step;
`examples/onnx_denoise.py` is the whole of it in NumPy. `cascade.json` says which files there are, from coarse to fine.
"""  # noqa: E501

from __future__ import annotations

import importlib.util
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wavdiff.models.cascade.denoising import Coarse
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.system.atomic import replace_folder
from wavdiff.system.errors import WavdiffError

SIDE = 12
"""Of the images with which graphs are traced."""


class _Lowpass(nn.Module):
    def __init__(self, denoiser: Any) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, noisy: Tensor, level: Tensor) -> Tensor:
        mean: Tensor = self.denoiser.denoise(noisy, level).mean
        return mean


class _Details(nn.Module):
    def __init__(self, denoiser: Any) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(
        self, noisy: Tensor, level: Tensor, estimate: Tensor, observed: Tensor, coarse_level: Tensor
    ) -> tuple[Tensor, Tensor]:
        answer = self.denoiser.denoise(noisy, level, Coarse(estimate, observed, coarse_level))
        return answer.mean, answer.coarse


def export_onnx(cascade: WaveletCascade, folder: Path) -> list[str]:
    """Write the graphs and `cascade.json` into a new folder, complete before it appears there.

    Args:
        cascade: the model, on a CPU.
        folder: where; it must not exist, or be empty.

    Returns:
        Names of the files.

    Raises:
        WavdiffError: the packages are missing, the folder is in use, or blind networks, which are told no level.
    """
    for name in ("onnx", "onnxscript"):
        if importlib.util.find_spec(name) is None:
            raise WavdiffError(f'export to ONNX needs {name}: pip install "wavdiff[onnx]"')
    if cascade.wavelet != "haar" or any(cascade.denoiser(name).network.blind for name in cascade.scale_names):
        raise WavdiffError("export to ONNX is for cascades with the Haar wavelet whose networks are told a noise level")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise WavdiffError(f"--onnx {folder} exists; choose another folder")
    unfinished = folder.with_name(f".unfinished-{folder.name}")
    unfinished.mkdir(parents=True)
    try:
        files = {name: "low.onnx" if name == "low" else f"details-{name}.onnx" for name in cascade.scale_names}
        for name, file in files.items():
            _export(cascade, name, unfinished / file)
        about = {
            "image_size": cascade.image_size,
            "channels": cascade.channels,
            "wavelet": cascade.wavelet,
            "noise_max": cascade.noise_max,
            "local": all(cascade.denoiser(name).network.receptive_field is not None for name in files),
            "scales": files,
        }
        (unfinished / "cascade.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        replace_folder(unfinished, folder)
    finally:
        if unfinished.exists():
            for path in unfinished.iterdir():
                path.unlink()
            unfinished.rmdir()
    return [*files.values(), "cascade.json"]


def _export(cascade: WaveletCascade, name: str, path: Path) -> None:
    channels = cascade.channels

    def images(count: int) -> Tensor:
        return torch.zeros(2, count, SIDE, SIDE)

    def levels() -> Tensor:  # a tensor of its own for each input: of one given twice a graph would make one input
        return torch.tensor([0.1, 0.2])

    inputs: dict[str, Tensor] = {"noisy": images(channels if name == "low" else 3 * channels), "level": levels()}
    if name != "low":
        inputs |= {"estimate": images(channels), "observed": images(channels), "coarse_level": levels()}
    batch, height, width = (torch.export.Dim(axis, min=1) for axis in ("batch", "height", "width"))
    shapes = {key: {0: batch} if value.ndim == 1 else {0: batch, 2: height, 3: width} for key, value in inputs.items()}
    wrapped = (_Lowpass if name == "low" else _Details)(cascade.denoiser(name)).eval()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # torchvision, which nothing here uses, may be missing
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, on its own future
        program = torch.onnx.export(
            wrapped,
            args=(),
            kwargs=inputs,
            dynamic_shapes=shapes,
            input_names=list(inputs),
            output_names=["mean"] if name == "low" else ["mean", "coarse"],
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.save(path, external_data=False)
