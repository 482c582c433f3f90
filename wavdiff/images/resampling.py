"""Resizing pictures that are in memory, with Pillow's filters, and laying them out beside each other."""

from typing import Literal, get_args

import numpy as np
import torch
from PIL import Image

from wavdiff.system.errors import WavdiffError

ResizeMethod = Literal["bicubic", "lanczos", "box"]
_RESAMPLING = {method: Image.Resampling[method.upper()] for method in get_args(ResizeMethod)}


def resize(pixels: torch.Tensor, size: tuple[int, int], method: ResizeMethod = "bicubic") -> torch.Tensor:
    """Resize in floating point with Pillow's filters (which widen when shrinking, against aliasing).

    Args:
        pixels: (..., H, W), any range; each plane is resized by itself.
        size: (height, width) of the result, in pixels.
        method: "bicubic" (a = -0.5), "lanczos" (3 lobes) or "box" (block averages).

    Returns:
        (..., height, width) float32; bicubic and Lanczos can overshoot the input's range.

    Raises:
        WavdiffError: an unknown method or a size below one pixel.
    """
    if method not in _RESAMPLING:
        raise WavdiffError(f"method must be one of {', '.join(_RESAMPLING)}, not {method!r}")
    height, width = size
    if height < 1 or width < 1:
        raise WavdiffError(f"an image cannot be resized to {height} x {width} pixels")
    planes = pixels.detach().to("cpu", torch.float32).reshape(-1, *pixels.shape[-2:]).numpy()
    resized = np.empty((len(planes), height, width), dtype=np.float32)
    for index, plane in enumerate(planes):
        source = Image.fromarray(np.ascontiguousarray(plane))
        resized[index] = np.asarray(source.resize((width, height), _RESAMPLING[method]))
    return torch.from_numpy(resized).reshape(*pixels.shape[:-2], height, width).to(pixels.device)


LANCZOS_LOBES = 3
"""Pixels that Lanczos' filter reaches on either side, of the coarser picture."""


def resize_rows(pixels: torch.Tensor, rows: tuple[float, float], size: tuple[int, int]) -> torch.Tensor:
    """Reduce some rows of a picture with Lanczos' filter, which looks at those around them as well.

    Args:
        pixels: (C, H, W), rows of a picture with those that the filter reaches.
        rows: where the part that is reduced begins and ends, counted in rows of `pixels`.
        size: (height, width) of the result, which has all columns.

    Returns:
        (C, height, width) float32; it can overshoot the input's range.
    """
    box = (0, rows[0], pixels.shape[-1], rows[1])
    made = torch.empty(pixels.shape[0], *size)
    for plane, result in zip(pixels, made, strict=True):
        source = Image.fromarray(np.ascontiguousarray(plane.to("cpu", torch.float32).numpy()))
        reduced = source.resize((size[1], size[0]), Image.Resampling.LANCZOS, box=box)
        result.copy_(torch.from_numpy(np.array(reduced)))
    return made


def resize_crop(pixels: np.ndarray, box: tuple[float, float, float, float], size: tuple[int, int]) -> np.ndarray:
    """Cut a box, whose borders may lie between pixels, out of an 8-bit image and resize it with Lanczos.

    Args:
        pixels: uint8 (H, W) or (H, W, 3).
        box: (left, top, right, bottom) in pixels, inside the image.
        size: (height, width) of the result, in pixels.

    Returns:
        uint8 (height, width) or (height, width, 3).
    """
    source = Image.fromarray(np.ascontiguousarray(pixels))
    return np.array(source.resize((size[1], size[0]), Image.Resampling.LANCZOS, box=box))


def image_grid(batch: torch.Tensor, columns: int | None = None, padding: int = 2) -> torch.Tensor:
    """Lay pictures of one size out in a grid, row by row, on white.

    Args:
        batch: (N, C, H, W) in [-1, 1].
        columns: pictures per row; None for the square root of N, rounded up.
        padding: white pixels between pictures and around them.

    Returns:
        (C, rows (H + padding) + padding, columns (W + padding) + padding) in [-1, 1].

    Raises:
        WavdiffError: a batch that is empty or not of four axes, fewer than one column, or negative padding.
    """
    if batch.ndim != 4 or batch.shape[0] == 0:
        raise WavdiffError(f"a grid needs a batch (N, C, H, W) with N >= 1, not {tuple(batch.shape)}")
    count, channels, height, width = batch.shape
    columns = int(np.ceil(np.sqrt(count))) if columns is None else columns
    if columns < 1 or padding < 0:
        raise WavdiffError(f"a grid needs columns >= 1 and padding >= 0, not {columns} and {padding}")
    rows = -(-count // columns)
    grid = batch.new_ones(channels, rows * (height + padding) + padding, columns * (width + padding) + padding)
    for index in range(count):
        top = padding + (index // columns) * (height + padding)
        left = padding + (index % columns) * (width + padding)
        grid[:, top : top + height, left : left + width] = batch[index]
    return grid
