"""Measurements that are no picture: compressive sensing and Fourier coefficients, in .npz files."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wavdiff.restoration.operators import Frequencies, Matrix, Operator
from wavdiff.system.errors import WavdiffError

RULE = "it needs `y`, `shape` (H, W) or (C, H, W), and `matrix` (m, C H W) or `mask` (H, W)"


@dataclass(frozen=True)
class Measurements:
    """What a file holds.

    Attributes:
        operator: A, of pictures in [0, 1].
        measured: y, (1, ...).
    """

    operator: Operator
    measured: Tensor


def read_measurements(path: Path) -> Measurements:
    """Read a .npz file: `y` = matrix x, x in [0, 1] row by row, a plane after the other; or, with a mask, the complex
    orthonormal Fourier coefficients (C, H, W) of x, of which those outside the mask do not matter.

    Raises:
        WavdiffError: it cannot be read, or its arrays do not fit each other.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError as error:
        raise WavdiffError(f"{path}: no such file") from error
    except (OSError, ValueError, zipfile.BadZipFile, AttributeError) as error:
        raise WavdiffError(f"{path}: not a .npz file of numbers; {RULE}") from error
    if not {"y", "shape"} <= set(arrays) or len({"matrix", "mask"} & set(arrays)) != 1:
        raise WavdiffError(f"{path}: {RULE}, got {', '.join(sorted(arrays)) or 'nothing'}")
    if not all(np.issubdtype(values.dtype, np.number) or values.dtype == bool for values in arrays.values()):
        raise WavdiffError(f"{path}: all arrays must be numbers")
    y, sides = arrays["y"], [int(side) for side in arrays["shape"].flatten()]
    shape = (1, *sides) if len(sides) == 2 else tuple(sides)
    if len(shape) != 3 or shape[0] not in (1, 3) or min(shape) < 1:
        raise WavdiffError(f"{path}: shape must be (H, W) or (C, H, W) with 1 or 3 channels, got {tuple(sides)}")
    if not np.isfinite(y).all():
        raise WavdiffError(f"{path}: y must be finite")
    if "matrix" in arrays:
        matrix = arrays["matrix"]
        if matrix.ndim != 2 or matrix.shape != (y.size, int(np.prod(shape))):
            expected = (y.size, int(np.prod(shape)))
            raise WavdiffError(f"{path}: matrix must be {expected} for this y and shape, got {matrix.shape}")
        values = torch.from_numpy(np.ascontiguousarray(matrix, dtype=np.float32))
        operator: Operator = Matrix(values, (shape[0], shape[1], shape[2]))
        return Measurements(operator, torch.from_numpy(y.astype(np.float32).reshape(1, -1)))
    mask = arrays["mask"]
    if mask.shape != shape[1:] or y.size != np.prod(shape):
        raise WavdiffError(f"{path}: mask must be {shape[1:]} and y {shape}, got {mask.shape} and {y.shape}")
    chosen = mask != 0
    coefficients = np.where(chosen, y.reshape(shape), 0)
    parts = np.concatenate([coefficients.real, coefficients.imag]).astype(np.float32)
    return Measurements(Frequencies(torch.from_numpy(chosen)), torch.from_numpy(parts[None]))
