"""The task `Restore`: a picture from what is left of it; see `inverse`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import torch

from wavdiff.images.codecs.jpeg_coefficients import JpegCoefficients
from wavdiff.images.rectangle import Write, whole
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.restoration.degradations import Degradation, Problem
from wavdiff.restoration.inverse import PictureDenoiser, Way, misfit, solve_inverse
from wavdiff.restoration.jpeg_bins import JpegBins
from wavdiff.restoration.plain import Effort, Plain
from wavdiff.restoration.request import RestorationRequest
from wavdiff.system.errors import WavdiffError

BYTES_PER_VALUE = 160
"""Of a picture's arrays and their Fourier transforms at once, for every value of the result."""


@dataclass
class Known:
    """What `Restore.study` found: the problem of a picture, and where a line on the result goes."""

    problem: Problem | None
    messages: list[str]
    name: str
    told: bool = False

    def say(self, line: str) -> None:
        """A line for the user; of several draws the first's."""
        if not self.told:
            self.messages.append(self.name + line)
        self.told = True


class Restore:
    """Restore what a `Degradation` took; see `tasks.Task`. Pictures are in memory as a whole.

    Args:
        cascade: the model.
        request: degradation, noise (`sigma`), method and steps.
    """

    def __init__(self, cascade: WaveletCascade, request: RestorationRequest) -> None:
        self.cascade, self.request = cascade, request
        self.degradation = cast(Degradation, request.degradation)
        self.factor = self.degradation.factor
        self.fills_opacity = self.degradation.opacity
        self.enlarges_opacity = not self.fills_opacity and (self.factor > 1 or self.degradation.kernel is not None)

    def study(self, picture: Plain, name: str, messages: list[str]) -> Known:
        """The picture as a measurement."""
        kernel = self.degradation.blur
        margins = (0, 0) if kernel is None else (kernel.shape[0], kernel.shape[1])
        rows, columns = (side * self.factor + margin for side, margin in zip(picture.size, margins, strict=True))
        needed = BYTES_PER_VALUE * picture.channels * rows * columns
        if self.factor > 1:
            needed += 12 * (rows**2 + columns**2)  # the reduction's matrices, before they are sparse
        if needed > self.request.memory_bytes:
            raise WavdiffError(
                f"{columns}x{rows} pixels are restored as a whole and need about {needed / 1e9:.1f} GB; "
                f"give --memory {math.ceil(needed / 1e9)}GB (memory_bytes), or a part of the picture"
            )
        if self.degradation.jpeg:
            return Known(None, messages, name)
        return Known(self.degradation.problem(picture), messages, name)

    def run(self, picture: Plain, known: Known, write: Write, effort: Effort) -> None:
        """Solve the problem, and say how well the result agrees with the picture."""
        if known.problem is None:
            self._undo_jpeg(picture, known, write, effort)
            return
        problem, given = known.problem, 2 * (self.request.sigma or 0.0)
        noise = given if problem.exact else max(given, 2 * picture.step / 12**0.5)
        denoiser = PictureDenoiser(self.cascade, effort.memory_bytes)
        way = Way(effort.mode, cast(Any, self.request.method), self.request.steps, progress=effort.progress)
        with torch.inference_mode():
            x = solve_inverse(denoiser, problem.operator, problem.measured, noise, [effort.seed], way)
            result = problem.cut(x)[0]
            off = 127.5 * misfit(problem.operator, problem.measured, x)
        line = "" if effort.mode == "mean" else "a draw: "
        line += f"what is known of the picture is met to {off:.2g}/255 rms"
        known.say(line + (f" (noise {127.5 * noise:.2g}/255)" if noise else ""))
        write(whole((result.shape[-2], result.shape[-1])), result.clone())

    def _undo_jpeg(self, picture: Plain, known: Known, write: Write, effort: Effort) -> None:
        """One call, at about the level of the error, and the nearest picture that the file may have been made of."""
        file = self.degradation.jpeg
        if not isinstance(file, JpegCoefficients):
            raise WavdiffError("jpeg is for files: a picture in memory has lost its coefficients")
        bins, x = JpegBins(file), picture.read(whole(picture.size))[None]
        if tuple(file.upright(torch.empty(file.size)).shape) != picture.size or x.shape[1] != len(file.components):
            raise WavdiffError("the picture is not that of the JPEG file's coefficients")
        denoiser = PictureDenoiser(self.cascade, effort.memory_bytes)
        with torch.inference_mode():
            made = bins.project(denoiser.denoise(x, torch.tensor([bins.level])).mean)
            share = bins.agreeing(made)
        known.say(
            f"{100 * share:.2f} % of the file's cosine coefficients are kept to rounding; an error of about "
            f"{127.5 * bins.level:.2g}/255 was supposed"
        )
        write(whole(picture.size), made[0].clone())
        if effort.progress:
            effort.progress(1, 1)
