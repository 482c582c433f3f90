"""The verbs of a cascade on whole batches, for any denoisers; a cascade is a denoiser of whole images itself."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from wavdiff.models import wavelets
from wavdiff.models.cascade import joint_walk, walk
from wavdiff.models.cascade.canvas import WholeCanvas, WholeField
from wavdiff.models.cascade.denoising import Coarse, Denoised
from wavdiff.models.cascade.solvers import Counted, Schedule
from wavdiff.models.cascade.solving import Walker
from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import shown


class CascadeVerbs:
    """Sample, enlarge, denoise: trained networks or exact denoisers.

    All of them see the border of a batch as networks do in training, with zeros around it; `wavdiff.denoise` and
    `wavdiff.upscale`, which are for pictures of any size, put mirror images around them instead, and so differ from
    these in the outermost pixels.

    Attributes:
        lowpass: denoiser of x_J, see `denoising.Denoiser`.
        details: one per scale, finest first.
        wavelet: the wavelet's PyWavelets name.
        conditioning_augmentation: whether detail denoisers know noisy coarse images; if not, `denoise` treats the
            denoised coarse image as exact, as published.
    """

    lowpass: Any
    details: Any
    wavelet: str
    conditioning_augmentation: bool = True
    mean_draws = 0

    @property
    def levels(self) -> int:
        """Number of detail scales J."""
        return len(self.details)

    @property
    def std(self) -> float:
        """Rms of whole images over the training set, library units: that of all coefficients together."""
        energy = float(self.lowpass.std) ** 2 + 3 * sum(float(denoiser.std) ** 2 for denoiser in self.details)
        return energy**0.5

    @property
    def top(self) -> float:
        """Highest standard level of whole images: no scale is asked beyond its own."""
        scales = [(self.levels, self.lowpass), *((scale + 1, each) for scale, each in enumerate(self.details))]
        return float(min(2**scale * each.top * each.std for scale, each in scales)) / self.std

    def network_context(self) -> contextlib.AbstractContextManager[Any]:
        """Context in which networks are called (autocast, no gradients)."""
        return torch.no_grad()

    def denoise(self, noisy: Tensor, level: Tensor, coarse: Coarse | None = None) -> Denoised:
        """Estimate E[x | noisy], as `denoising.Denoiser` does.

        Args:
            noisy: (B, C, H, W) in library units (images in [-1, 1]), any size.
            level: (B,) standard deviations of white noise, library units (twice the [0, 1] value); 0 is left alone.
            coarse: not used; whole images have no coarser one.

        Raises:
            WavdiffError: a negative noise level.
        """
        if not bool((level >= 0).all()):
            raise WavdiffError(f"noise levels must not be negative, got {level.tolist()}")
        return Denoised(noisy if float(level.max()) == 0 else self.denoise_walk(noisy, level)[-1])

    def denoise_walk(self, noisy: Tensor, level: Tensor) -> list[Tensor]:
        """The denoised x_J, ..., x_0 on the way of `denoise`; only x_0 is cropped to the input."""
        canvas, image = self._canvas_of(noisy)
        with self.network_context():
            observed = canvas.observe(image, self.levels, self.wavelet)
            walk.denoise(self, canvas, observed, [level] * (self.levels + 1))
        images = [field.values for field in canvas.images]
        return [*images[:-1], _cropped(images[-1], noisy)]

    def draw_posterior(
        self, noisy: Tensor, level: float, seeds: Sequence[int], schedule: Schedule | None = None
    ) -> Tensor:
        """Draw from the posterior given a noisy batch (see `joint_walk`).

        Args:
            noisy: (B, C, H, W), as for `denoise`.
            level: standard deviation of its white noise, library units; 0 is left alone.
            seeds: one per image.
            schedule: starts at the noise level.

        Returns:
            (B, C, H, W).
        """
        if len(seeds) != noisy.shape[0]:
            raise WavdiffError(f"one seed per image is needed ({noisy.shape[0]}), got {seeds}")
        if level == 0:
            return noisy
        canvas, image = self._canvas_of(noisy, seeds)
        with self.network_context():
            levels = [level] * (self.levels + 1)
            joint_walk.draw_posterior(self, canvas, image, levels, schedule or joint_walk.POSTERIOR)
        return _cropped(canvas.images[-1].values, noisy)

    def _canvas_of(self, noisy: Tensor, seeds: Sequence[int] = ()) -> tuple[WholeCanvas, WholeField]:
        """A canvas of the size of a batch, and the batch on it, padded as in `wavelets`."""
        padded = wavelets.pad_to_multiple(noisy, 2**self.levels)
        size = (padded.shape[-2], padded.shape[-1])
        image = WholeField(size)
        image.values = padded
        return WholeCanvas(size, noisy.shape[1], noisy, seeds), image

    def sample(
        self,
        shape: tuple[int, int, int],
        seeds: Sequence[int],
        *,
        low_seeds: Sequence[int] | None = None,
        lowpass_schedule: Walker | None = None,
        detail_schedule: Walker | None = None,
        stop_scale: int = 0,
        lowpass_range: tuple[float, float] | None = None,
        counted: Counted | None = None,
    ) -> list[Tensor]:
        """Draw new images.

        Args:
            shape: (C, H, W) of the images x_0.
            seeds: one per image; an image depends on its own seed only.
            low_seeds: seeds of the low-pass images; default `seeds`. Equal ones share a layout.
            lowpass_schedule: of the low-pass image, or the paper's stochastic ascent.
            detail_schedule: of the details, or ascent.
            stop_scale: the walk ends at x_{stop_scale}; 0 is the full image.
            lowpass_range: stretch every drawn low-pass image to this range of pixels in [0, 1]; None: leave it.
            counted: told the name of every scale and the network calls that each image needed there.

        Returns:
            The walk: x_J, ..., x_{stop_scale}, each (B, C, h, w) in [-1, 1] up to overshoot.

        Raises:
            WavdiffError: `stop_scale` is not a scale of this cascade, H or W is not divisible by 2^J, or the numbers of
                seeds differ.
        """
        channels, height, width = shape
        step = 2**self.levels
        for name, side in (("height", height), ("width", width)):
            if side < step or side % step:
                raise WavdiffError(f"{name} {side} is not divisible by 2**{self.levels} = {step}")
        if not 0 <= stop_scale <= self.levels:
            raise WavdiffError(
                f"scale must be between 0 (the image) and {self.levels} (the low-pass), got {stop_scale}"
            )
        if low_seeds is not None and len(low_seeds) != len(seeds):
            raise WavdiffError(f"low_seeds must be one per image ({len(seeds)}), got {len(low_seeds)}")
        canvas = WholeCanvas((height, width), channels, self._like(), seeds, low_seeds)
        with self.network_context():
            walk.sample(
                self,
                canvas,
                lowpass_schedule or Schedule(),
                detail_schedule or Schedule(steps=10),
                stop_scale=stop_scale,
                finish_lowpass=functools.partial(stretch, limits=lowpass_range) if lowpass_range else None,
                counted=counted,
            )
        return [field.values for field in canvas.images]

    def upscale(
        self,
        image: Tensor,
        factor: int,
        *,
        seeds: Sequence[int] | None = None,
        schedule: Schedule | None = None,
    ) -> Tensor:
        """Enlarge images, keeping them: the result's low-pass (Haar: block means) is the input to rounding.

        Args:
            image: (B, C, h, w) in [-1, 1], any size.
            factor: 2, 4, ... 2^J.
            seeds: one per image, for draws; None: the posterior mean given the coarser image, one call a scale.
            schedule: of the draws.

        Raises:
            WavdiffError: the factor is not a power of two that the cascade has scales for, or seeds are missing.
        """
        scales = self.scales_of(factor)
        if seeds is not None and len(seeds) != image.shape[0]:
            raise WavdiffError(f"one seed per image is needed ({image.shape[0]}), got {seeds}")
        size = (image.shape[-2] * factor, image.shape[-1] * factor)
        canvas = WholeCanvas(size, image.shape[1], image, seeds or ())
        small = canvas.image(scales)
        small.values = image
        with self.network_context():
            walk.enlarge(self, canvas, small, scales, None if seeds is None else schedule or Schedule(steps=10))
        return canvas.images[-1].values

    def scales_of(self, factor: int) -> int:
        """Number of scales that enlarge by `factor`.

        Raises:
            WavdiffError: the factor is not a power of two that the cascade has scales for.
        """
        scales = factor.bit_length() - 1
        if factor < 2 or factor != 2**scales or scales > self.levels:
            choices = ", ".join(str(2 ** (k + 1)) for k in range(self.levels)) or "none (it has no detail scales)"
            raise WavdiffError(f"factor must be one of {choices} for this cascade, got {factor}")
        return scales

    def _like(self) -> Tensor:
        return torch.zeros(())


def _cropped(image: Tensor, like: Tensor) -> Tensor:
    """The image without what was padded."""
    return image[..., : like.shape[-2], : like.shape[-1]]


def stretch(image: Tensor, limits: tuple[float, float]) -> Tensor:
    """Images (B, C, h, w) with the darkest value of each at the lower and the brightest at the upper limit.

    Args:
        image: library units.
        limits: pixels in [0, 1].
    """
    lower, upper = (2 * limit - 1 for limit in limits)
    darkest, brightest = image.amin(dim=(1, 2, 3), keepdim=True), image.amax(dim=(1, 2, 3), keepdim=True)
    return lower + (upper - lower) * (image - darkest) / (brightest - darkest).clamp(min=1e-6)


def check_range(limits: Any, name: str) -> None:
    """Check a range of pixels, or None.

    Raises:
        WavdiffError: not two numbers with 0 <= low < high <= 1.
    """
    if limits is None:
        return
    right = isinstance(limits, list | tuple) and len(limits) == 2
    right = right and all(isinstance(v, int | float) and not isinstance(v, bool) for v in limits)
    if not right or not 0 <= limits[0] < limits[1] <= 1:
        raise WavdiffError(f"{name} must be two numbers with 0 <= low < high <= 1, got {shown(limits)}")
