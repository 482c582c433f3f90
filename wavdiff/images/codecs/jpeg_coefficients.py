"""What a JPEG file says before it is decoded: quantised cosine coefficients, tables, and how planes are reduced."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from wavdiff.images.codecs.exif import camera_notes, turns
from wavdiff.images.codecs.opening import opened
from wavdiff.system.errors import WavdiffError


@dataclass(frozen=True)
class Component:
    """A plane of a JPEG file, luma first.

    Attributes:
        coefficients: (h, w, 8, 8), whole numbers, of each block.
        table: (8, 8), the steps of the coefficients, in 255ths of an orthonormal cosine transform.
        shrinkage: rows and columns of the picture for one of the plane.
    """

    coefficients: Tensor
    table: Tensor
    shrinkage: tuple[int, int]


@dataclass(frozen=True)
class JpegCoefficients:
    """All planes: luma, or Y, Cb and Cr.

    Attributes:
        components: of the file as it lies there.
        size: (height, width) there.
        orientation: 1 to 8, of EXIF: how it is turned to be looked at.
    """

    components: tuple[Component, ...]
    size: tuple[int, int]
    orientation: int = 1

    def from_upright(self, x: Tensor) -> Tensor:
        """Pictures (..., H, W) as they lie in the file."""
        exchanged, *reversed_ = turns(self.orientation)
        x = x.flip([axis for axis, back in zip((-2, -1), reversed_, strict=True) if back])
        return x.transpose(-1, -2) if exchanged else x

    def upright(self, x: Tensor) -> Tensor:
        """Pictures (..., H, W) of the file as they are looked at."""
        exchanged, *reversed_ = turns(self.orientation)
        x = x.transpose(-1, -2) if exchanged else x
        return x.flip([axis for axis, back in zip((-2, -1), reversed_, strict=True) if back])


def read_jpeg_coefficients(source: Path | BinaryIO) -> JpegCoefficients:
    """The coefficients of a file or stream.

    Raises:
        WavdiffError: no JPEG file that can be read, one in CMYK or RGB, or jpeglib is not installed.
    """
    try:
        import jpeglib
    except ImportError as error:
        raise WavdiffError('JPEG coefficients are read by jpeglib: pip install "wavdiff[jpeg]"') from error
    name = str(source) if isinstance(source, Path) else "standard input"
    with ExitStack() as stack:
        if isinstance(source, Path):
            path = source
        else:
            copy = stack.enter_context(NamedTemporaryFile(suffix=".jpg"))
            source.seek(0)
            copy.write(source.read())
            copy.flush()
            source.seek(0)
            path = Path(copy.name)
        with opened(path, name) as image:
            kind, mode, (orientation, *_) = image.format, image.mode, camera_notes(image)
        if kind not in ("JPEG", "MPO"):
            raise WavdiffError(f"{name}: --op jpeg is for JPEG files as they were saved, got {kind}")
        try:
            file: Any = jpeglib.read_dct(os.fspath(path))
        except Exception as error:  # jpeglib's own are of many kinds
            raise WavdiffError(f"{name}: its cosine coefficients cannot be read ({error})") from error
    space = str(file.jpeg_color_space).rpartition("_")[2]
    if {"L": "GRAYSCALE", "RGB": "YCbCr"}.get(mode) != space:
        raise WavdiffError(f"{name}: a JPEG file in gray or YCbCr is needed, got {space}")
    most = np.asarray(file.samp_factor).max(axis=0)
    components = []
    for number, plane in enumerate([file.Y, file.Cb, file.Cr][: file.num_components]):
        down, right = (int(each) for each in most // np.asarray(file.samp_factor)[number])
        table = torch.from_numpy(np.asarray(file.qt[file.quant_tbl_no[number]]).astype(np.float32))
        components.append(Component(torch.from_numpy(plane.astype(np.float32)), table, (down, right)))
    return JpegCoefficients(tuple(components), (int(file.height), int(file.width)), orientation)
