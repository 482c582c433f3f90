"""The walk from coarse to fine: sample, upscale, denoise, for any denoisers."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from wavdiff.images.rectangle import Rectangle
from wavdiff.models import wavelets
from wavdiff.models.cascade.ascent import Ascent, Walker, ascend, start_level, start_mean
from wavdiff.models.cascade.blind_denoisers import mean_at_top
from wavdiff.models.cascade.random_numbers import derive_generator, draw_noise
from wavdiff.models.cascade.solvers import Counted, Ladder, RawOutput, from_level, solve
from wavdiff.system.errors import WavdiffError

Mode = Literal["mean", "sample"]


class CascadeWalk:
    """The verbs, for any denoisers: trained networks or exact ones.

    Attributes:
        lowpass: denoiser with `std`, `output(y, u)` and `__call__(noisy, level)`, as `LowpassDenoiser`.
        details: one denoiser per scale, finest first, as `DetailDenoiser`.
        wavelet: the wavelet's PyWavelets name.
        conditioning_augmentation: whether detail denoisers know noisy coarse images; if not, `denoise` treats the
            denoised coarse image as exact, as published.
    """

    lowpass: Any
    details: Any
    wavelet: str
    conditioning_augmentation: bool = True

    @property
    def levels(self) -> int:
        """Number of detail scales J."""
        return len(self.details)

    def network_context(self) -> contextlib.AbstractContextManager[Any]:
        """Context in which networks are called (autocast, no gradients)."""
        return torch.no_grad()

    def _draw_lowpass(
        self,
        start: Tensor,
        generators: Sequence[torch.Generator],
        ladder: Walker,
        counted: Counted | None = None,
        seeds: Sequence[int] = (),
    ) -> Tensor:
        return self._walked("low", self.lowpass, self.lowpass.output, start, generators, ladder, counted, seeds)

    def _draw_details(
        self,
        scale: int,
        start: Tensor,
        coarse: Tensor,
        generators: Sequence[torch.Generator],
        ladder: Walker,
        counted: Counted | None = None,
        seeds: Sequence[int] = (),
    ) -> Tensor:
        denoiser = self.details[scale]
        exact = torch.zeros(coarse.shape[0], dtype=coarse.dtype, device=coarse.device)

        def output(state: Tensor, levels: Tensor) -> Tensor:
            return denoiser.output(state, levels, coarse, coarse, exact)[0]

        return self._walked(str(scale), denoiser, output, start, generators, ladder, counted, seeds)

    def _walked(
        self,
        name: str,
        denoiser: Any,
        output: RawOutput,
        start: Tensor,
        generators: Sequence[torch.Generator],
        ladder: Walker,
        counted: Counted | None,
        seeds: Sequence[int],
    ) -> Tensor:
        """A scale's sample from its start, library units; tells `counted` the network calls of every image."""
        if isinstance(ladder, Ascent):
            # In float32: rounded residuals of thousands of steps add up to stripes.
            with torch.autocast(start.device.type, enabled=False):
                ascended = ascend(output, start, ladder, generators, denoiser.std / 2)
            # Once each: a group may be filled up with copies (see `api.sample_walk`).
            lost = dict.fromkeys(seed for seed, bad in zip(seeds, ascended.diverged, strict=False) if bad)
            if lost:
                listed = ", ".join(map(str, lost))
                warnings.warn(f"scale {name}: the ascent did not converge for seeds {listed}", stacklevel=2)
            state, calls = ascended.state, ascended.calls
        else:
            state, calls = solve(output, start, ladder, generators), [ladder.calls] * len(start)
        if counted:
            counted(name, calls)
        result: Tensor = denoiser.std * state
        return result

    def sample(
        self,
        shape: tuple[int, int, int],
        seeds: Sequence[int],
        *,
        low_seeds: Sequence[int] | None = None,
        lowpass_ladder: Walker | None = None,
        detail_ladder: Walker | None = None,
        stop_scale: int = 0,
        lowpass_range: tuple[float, float] | None = None,
        counted: Counted | None = None,
    ) -> list[Tensor]:
        """Draw new images.

        Args:
            shape: (C, H, W) of the images x_0.
            seeds: one per image; an image depends on its own seed only.
            low_seeds: seeds of the low-pass images; default `seeds`. Equal ones share a layout.
            lowpass_ladder: solver of the low-pass image, or the paper's stochastic ascent.
            detail_ladder: solver of the details, or ascent.
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
        self._check_scale(stop_scale)
        if low_seeds is not None and len(low_seeds) != len(seeds):
            raise WavdiffError(f"low_seeds must be one per image ({len(seeds)}), got {len(low_seeds)}")
        lowpass_ladder = lowpass_ladder or Ladder()
        detail_ladder = detail_ladder or Ladder(steps=10)
        like = self._like()
        with self.network_context():
            low_seeds = seeds if low_seeds is None else low_seeds
            generators = [derive_generator(seed, "low") for seed in low_seeds]
            start = draw_noise((channels, height // step, width // step), generators, like)
            start = start_level(lowpass_ladder, self.lowpass) * start + start_mean(lowpass_ladder, self.lowpass)
            image = self._draw_lowpass(start, generators, lowpass_ladder, counted, low_seeds)
            walk = [image if lowpass_range is None else stretch(image, lowpass_range)]
            for scale in range(self.levels - 1, stop_scale - 1, -1):
                generators = [derive_generator(seed, "details", scale) for seed in seeds]
                walk.append(self._refine(walk[-1], scale, generators, detail_ladder, counted, seeds))
        return walk

    def _refine(
        self,
        coarse: Tensor,
        scale: int,
        generators: Sequence[torch.Generator],
        ladder: Walker,
        counted: Counted | None = None,
        seeds: Sequence[int] = (),
    ) -> Tensor:
        channels, height, width = coarse.shape[1:]
        start = draw_noise((3 * channels, height, width), generators, coarse)
        start = start_level(ladder, self.details[scale]) * start
        details = self._draw_details(scale, start, coarse, generators, ladder, counted, seeds)
        return wavelets.join(coarse, details, self.wavelet)

    def upscale(
        self,
        image: Tensor,
        factor: int,
        *,
        mode: Mode = "mean",
        seeds: Sequence[int] | None = None,
        ladder: Ladder | None = None,
    ) -> Tensor:
        """Enlarge images, keeping them: the result's low-pass (Haar: block means) is the input to rounding.

        Args:
            image: (B, C, h, w) in [-1, 1], any size.
            factor: 2, 4, ... 2^J.
            mode: "mean" (one call a scale, the posterior mean given the coarser image) or "sample".
            seeds: one per image, for "sample".
            ladder: solver of the details, for "sample".

        Returns:
            (B, C, factor h, factor w).

        Raises:
            WavdiffError: the factor is not a power of two that the cascade has scales for; or seeds are missing.
        """
        scales = self.scales_of(factor)
        if mode == "sample" and (seeds is None or len(seeds) != image.shape[0]):
            raise WavdiffError(f"mode 'sample' needs one seed per image ({image.shape[0]}), got {seeds}")
        ladder = ladder or Ladder(steps=10)
        with self.network_context():
            for scale in range(scales - 1, -1, -1):
                if mode == "sample":
                    generators = [derive_generator(seed, "details", scale) for seed in seeds or ()]
                    image = self._refine(image, scale, generators, ladder)
                else:
                    image = wavelets.join(image, self._mean_details(image, scale), self.wavelet)
        return image

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

    def _mean_details(self, coarse: Tensor, scale: int) -> Tensor:
        batch, _, height, width = coarse.shape
        where = Rectangle(0, height, 0, width)
        denoiser = self.details[scale]
        level = torch.full((batch,), denoiser.top * denoiser.std, dtype=coarse.dtype, device=coarse.device)
        return mean_at_top(denoiser, scale, coarse, where, lambda observed: denoiser(observed, level, coarse)[0])

    def denoise(
        self,
        noisy: Tensor,
        noise_level: Tensor,
        *,
        mode: Mode = "mean",
        seeds: Sequence[int] | None = None,
        lowpass_ladder: Ladder | None = None,
        detail_ladder: Ladder | None = None,
    ) -> Tensor:
        """Remove white Gaussian noise of known standard deviation.

        Args:
            noisy: (B, C, H, W) in library units (images in [-1, 1]), any size.
            noise_level: (B,) standard deviations in library units (twice the [0, 1] value); "sample" needs them equal.
            mode: "mean" (one call a scale, an estimate of the posterior mean) or "sample" (a posterior draw).
            seeds: one per image, for "sample".
            lowpass_ladder, detail_ladder: steps and solver for "sample"; they start at the noise level.

        Returns:
            (B, C, H, W).
        """
        if not bool((noise_level >= 0).all()):
            raise WavdiffError(f"noise levels must not be negative, got {noise_level.tolist()}")
        if float(noise_level.max()) == 0:
            return noisy
        if mode == "sample":
            return self._posterior_sample(noisy, noise_level, seeds, lowpass_ladder, detail_ladder)
        return self.denoise_walk(noisy, noise_level)[-1]

    def denoise_walk(self, noisy: Tensor, noise_level: Tensor) -> list[Tensor]:
        """The denoised x_J, ..., x_0 on the way of `denoise` in mode "mean"; only x_0 is cropped to the input."""
        pyramid = wavelets.decompose(noisy, self.levels, self.wavelet)
        observed = self._observed_coarse(pyramid)
        with self.network_context():
            image = self.lowpass(pyramid.coarse, noise_level / 2**self.levels)
            walk = [image]
            for scale in range(self.levels - 1, -1, -1):
                level = noise_level / 2 ** (scale + 1)
                if self.conditioning_augmentation:
                    details, image = self.details[scale](pyramid.details[scale], level, image, observed[scale], level)
                else:
                    details, image = self.details[scale](pyramid.details[scale], level, image)
                image = wavelets.join(image, details, self.wavelet)
                walk.append(image)
        height, width = pyramid.size
        walk[-1] = walk[-1][..., :height, :width]
        return walk

    def _observed_coarse(self, pyramid: wavelets.Pyramid) -> list[Tensor]:
        """The noisy coarse image beside each scale's details, finest first."""
        observed = [pyramid.coarse]
        for details in reversed(pyramid.details[1:]):
            observed.append(wavelets.join(observed[-1], details, self.wavelet))
        return observed[::-1]

    def _posterior_sample(
        self,
        noisy: Tensor,
        noise_level: Tensor,
        seeds: Sequence[int] | None,
        lowpass_ladder: Ladder | None,
        detail_ladder: Ladder | None,
    ) -> Tensor:
        level = float(noise_level[0])
        if not bool((noise_level == level).all()):
            raise WavdiffError(f"mode 'sample' needs one noise level for the batch, got {noise_level.tolist()}")
        if seeds is None or len(seeds) != noisy.shape[0]:
            raise WavdiffError(f"mode 'sample' needs one seed per image ({noisy.shape[0]}), got {seeds}")
        pyramid = wavelets.decompose(noisy, self.levels, self.wavelet)
        with self.network_context():
            generators = [derive_generator(seed, "low") for seed in seeds]
            ladder = from_level(lowpass_ladder or Ladder(solver="sde-dpm"), level / 2**self.levels / self.lowpass.std)
            image = self._draw_lowpass(pyramid.coarse / self.lowpass.std, generators, ladder)
            for scale in range(self.levels - 1, -1, -1):
                std = self.details[scale].std
                generators = [derive_generator(seed, "details", scale) for seed in seeds]
                ladder = from_level(detail_ladder or Ladder(steps=10, solver="sde-dpm"), level / 2 ** (scale + 1) / std)
                start = pyramid.details[scale] / std
                details = self._draw_details(scale, start, image, generators, ladder)
                image = wavelets.join(image, details, self.wavelet)
        height, width = pyramid.size
        return image[..., :height, :width]

    def _check_scale(self, scale: int) -> None:
        if not 0 <= scale <= self.levels:
            raise WavdiffError(f"scale must be between 0 (the image) and {self.levels} (the low-pass), got {scale}")

    def _like(self) -> Tensor:
        return torch.zeros(())


def stretch(image: Tensor, limits: tuple[float, float]) -> Tensor:
    """Images (B, C, h, w) with the darkest value of each at the lower and the brightest at the upper limit.

    Args:
        image: library units.
        limits: pixels in [0, 1].
    """
    lower, upper = (2 * limit - 1 for limit in limits)
    darkest, brightest = image.amin(dim=(1, 2, 3), keepdim=True), image.amax(dim=(1, 2, 3), keepdim=True)
    return lower + (upper - lower) * (image - darkest) / (brightest - darkest).clamp(min=1e-6)
