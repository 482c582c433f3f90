"""The trained cascade: denoisers of every scale, as one diffusers model."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any, Literal, cast

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from torch import Tensor, nn

from wavdiff.models import wavelets
from wavdiff.models.cascade.blind_denoisers import BlindDenoiser
from wavdiff.models.cascade.denoisers import EDMDenoiser
from wavdiff.models.cascade.joint_walk import POSTERIOR
from wavdiff.models.cascade.networks import build_network, count_multiply_adds, network_class
from wavdiff.models.cascade.noise import SIGMA_MAX, NoiseDistribution
from wavdiff.models.cascade.solvers import Schedule
from wavdiff.models.cascade.verbs import CascadeVerbs
from wavdiff.models.folders import diffusers_folder
from wavdiff.system.devices import has_fast_bfloat16
from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import shown


def build_denoiser(
    settings: dict[str, Any], channels: int, std: float, coarse_std: float | None = None, least: float = 0.0
) -> EDMDenoiser | BlindDenoiser:
    """The denoiser of low-pass images, or with `coarse_std` of details, for a network's settings."""
    network = build_network(settings, channels, details=coarse_std is not None)
    kind = BlindDenoiser if network_class(settings["kind"]).blind else EDMDenoiser
    return kind(network, std, coarse_std, least)


class WaveletCascade(CascadeVerbs, ModelMixin, ConfigMixin):
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
        ladders: `{"lowpass": {...}, "details": {...}, "posterior": {...}}`, settings of `Schedule` that `sample`, and
            draws given a noisy picture, use by default.
        lowpass_range: pixels in [0, 1] to which `sample` stretches a drawn low-pass image by default, or None.
        noise_max: strongest noise in an image, [0, 1] units, that denoising was trained for; None: not known.
        noise_min: weakest noise; None: not known, and taken to be the default of `NoiseDistribution`.
        draws: whether it is for new images, too.
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
        noise_min: float | None = None,
        draws: bool = True,
    ) -> None:
        super().__init__()
        if channels not in (1, 3):
            raise WavdiffError(f"channels must be 1 (gray) or 3 (RGB), got {channels}")
        if len(detail_networks) != len(detail_stds):
            raise WavdiffError(f"{len(detail_networks)} detail networks but {len(detail_stds)} detail_stds")
        for name, value in (("noise_max", noise_max), ("noise_min", noise_min)):
            if value is not None and not (isinstance(value, int | float) and value > 0):
                raise WavdiffError(f"{name} must be a positive number or None, got {shown(value)}")
        wavelets.check_wavelet(wavelet)
        self.wavelet = wavelet
        self.conditioning_augmentation = conditioning_augmentation
        least = 2 * (NoiseDistribution.image_min if noise_min is None else noise_min)
        levels = len(detail_networks)
        self.lowpass = build_denoiser(lowpass_network, channels, lowpass_std, least=least / 2**levels)
        self.details = nn.ModuleList(
            build_denoiser(settings, channels, std, lowpass_std, least / 2 ** (scale + 1))
            for scale, (settings, std) in enumerate(zip(detail_networks, detail_stds, strict=True))
        )
        self.autocast = True

    @classmethod
    def from_pretrained(cls, model: str | Path, **settings: Any) -> WaveletCascade:
        """As diffusers has it, also for the name of a shipped model, a model folder or that of a run."""
        place = str(model) if "subfolder" in settings else diffusers_folder(model, "cascade")
        cascade: WaveletCascade = super().from_pretrained(place, **settings)
        return cascade

    @property
    def device(self) -> torch.device:
        """Where the cascade is; diffusers' own search looks at all modules, and imports a compiler for it."""
        return next(self.parameters()).device

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
    def draws(self) -> bool:
        """Whether it is for new images, too."""
        return bool(self.config["draws"])

    @property
    def noise_max(self) -> float | None:
        """Strongest noise in an image, [0, 1] units, that denoising was trained for; None where it is not known."""
        most = self.config["noise_max"]
        return None if most is None else float(most)

    def schedule(self, name: Literal["lowpass", "details", "posterior"], **changes: Any) -> Schedule:
        """The default schedule of the low-pass image, the details, or draws given a noisy picture, with `changes`.

        "heun" drops its correctors.
        """
        if changes.get("solver") == "heun":
            changes = {"correctors": 0, **changes}
        own = (self.config["ladders"] or {}).get(name, {})
        if name == "posterior":
            return dataclasses.replace(POSTERIOR, **{**own, **changes})
        denoisers = [self.lowpass] if name == "lowpass" else list(self.details)
        top = min((float(cast(Any, denoiser).top) for denoiser in denoisers), default=SIGMA_MAX)
        return Schedule(**{"sigma_max": top, **own, **changes})

    def denoiser(self, name: str) -> EDMDenoiser | BlindDenoiser:
        """The denoiser of scale "low", "0", "1", ..."""
        if name not in self.scale_names:
            raise WavdiffError(f"scale must be one of {', '.join(self.scale_names)}, got {name!r}")
        denoiser: EDMDenoiser | BlindDenoiser = self.lowpass if name == "low" else self.details[int(name)]
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
