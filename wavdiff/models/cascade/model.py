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
import inspect
from typing import Any, Literal, cast

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from torch import Tensor, nn

from wavdiff.models import wavelets
from wavdiff.models.cascade.blind_denoisers import BlindDetailDenoiser, BlindLowpassDenoiser
from wavdiff.models.cascade.config import KINDS, MOST_LEVELS, NetworkConfig, model_from_mapping
from wavdiff.models.cascade.denoisers import DetailDenoiser, LowpassDenoiser
from wavdiff.models.cascade.networks import detail_shape
from wavdiff.models.cascade.networks.cost import count_multiply_adds
from wavdiff.models.cascade.networks.kinds import build_network
from wavdiff.models.cascade.noise import SIGMA_MAX
from wavdiff.models.cascade.solvers import Ladder
from wavdiff.models.cascade.walk import CascadeWalk
from wavdiff.models.wavelets import check_wavelet
from wavdiff.system.devices import has_fast_bfloat16
from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import shown

Denoiser = LowpassDenoiser | DetailDenoiser | BlindLowpassDenoiser | BlindDetailDenoiser


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


def check_settings(settings: Any) -> None:
    """Check what `cascade/config.json` says before any network is made: types, ranges, and how large it would be."""
    if not isinstance(settings, dict):
        raise WavdiffError("does not hold the settings of a cascade")
    known = inspect.signature(WaveletCascade.__init__).parameters
    given = {name: value for name, value in settings.items() if not name.startswith("_")}
    for name in given:
        if name not in known:
            raise WavdiffError(f"a cascade has no setting {shown(name)}")
    for name, parameter in known.items():
        if name != "self" and parameter.default is parameter.empty and name not in given:
            raise WavdiffError(f"the setting {name} is missing")
    kind = settings.get("_class_name", "WaveletCascade")
    if kind != "WaveletCascade":
        raise WavdiffError(f"_class_name must be 'WaveletCascade', got {shown(kind)}")
    networks, stds = given["detail_networks"], given["detail_stds"]
    if not isinstance(networks, list) or not isinstance(stds, list) or not len(networks) == len(stds) <= MOST_LEVELS:
        raise WavdiffError(f"detail_networks and detail_stds must be equally long lists, of at most {MOST_LEVELS}")
    for name, value in (("lowpass_std", given["lowpass_std"]), *(("detail_stds", value) for value in stds)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
            raise WavdiffError(f"{name} must be a positive number, got {shown(value)}")
    check_range(given.get("lowpass_range"), "lowpass_range")
    complete = [_complete(network) for network in (given["lowpass_network"], *networks)]
    mapping = {
        **{name: given[name] for name in ("image_size", "channels", "wavelet")},
        "conditioning_augmentation": given.get("conditioning_augmentation", True),
        "ladders": given.get("ladders") or {},
        "levels": len(networks),
        "lowpass": complete[0],
        "scale_networks": {str(scale): network for scale, network in enumerate(complete[1:])},
    }
    try:
        model_from_mapping(mapping)
        check_wavelet(given["wavelet"])
    except WavdiffError as error:
        raise WavdiffError(str(error).removeprefix("configuration: ")) from error


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


def _complete(network: Any) -> dict[str, Any]:
    """The settings of a network with all its defaults; only those that its kind takes."""
    if not isinstance(network, dict):
        raise WavdiffError(f"a network's settings must be a mapping, got {shown(network)}")
    kind = network.get("kind")
    if kind not in KINDS:
        raise WavdiffError(f"network kind must be one of {', '.join(KINDS)}, got {shown(kind)}")
    defaults = {**NetworkConfig(kind=kind).settings(), **({"depth": 2} if kind == "global" else {})}
    allowed = {*defaults, *(["receptive_field"] if kind == "global" else [])}
    unknown = next((name for name in network if name not in allowed), None)
    if unknown is not None:
        raise WavdiffError(f"a {kind} network has no setting {shown(unknown)}")
    return {**defaults, **network}
