"""A cascade's configuration: its networks, its noise levels, and what it adds to the settings of training."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar

from wavdiff.data.config import DataConfig
from wavdiff.models.cascade.blind_denoisers import BLIND_TOP
from wavdiff.models.cascade.networks import NETWORKS, count_parameters, network_class
from wavdiff.models.cascade.solvers import Schedule
from wavdiff.models.run_config import RunConfig, TrainingConfig
from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import shown
from wavdiff.system.settings import Checked, from_fields, require, setting, within

PUBLISHED_NETWORKS: dict[str, dict[str, Any]] = {
    "lowpass": {"kind": "bias-free", "width": 64, "depth": 20, "receptive_field": 41},
    "details": {"kind": "bias-free", "width": 64, "depth": 21, "receptive_field": 13},
}
"""The blind networks of Kadkhodaie, Guth, Mallat, Simoncelli (ICLR 2023)."""
MOST_PARAMETERS = 200_000_000
LARGEST_SIDE = 4096
MOST_DEPTH = 128
MOST_LEVELS = 10


@dataclass(frozen=True)
class NetworkConfig:
    """One network: `kind` "local" uses depth = number of convolutions, `receptive_field`, `activation` and
    `preactivated`; "global" uses depth = residual blocks per resolution, `stages` and `growth`; "bias-free" is
    blind and uses depth = number of convolutions and `receptive_field` (see `networks`)."""

    kind: str = "local"
    width: int = 64
    depth: int = 10
    receptive_field: int = 13
    stages: int = 2
    growth: float = 1.5
    dropout: float = 0.0
    activation: str = "silu"
    preactivated: bool = True

    def __post_init__(self) -> None:
        require(self.kind in NETWORKS, f"network kind must be one of {', '.join(NETWORKS)}", self.kind)
        require(1 <= self.width <= 4096, "network width must be in [1, 4096]", self.width)
        require(1 <= self.depth <= MOST_DEPTH, f"network depth must be in [1, {MOST_DEPTH}]", self.depth)
        require(1 <= self.stages <= 10, "network stages must be in [1, 10]", self.stages)
        blocks = self.depth * (self.stages if "stages" in self.settings() else 1)
        require(blocks <= MOST_DEPTH, f"network depth * stages must be at most {MOST_DEPTH}", blocks)
        require(0 < self.growth <= 16, "network growth must be in (0, 16]", self.growth)
        require(0 <= self.dropout < 1, "network dropout must be in [0, 1)", self.dropout)
        require(self.activation in ("silu", "relu"), "network activation must be silu or relu", self.activation)

    def settings(self) -> dict[str, Any]:
        """The arguments that this kind of network takes, with its kind."""
        names = ("kind", *network_class(self.kind).settings)
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class ModelConfig:
    """The cascade: image size (H, W), channels, wavelet, number of levels, and its networks.

    `details` is used at every scale, changed by `scale_networks`: {"1": {"width": 96}}. `ladders` are the default
    noise ladders of `sample`, and of draws given a noisy picture. `draws`: whether it is for new images, too; a cascade
    whose networks all see small parts, of pictures of any size, is not.
    """

    image_size: tuple[int, int] = (32, 32)
    channels: int = 1
    wavelet: str = "haar"
    levels: int = 1
    lowpass: NetworkConfig = NetworkConfig(kind="global", width=32, depth=1)
    details: NetworkConfig = NetworkConfig(width=32, depth=6, receptive_field=9)
    scale_networks: dict[str, Any] = field(default_factory=dict)
    conditioning_augmentation: bool = True
    ladders: dict[str, Any] = field(default_factory=dict)
    draws: bool = True

    def __post_init__(self) -> None:
        require(self.channels in (1, 3), "model.channels must be 1 (gray) or 3 (RGB)", self.channels)
        require(0 <= self.levels <= MOST_LEVELS, f"model.levels must be in [0, {MOST_LEVELS}]", self.levels)
        for side in self.image_size:
            require(side <= LARGEST_SIDE, f"model.image_size must be at most {LARGEST_SIDE} a side", self.image_size)
            require(
                side >= 2**self.levels and side % 2**self.levels == 0,
                f"model.image_size must be multiples of 2**levels = {2**self.levels}",
                self.image_size,
            )
        scales = [str(scale) for scale in range(self.levels)]
        require(
            set(self.scale_networks) <= set(scales),
            f"model.scale_networks has scales among {', '.join(scales) or 'none'}",
            self.scale_networks,
        )
        for scale in scales:
            self.detail_network(scale)
        known = {"lowpass", "details", "posterior"}
        require(set(self.ladders) <= known, "model.ladders has lowpass, details and posterior", self.ladders)
        for name, settings in self.ladders.items():
            _check_schedule(f"model.ladders.{name}", settings)
        count = self.count_parameters()
        require(count <= MOST_PARAMETERS, f"model has at most {MOST_PARAMETERS} parameters in all networks", count)

    def count_parameters(self) -> int:
        """Parameters of all networks, which are not made for it."""
        networks = [
            ("lowpass", self.lowpass),
            *((f"scale {k}", self.detail_network(str(k))) for k in range(self.levels)),
        ]
        total = 0
        for name, network in networks:
            try:
                total += count_parameters(network.settings(), self.channels, details=name != "lowpass")
            except WavdiffError as error:
                raise WavdiffError(f"configuration: model.{name}: {error}") from error
        return total

    def detail_network(self, scale: str) -> NetworkConfig:
        """The network of detail scale "0", "1", ..."""
        changes = self.scale_networks.get(scale, {})
        if not isinstance(changes, dict):
            raise WavdiffError(f"configuration: model.scale_networks.{scale} must be a mapping, got {shown(changes)}")
        if not changes:
            return self.details
        network: NetworkConfig = from_fields(
            NetworkConfig, {**dataclasses.asdict(self.details), **changes}, f"model.scale_networks.{scale}"
        )
        return network


def _check_schedule(name: str, settings: Any) -> None:
    try:
        Schedule(**settings)
    except (TypeError, WavdiffError) as error:
        raise WavdiffError(f"configuration: {name} is no schedule ({error}), got {shown(settings)}") from error


@dataclass(frozen=True)
class NoiseConfig(Checked):
    """Training noise levels (see `noise.NoiseDistribution`); `denoising_fraction` of a batch teaches denoising."""

    where: ClassVar[str] = "noise."

    image_min: float = 0.008
    image_max: float = 0.7
    log_mean: float = setting(-0.4, within(-50, 50))
    log_std: float = setting(1.5, within(0, 50))
    top_fraction: float = setting(0.25, within(0, 1))
    denoising_fraction: float = setting(0.5, within(0, 1))

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            0 < self.image_min < self.image_max <= 1000,
            "noise needs 0 < noise.image_min < noise.image_max <= 1000",
            (self.image_min, self.image_max),
        )


@dataclass(frozen=True)
class CascadeTraining(TrainingConfig):
    """Adds to the engine's settings what only a cascade has.

    `balance`: 0: denoising examples count by their squared errors, so textured pictures most; 1: by their logarithms,
    as a mean PSNR counts (see `objective.balanced`). `low_repeats`: independent noise draws of every image for the
    (cheap) low-pass network. `detail_crop`: side of the random crops of x_0 on which detail networks are trained
    (None: whole images).
    """

    balance: float = setting(0.0, within(0, 1))
    low_repeats: int = setting(1, within(1, 1000))
    detail_crop: int | None = None


@dataclass(frozen=True)
class CascadeConfig(RunConfig):
    """Everything `wavdiff train` needs to train a cascade, besides the output folder."""

    family: ClassVar[str] = "cascade"
    free: ClassVar[tuple[str, ...]] = ("ladders", "draws")

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    noise: NoiseConfig = NoiseConfig()
    training: CascadeTraining = CascadeTraining()

    def __post_init__(self) -> None:
        super().__post_init__()
        crop, step = self.training.detail_crop, 2**self.model.levels
        require(
            crop is None or (crop >= step and crop % step == 0 and crop <= min(self.image_size)),
            f"training.detail_crop must be a multiple of 2**levels = {step}, at most the image's smaller side",
            crop,
        )

    @property
    def parts(self) -> tuple[str, ...]:
        """The scales: "low", then the details from coarse to fine."""
        return ("low", *(str(scale) for scale in range(self.model.levels - 1, -1, -1)))

    @property
    def strong_fraction(self) -> float:
        """What teaches denoising; synthesis must not learn to draw shifted and zoomed images."""
        return self.noise.denoising_fraction


def with_published_networks(mapping: dict[str, Any]) -> dict[str, Any]:
    """A configuration's mapping with `PUBLISHED_NETWORKS`, except where its networks are bias-free already.

    What `scale_networks` changes of a network of another kind goes with that network, and ladders begin where blind
    networks can.

    Raises:
        WavdiffError: `model` or one of its networks is no mapping.
    """
    mapping = copy.deepcopy(mapping)
    model = _section(mapping, "model", "model")
    kept = {}
    for name, published in PUBLISHED_NETWORKS.items():
        kept[name] = _section(model, name, f"model.{name}").get("kind") == published["kind"]
        if not kept[name]:
            model[name] = dict(published)
    changes = _section(model, "scale_networks", "model.scale_networks")
    for scale in list(changes):
        kind = _section(changes, scale, f"model.scale_networks.{scale}").get("kind")
        if kind != "bias-free" and not (kind is None and kept["details"]):
            del changes[scale]
    for schedule in _section(model, "ladders", "model.ladders").values():
        top = schedule.get("sigma_max") if isinstance(schedule, dict) else None
        if isinstance(top, int | float) and top > BLIND_TOP:
            schedule["sigma_max"] = BLIND_TOP
    return mapping


def _section(mapping: dict[str, Any], name: Any, where: str) -> dict[str, Any]:
    """The mapping `name` inside `mapping`, which is made where it is missing."""
    section = mapping.setdefault(name, {})
    if not isinstance(section, dict):
        raise WavdiffError(f"configuration: {where} must be a mapping, got {shown(section)}")
    return section


def model_from_mapping(mapping: dict[str, Any]) -> ModelConfig:
    """The section `model` alone; raises as `from_mapping`."""
    result: ModelConfig = from_fields(ModelConfig, mapping, "model")
    return result
