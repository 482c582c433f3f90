"""Files that N draws make together: their mean, maps of their standard deviation, bounds of an interval."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from wavdiff.images import Planes, create_picture, plain_info
from wavdiff.images.disk_array import Plane
from wavdiff.images.labels import colour_bar, coloured
from wavdiff.images.rectangle import Rectangle, Write, bands
from wavdiff.models.wavelets import padded_size
from wavdiff.restoration.posterior import summarise
from wavdiff.restoration.request import RestorationRequest
from wavdiff.system.atomic import written_whole

LEAST_BAR = 180
"""Pixels of the bar below a map, which is as wide as the map where that is wider."""


@torch.no_grad()
def write_summary(
    draws: list[Plane],
    request: RestorationRequest,
    files: list[Path],
    mean: Write,
    writer: Callable[[Path], Write],
    writers: ExitStack,
) -> list[str]:
    """Write what `planned_outputs` lists after the draws themselves, by bands of rows.

    Maps are in [0, 1] units, of colour as the cascade draws it (premultiplied, where a picture with opacity is
    enlarged): `.npy` (H, W, C) float32, or (h, w, 1) for octaves; `.png` their root mean square over channels in
    colours, with a bar below that says what they mean.

    Args:
        draws: planes (C, H, W), library units.
        request: with `samples`, perhaps with `interval`.
        files: maps (PNG and NPY in turns), then lower and upper image.
        mean: takes the mean picture.
        writer: makes a writer of a picture like the source.
        writers: contexts that complete the files.

    Returns:
        Lines for the user.
    """
    height, width = draws[0].size
    octaves = request.octaves
    padded = padded_size((height, width), octaves)
    sizes = [(height, width), *((padded[0] >> k, padded[1] >> k) for k in range(1, octaves + 1))]
    limit = request.memory_bytes // 16
    maps = [_Map(files[2 * k], files[2 * k + 1], size, writers, limit) for k, size in enumerate(sizes)]
    limits = [writer(path) for path in files[2 * (octaves + 1) :]]
    for band in bands((height, width), _rows(width, 2**octaves, len(draws) * draws[0].channels)):
        values = torch.stack([plane.read(band) for plane in draws])
        summary = summarise(values, octaves)
        mean(band, summary.mean)
        for place, spread in zip(maps, (summary.std, *summary.octaves), strict=True):
            place.add(spread / 2)
        if limits and request.interval is not None:
            for write, bound in zip(limits, summary.bounds(request.interval, len(draws)), strict=True):
                write(band, bound)
    return [place.finish() for place in maps]


def _rows(width: int, step: int, channels: int) -> int:
    """Rows of a band of about 4 million values, a multiple of `step`."""
    return max(1, (1 << 22) // (width * channels) // step) * step


class _Map:
    """A map of standard deviations, taken by bands: the array is written at once, the picture when its maximum is
    known."""

    def __init__(
        self, picture: Path, array: Path, size: tuple[int, int], writers: ExitStack, memory_bytes: int
    ) -> None:
        self.picture, self.size, self.writers = picture, size, writers
        self.file: BinaryIO = writers.enter_context(written_whole(array))
        self.spread = Plane(1, *size, in_memory=4 * size[0] * size[1] <= memory_bytes)
        self.row, self.sum, self.largest = 0, 0.0, 0.0

    def add(self, band: Tensor) -> None:
        """Take the next rows (C, rows, w)."""
        channels, rows, width = band.shape
        if self.row == 0:
            header = {"descr": "<f4", "fortran_order": False, "shape": (*self.size, channels)}
            np.lib.format.write_array_header_1_0(self.file, header)
        self.file.write(np.ascontiguousarray(band.permute(1, 2, 0).numpy(), dtype="<f4").tobytes())
        spread = band.square().mean(dim=0, keepdim=True).sqrt()
        self.spread.write(Rectangle(self.row, self.row + rows, 0, width), spread)
        self.row += rows
        self.sum += float(spread.double().square().sum())
        self.largest = max(self.largest, float(spread.max()))

    def finish(self) -> str:
        """Complete both files; returns a line for the user."""
        (height, width), scale = self.size, 1 / self.largest if self.largest > 0 else 0.0
        bar = colour_bar(
            max(width, LEAST_BAR), "standard deviation", f"{self.largest:.4f} = {255 * self.largest:.2g}/255"
        )
        size = (height + bar.shape[1], bar.shape[2])
        sink = self.writers.enter_context(create_picture(self.picture, plain_info(size, 3)))
        for band in bands(self.size, _rows(width, 1, 1)):
            colours = functional.pad(coloured(self.spread.read(band) * scale), (0, size[1] - width), value=1.0)
            sink.write(Rectangle(band.top, band.bottom, 0, size[1]), Planes(colours))
        sink.write(Rectangle(height, size[0], 0, size[1]), Planes(bar))
        self.spread.close()
        rms = (self.sum / (height * width)) ** 0.5
        return f"{self.picture}: standard deviation {rms:.4f} (rms), at most {self.largest:.4f}"
