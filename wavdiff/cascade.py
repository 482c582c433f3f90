"""The cascade and its walk from coarse to fine: sample, upscale, denoise.

All three verbs are one walk (see `CascadeWalk`); they differ in where a scale starts:

    verb               low-pass image                 details of a scale
    sample             reverse diffusion from noise   reverse diffusion from noise, given x_j
    upscale            the input, kept exactly        the same; "mean" is one call at the top noise level
    denoise            one call                       one call, given the denoised x_j
    denoise "sample"   reverse SDE from y_J           reverse SDE from the noisy details

Networks are named by the image they yield: `details[k]` draws d_{k+1} given x_{k+1} and so yields x_k; 0 is the finest.

Source: Kadkhodaie, Guth, Mallat, Simoncelli (ICLR 2023, arXiv 2303.02984), with conditioning augmentation (Ho et al.,
"Cascaded diffusion models", 2022) as described in `denoiser`.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import hashlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from torch import Tensor, nn

from wavdiff import wavelets
from wavdiff.ascent import Ascent, ascend
from wavdiff.blind import BlindDetailDenoiser, BlindLowpassDenoiser
from wavdiff.denoiser import DetailDenoiser, LowpassDenoiser
from wavdiff.errors import WavdiffError
from wavdiff.networks import BiasFreeNetwork, GlobalNetwork, LocalNetwork, detail_shape
from wavdiff.noise import SIGMA_MAX
from wavdiff.places import Rectangle, position_noise
from wavdiff.solvers import Ladder, RawOutput, draw_noise, solve
from wavdiff.texts import shown

Mode = Literal["mean", "sample"]
Walker = Ladder | Ascent
Counted = Callable[[str, Sequence[int]], None]
Denoiser = LowpassDenoiser | DetailDenoiser | BlindLowpassDenoiser | BlindDetailDenoiser


def derive_generator(seed: int, *purpose: object) -> torch.Generator:
    """A generator for one image and purpose: independent streams for different seeds and purposes."""
    digest = hashlib.sha256(repr((int(seed), *purpose)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether convolutions on `device` run faster in bfloat16 than in float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


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


def start_level(ladder: Walker, denoiser: Any) -> float:
    """The standardised noise level at which a walk begins."""
    return 2 * ladder.sigma_0 / float(denoiser.std) if isinstance(ladder, Ascent) else ladder.sigma_max


def start_mean(ladder: Walker, denoiser: Any) -> float:
    """Mean of the low-pass image at which a walk begins, standardised units."""
    return (2 * ladder.mean - 1) / float(denoiser.std) if isinstance(ladder, Ascent) else 0.0


def stretch(image: Tensor, limits: tuple[float, float]) -> Tensor:
    """Images (B, C, h, w) with the darkest value of each at the lower and the brightest at the upper limit.

    Args:
        image: library units.
        limits: pixels in [0, 1].
    """
    lower, upper = (2 * limit - 1 for limit in limits)
    darkest, brightest = image.amin(dim=(1, 2, 3), keepdim=True), image.amax(dim=(1, 2, 3), keepdim=True)
    return lower + (upper - lower) * (image - darkest) / (brightest - darkest).clamp(min=1e-6)


def top_observations(denoiser: Any, scale: int, count: int, where: Rectangle) -> list[Tensor]:
    """Details at the top noise level, from which the mean given the coarse image alone is made; library units.

    There the observation says (almost) nothing, and a denoiser that knows its noise level is given the most likely one,
    zero. A blind one must see the noise: it is given a few draws that depend on the place only, and the mean is theirs.

    Args:
        denoiser: of the details.
        scale: its scale.
        count: channels of the details.
        where: the part of the details that is wanted.

    Returns:
        (1, count, h, w) each.
    """
    if not getattr(denoiser, "blind", False):
        return [torch.zeros(1, count, where.height, where.width)]
    top = denoiser.top * denoiser.std
    return [top * position_noise(("mean", scale, k), count, where)[None] for k in range(denoiser.mean_draws)]


def mean_at_top(
    denoiser: Any, scale: int, coarse: Tensor, where: Rectangle, denoise: Callable[[Tensor], Tensor]
) -> Tensor:
    """The mean of the details (B, 3C, h, w) given the coarse image (B, C, h, w) alone.

    Args:
        denoiser, scale, where: as for `top_observations`.
        coarse: the coarse image there.
        denoise: details (B, 3C, h, w) at the top noise level, denoised given that coarse image.
    """
    batch, channels = coarse.shape[:2]
    observations = top_observations(denoiser, scale, 3 * channels, where)
    means = [denoise(observed.to(coarse).expand(batch, -1, -1, -1)) for observed in observations]
    return means[0] if len(means) == 1 else torch.stack(means).mean(dim=0)


def from_level(ladder: Ladder, level: float) -> Ladder:
    """The ladder, starting at `level` (standardised units) instead of its own top.

    It has no correctors: they would forget the observation that the walk begins at.
    """
    return dataclasses.replace(ladder, sigma_max=level, sigma_min=min(ladder.sigma_min, level / 4), correctors=0)


def build_network(settings: dict[str, Any], **shape: int) -> nn.Module:
    """A network from `{"kind": "local" | "global" | "bias-free", ...}` and its input and output channels."""
    settings = dict(settings)
    kind = settings.pop("kind")
    if kind == "local":
        return LocalNetwork(**settings, **shape)
    if kind == "bias-free":
        return BiasFreeNetwork(**settings, **{name: size for name, size in shape.items() if name != "levels"})
    if kind == "global":
        settings.pop("receptive_field", None)
        return GlobalNetwork(**settings, **shape)
    raise WavdiffError(f"network kind must be 'local', 'global' or 'bias-free', got {kind!r}")


def build_lowpass(settings: dict[str, Any], channels: int, std: float) -> LowpassDenoiser | BlindLowpassDenoiser:
    """The denoiser of low-pass images for a network's settings."""
    network = build_network(settings, in_channels=channels, out_channels=channels, levels=1)
    return BlindLowpassDenoiser(network, std) if settings["kind"] == "bias-free" else LowpassDenoiser(network, std)


def build_details(
    settings: dict[str, Any], channels: int, std: float, coarse_std: float
) -> DetailDenoiser | BlindDetailDenoiser:
    """The denoiser of a scale's details for a network's settings."""
    inputs, outputs = detail_shape(settings["kind"], channels)
    network = build_network(settings, in_channels=inputs, out_channels=outputs, levels=2)
    if settings["kind"] == "bias-free":
        return BlindDetailDenoiser(network, std)
    return DetailDenoiser(network, std, coarse_std)


class WaveletCascade(CascadeWalk, ModelMixin, ConfigMixin):
    """Trained denoisers of every scale as one diffusers model (`save_pretrained`, `from_pretrained`, safetensors).

    Args:
        image_size: (H, W) of the images that `sample` draws.
        channels: 1 (gray) or 3 (RGB).
        wavelet: orthogonal PyWavelets filter.
        lowpass_network: settings of the low-pass network: `kind` and the arguments of that class.
        detail_networks: settings of the detail networks, finest first; one per scale.
        lowpass_std: rms of the low-pass images of the training set, library units.
        detail_stds: rms of the details of each scale, finest first.
        conditioning_augmentation: whether the detail networks were trained with noisy coarse images.
        ladders: `{"lowpass": {...}, "details": {...}}`, settings of `Ladder` that `sample` uses by default.
        lowpass_range: pixels in [0, 1] to which `sample` stretches a drawn low-pass image by default, or None.
        noise_max: strongest noise in an image, [0, 1] units, that denoising was trained for; None: not known.
    """

    @register_to_config
    def __init__(
        self,
        image_size: tuple[int, int],
        channels: int,
        wavelet: str,
        lowpass_network: dict[str, Any],
        detail_networks: list[dict[str, Any]],
        lowpass_std: float,
        detail_stds: list[float],
        conditioning_augmentation: bool = True,
        ladders: dict[str, dict[str, Any]] | None = None,
        lowpass_range: list[float] | None = None,
        noise_max: float | None = None,
    ) -> None:
        super().__init__()
        if channels not in (1, 3):
            raise WavdiffError(f"channels must be 1 (gray) or 3 (RGB), got {channels}")
        if len(detail_networks) != len(detail_stds):
            raise WavdiffError(f"{len(detail_networks)} detail networks but {len(detail_stds)} detail_stds")
        if noise_max is not None and not (isinstance(noise_max, int | float) and noise_max > 0):
            raise WavdiffError(f"noise_max must be a positive number or None, got {shown(noise_max)}")
        wavelets.check_wavelet(wavelet)
        self.wavelet = wavelet
        self.conditioning_augmentation = conditioning_augmentation
        self.lowpass = build_lowpass(lowpass_network, channels, lowpass_std)
        self.details = nn.ModuleList(
            build_details(settings, channels, std, lowpass_std)
            for settings, std in zip(detail_networks, detail_stds, strict=True)
        )
        self.autocast = True

    @property
    def channels(self) -> int:
        """Channels of the images: 1 or 3."""
        return int(self.config["channels"])

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) of the images that `sample` draws by default."""
        height, width = self.config["image_size"]
        return int(height), int(width)

    @property
    def lowpass_range(self) -> tuple[float, float] | None:
        """Pixels in [0, 1] to which a drawn low-pass image is stretched by default."""
        limits = self.config["lowpass_range"]
        return None if limits is None else (float(limits[0]), float(limits[1]))

    @property
    def noise_max(self) -> float | None:
        """Strongest noise in an image, [0, 1] units, that denoising was trained for; None where it is not known."""
        most = self.config["noise_max"]
        return None if most is None else float(most)

    def ladder(self, name: Literal["lowpass", "details"], **changes: Any) -> Ladder:
        """The default ladder of the low-pass image or the details, with `changes`; "heun" drops its correctors."""
        if changes.get("solver") == "heun":
            changes = {"correctors": 0, **changes}
        denoisers = [self.lowpass] if name == "lowpass" else list(self.details)
        top = min((float(cast(Any, denoiser).top) for denoiser in denoisers), default=SIGMA_MAX)
        return Ladder(**{"sigma_max": top, **(self.config["ladders"] or {}).get(name, {}), **changes})

    def denoiser(self, name: str) -> Denoiser:
        """The denoiser of scale "low", "0", "1", ..."""
        if name == "low":
            return self.lowpass
        if not name.isdigit() or int(name) >= self.levels:
            known = ", ".join(["low", *(str(k) for k in range(self.levels - 1, -1, -1))])
            raise WavdiffError(f"scale must be one of {known}, got {name!r}")
        denoiser: DetailDenoiser | BlindDetailDenoiser = self.details[int(name)]
        return denoiser

    @property
    def scale_names(self) -> list[str]:
        """All scales from coarse to fine: ["low", "J-1", ..., "0"]."""
        return ["low", *(str(k) for k in range(self.levels - 1, -1, -1))]

    def network_context(self) -> contextlib.AbstractContextManager[Any]:
        """Context in which networks are called: no gradients, and bfloat16 where the device has it fast."""
        stack = contextlib.ExitStack()
        stack.enter_context(torch.inference_mode())
        if self.autocast and has_fast_bfloat16(self.device):
            stack.enter_context(torch.autocast(self.device.type, torch.bfloat16))
        return stack

    def _like(self) -> Tensor:
        return torch.zeros((), device=self.device)

    def multiply_adds_per_pixel(self) -> float:
        """Multiply-adds of one call of every network, per pixel of x_0 (convolutions and attention projections)."""
        total = 0.0
        height, width = self.image_size
        for name in self.scale_names:
            scale = self.levels if name == "low" else int(name) + 1
            size = (height // 2**scale, width // 2**scale)
            total += count_multiply_adds(self.denoiser(name).network, size)
        return total / (height * width)


def count_multiply_adds(network: nn.Module, size: tuple[int, int]) -> float:
    """Multiply-adds of the convolutions of one call on one input of `size` (h, w)."""
    counted = 0.0
    hooks = []
    network = copy.deepcopy(network).to("meta")  # shapes alone: no size of images costs time or memory
    if isinstance(network, BiasFreeNetwork):
        network.train()  # else it calls no layer, but convolves with their folded weights

    def count(module: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal counted
        assert isinstance(module, nn.Conv2d)
        counted += module.weight.numel() * output.shape[-2] * output.shape[-1]

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(count))
    config: Any = network.config
    parameter = next(network.parameters())
    with torch.no_grad():
        network(parameter.new_zeros(1, config["in_channels"], *size), parameter.new_ones(1, config.get("levels", 1)))
    for hook in hooks:
        hook.remove()
    return counted
