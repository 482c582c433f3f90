"""What a JPEG file knows of its picture: of every cosine coefficient the bin that it was rounded to."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from wavdiff.images.codecs.jpeg_coefficients import Component, JpegCoefficients

MATRIX = ((0.299, 0.587, 0.114), (-0.168735892, -0.331264108, 0.5), (0.5, -0.418687589, -0.081312411))
"""RGB to Y, Cb and Cr (JFIF 1.02, ITU-R BT.601)."""
MARGIN = 0.25
"""Part of a step, at most a grey level, by which a bin is made smaller: results are rounded to whole numbers."""
ERROR = 0.6
"""Rms of the error of photographs over what `level` makes of the tables; chosen on photographs for validation."""


class JpegBins:
    """The set of pictures that a JPEG file may have been made of; see the module.

    Args:
        file: its coefficients.
    """

    def __init__(self, file: JpegCoefficients) -> None:
        self.file = file
        places = torch.arange(8, dtype=torch.float64)
        cosines = ((2 * places[None] + 1) * places[:, None] * math.pi / 16).cos() / 2
        cosines[0] /= 2**0.5
        self._cosines = cosines.float()

    @property
    def level(self) -> float:
        """About the rms of the decoded picture's error, library units: steps of coefficients that are not 0 lose a
        twelfth of their square, of others less."""
        luma = self.file.components[0]
        lost = luma.table.square() / 12 * torch.where(luma.coefficients != 0, 1.0, 0.3)
        return ERROR * 2 / 255 * float(lost.mean().sqrt())

    def project(self, x: Tensor) -> Tensor:
        """Pictures (1, C, H, W) in [-1, 1] whose coefficients are in their bins, by the least change of every plane."""
        planes = self._planes(x)
        for number, component in enumerate(self.file.components):
            coefficients = self._coefficients(planes[number], component)
            half = component.table / 2 - (MARGIN * component.table).clamp(max=1)
            middle = component.coefficients * component.table
            change = self._blocks_back(coefficients.clamp(middle - half, middle + half) - coefficients)
            down, right = component.shrinkage
            change = change.repeat_interleave(down, 0).repeat_interleave(right, 1)
            planes[number] += change[: self.file.size[0], : self.file.size[1]]
        if len(self.file.components) == 3:
            planes = torch.einsum("ij,jhw->ihw", torch.linalg.inv(torch.tensor(MATRIX)), planes)
        return self.file.upright((planes / 127.5 - 1)[None])

    def agreeing(self, x: Tensor) -> float:
        """Part of the coefficients that pictures (1, C, H, W), rounded to 8 bits, have in common with the file."""
        planes = self._planes(((x.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1)
        equal, count = 0, 0
        for number, component in enumerate(self.file.components):
            rounded = (self._coefficients(planes[number], component) / component.table).round()
            equal += int((rounded == component.coefficients).sum())
            count += rounded.numel()
        return equal / count

    def _planes(self, x: Tensor) -> Tensor:
        """(C, H, W) in the file's colours and place, in 255ths."""
        values = (self.file.from_upright(x)[0] + 1) * 127.5
        if len(self.file.components) == 3:
            values = torch.einsum("ij,jhw->ihw", torch.tensor(MATRIX), values)
        return values.clone()

    def _coefficients(self, plane: Tensor, component: Component) -> Tensor:
        """(h, w, 8, 8) of a plane, which goes on beyond its border as its last pixels do."""
        rows, columns = component.coefficients.shape[:2]
        down, right = component.shrinkage
        missing = (0, 8 * columns * right - plane.shape[1], 0, 8 * rows * down - plane.shape[0])
        framed = functional.pad(plane[None, None], missing, mode="replicate")
        reduced = functional.avg_pool2d(framed, (down, right))[0, 0]
        if component is self.file.components[0]:
            reduced = reduced - 128
        blocks = reduced.reshape(rows, 8, columns, 8).permute(0, 2, 1, 3)
        return self._cosines @ blocks @ self._cosines.T

    def _blocks_back(self, coefficients: Tensor) -> Tensor:
        blocks = self._cosines.T @ coefficients @ self._cosines
        rows, columns = blocks.shape[:2]
        return blocks.permute(0, 2, 1, 3).reshape(8 * rows, 8 * columns)
