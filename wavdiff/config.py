"""A training run's configuration: frozen dataclasses, validated when made, to and from YAML.

A file names only what differs from the defaults; `--set section.name=value` overrides single values; unknown names are
errors. Lengths are in pixels, noise levels in [0, 1] image units unless a name says otherwise.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from wavdiff.errors import WavdiffError
from wavdiff.texts import parse_yaml, read_text, shown

PUBLISHED_NETWORKS: dict[str, dict[str, Any]] = {
    "lowpass": {"kind": "bias-free", "width": 64, "depth": 20, "receptive_field": 41},
    "details": {"kind": "bias-free", "width": 64, "depth": 21, "receptive_field": 13},
}
"""The blind networks of Kadkhodaie, Guth, Mallat, Simoncelli (ICLR 2023)."""
KINDS = ("local", "global", "bias-free")
MOST_PARAMETERS = 200_000_000
LARGEST_SIDE = 4096
MOST_DEPTH = 128
MOST_LEVELS = 10
MOST_STEPS = 10**9
MOST_BATCH_PIXELS = 2**28


def _require(condition: bool, rule: str, value: object) -> None:
    if not condition:
        raise WavdiffError(f"configuration: {rule}, got {shown(value)}")


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
        _require(self.kind in KINDS, f"network kind must be one of {', '.join(KINDS)}", self.kind)
        _require(1 <= self.width <= 4096, "network width must be in [1, 4096]", self.width)
        _require(1 <= self.depth <= MOST_DEPTH, f"network depth must be in [1, {MOST_DEPTH}]", self.depth)
        _require(1 <= self.stages <= 10, "network stages must be in [1, 10]", self.stages)
        blocks = self.depth * self.stages if self.kind == "global" else self.depth
        _require(blocks <= MOST_DEPTH, f"network depth * stages must be at most {MOST_DEPTH}", blocks)
        _require(0 < self.growth <= 16, "network growth must be in (0, 16]", self.growth)
        _require(0 <= self.dropout < 1, "network dropout must be in [0, 1)", self.dropout)
        _require(self.activation in ("silu", "relu"), "network activation must be silu or relu", self.activation)

    def settings(self) -> dict[str, Any]:
        """The arguments that this kind of network takes, with its kind."""
        names = {
            "local": ("kind", "width", "depth", "receptive_field", "dropout", "activation", "preactivated"),
            "global": ("kind", "width", "depth", "stages", "growth", "dropout"),
            "bias-free": ("kind", "width", "depth", "receptive_field"),
        }[self.kind]
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class ModelConfig:
    """The cascade: image size (H, W), channels, wavelet, number of levels, and its networks.

    `details` is used at every scale, changed by `scale_networks`: {"1": {"width": 96}}. `ladders` are the default
    noise ladders of `sample`.
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

    def __post_init__(self) -> None:
        _require(self.channels in (1, 3), "model.channels must be 1 (gray) or 3 (RGB)", self.channels)
        _require(0 <= self.levels <= MOST_LEVELS, f"model.levels must be in [0, {MOST_LEVELS}]", self.levels)
        for side in self.image_size:
            _require(side <= LARGEST_SIDE, f"model.image_size must be at most {LARGEST_SIDE} a side", self.image_size)
            _require(
                side >= 2**self.levels and side % 2**self.levels == 0,
                f"model.image_size must be multiples of 2**levels = {2**self.levels}",
                self.image_size,
            )
        scales = [str(scale) for scale in range(self.levels)]
        _require(
            set(self.scale_networks) <= set(scales),
            f"model.scale_networks has scales among {', '.join(scales) or 'none'}",
            self.scale_networks,
        )
        for scale in scales:
            self.detail_network(scale)
        _require(set(self.ladders) <= {"lowpass", "details"}, "model.ladders has lowpass and details", self.ladders)
        for name, settings in self.ladders.items():
            _check_ladder(f"model.ladders.{name}", settings)
        count = self.count_parameters()
        _require(count <= MOST_PARAMETERS, f"model has at most {MOST_PARAMETERS} parameters in all networks", count)

    def count_parameters(self) -> int:
        """Parameters of all networks, which are not made for it."""
        from wavdiff.networks import count_parameters, detail_shape

        channels = self.channels
        networks = [("lowpass", self.lowpass, channels, channels, 1)]
        for scale in range(self.levels):
            network = self.detail_network(str(scale))
            networks.append((f"scale {scale}", network, *detail_shape(network.kind, channels), 2))
        total = 0
        for name, network, *shape in networks:
            try:
                total += count_parameters(network.settings(), *shape)
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
        network: NetworkConfig = _from_mapping(
            NetworkConfig, {**dataclasses.asdict(self.details), **changes}, f"model.scale_networks.{scale}"
        )
        return network


def _check_ladder(name: str, settings: Any) -> None:
    from wavdiff.solvers import Ladder

    try:
        Ladder(**settings)
    except (TypeError, WavdiffError) as error:
        raise WavdiffError(f"configuration: {name} is no ladder ({error}), got {shown(settings)}") from error


@dataclass(frozen=True)
class AugmentationConfig:
    """Changes of training images, made before the wavelet transform (see `data.Augmentation`).

    `calm_strength` scales them for the part of a batch that teaches synthesis, so that samples are not drawn shifted
    and zoomed while denoising still learns from many variants. `gray` is the part of the examples of an RGB cascade
    that are gray, with the same noise in all channels, so that it serves gray pictures as well.
    """

    flip: bool = False
    shift: float = 0.0
    zoom: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0
    rotate90: bool = False
    window: float = 0.0
    gray: float = 0.0
    calm_strength: float = 1.0

    def __post_init__(self) -> None:
        for name, upper in (("shift", float("inf")), ("zoom", 1.0), ("contrast", 1.0), ("brightness", float("inf"))):
            value = getattr(self, name)
            _require(0 <= value < upper, f"data.augmentation.{name} must be in [0, {upper:g})", value)
        _require(
            self.window == 0 or 1 <= self.window < float("inf"),
            "data.augmentation.window must be 0 (off) or at least 1",
            self.window,
        )
        _require(0 <= self.gray <= 1, "data.augmentation.gray must be in [0, 1]", self.gray)
        _require(0 <= self.calm_strength <= 1, "data.augmentation.calm_strength must be in [0, 1]", self.calm_strength)


@dataclass(frozen=True)
class DataConfig:
    """Where images come from and how they are cut.

    `crop` is the side of the centred source square (None: the largest); `pad` puts small images on a black canvas
    instead. `validation` names persons or other groups of the source kept out of training, to choose settings on.
    `note` goes into the model card: what these data can and cannot teach. `cache_megabytes` of decoded images of a
    folder are kept in memory; `decoded_cache` is a folder where all of them are kept on disk. `shuffle_buffer` images
    of shards and streamed data sets are shuffled at a time, and wait in memory encoded.
    """

    name: str = "faces"
    data_dir: str | None = None
    crop: int | None = None
    pad: bool = False
    validation: tuple[str, ...] = ()
    heldout_limit: int = 256
    note: str = ""
    workers: int = 0
    cache_megabytes: int = 0
    decoded_cache: str | None = None
    shuffle_buffer: int = 1000
    augmentation: AugmentationConfig = AugmentationConfig()

    def __post_init__(self) -> None:
        _require(self.crop is None or self.crop >= 1, "data.crop must be at least 1", self.crop)
        _require(self.heldout_limit >= 1, "data.heldout_limit must be at least 1", self.heldout_limit)
        _require(self.workers >= 0, "data.workers must be at least 0", self.workers)
        _require(self.cache_megabytes >= 0, "data.cache_megabytes must be at least 0", self.cache_megabytes)
        _require(self.shuffle_buffer >= 1, "data.shuffle_buffer must be at least 1", self.shuffle_buffer)


@dataclass(frozen=True)
class NoiseConfig:
    """Training noise levels (see `noise.NoiseDistribution`); `denoising_fraction` of a batch teaches denoising."""

    image_min: float = 0.008
    image_max: float = 0.7
    log_mean: float = -0.4
    log_std: float = 1.5
    top_fraction: float = 0.25
    denoising_fraction: float = 0.5

    def __post_init__(self) -> None:
        _require(
            0 < self.image_min < self.image_max <= 1000,
            "noise needs 0 < noise.image_min < noise.image_max <= 1000",
            (self.image_min, self.image_max),
        )
        _require(-50 <= self.log_mean <= 50, "noise.log_mean must be in [-50, 50]", self.log_mean)
        _require(0 <= self.log_std <= 50, "noise.log_std must be in [0, 50]", self.log_std)
        _require(0 <= self.top_fraction <= 1, "noise.top_fraction must be in [0, 1]", self.top_fraction)
        _require(
            0 <= self.denoising_fraction <= 1, "noise.denoising_fraction must be in [0, 1]", self.denoising_fraction
        )


@dataclass(frozen=True)
class TrainingConfig:
    """The loop. `batch_size` is the global batch of one optimiser step, over processes and accumulation.

    `scale_steps` lets a scale ("low", "0", ...) train for another number of steps than `steps`; each scale has its own
    cosine schedule, which ends where its training ends. `low_repeats`: independent noise draws of every image for the
    (cheap) low-pass network. `detail_crop`: side of the random crops of x_0 on which detail networks are trained
    (None: whole images). `precision`: "auto" is bf16 where the device has it fast and no network is blind, else
    float32. `save_dtype`: how the
    trained model's weights are stored; "float16" halves the file and rounds them to 3 decimal digits. `init`: a trained
    model whose networks, of the same size or smaller, are where this run starts (see `training.growth`). `max_skipped`:
    steps in a row whose loss or gradient may be not finite before the run stops. `keep_checkpoints` of the newest stay,
    and the one with the lowest mean held-out loss; `export`: whether the "last" or the "best" becomes the model.
    `balance`: 0: denoising examples count by their squared errors, so textured pictures most; 1: by their logarithms,
    as a mean PSNR counts (see `objective.balanced`). `compile`: fuse pointwise operations with `torch.compile`, which
    needs a C++ compiler and a minute.
    """

    steps: int = 1000
    scale_steps: dict[str, int] = field(default_factory=dict)
    batch_size: int = 32
    accumulation: int = 1
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    weight_decay: float = 0.01
    gradient_clip: float = 1.0
    balance: float = 0.0
    ema_decay: float = 0.999
    ema_power: float = 0.75
    low_repeats: int = 1
    detail_crop: int | None = None
    precision: str = "auto"
    save_dtype: str = "float32"
    init: str | None = None
    seed: int = 0
    log_every: int = 10
    evaluate_every: int = 500
    sample_every: int = 500
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    max_skipped: int = 5
    export: str = "last"
    compile: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulation", "log_every", "checkpoint_every", "keep_checkpoints"):
            _require(getattr(self, name) >= 1, f"training.{name} must be at least 1", getattr(self, name))
        for name in ("evaluate_every", "sample_every", "warmup_steps", "max_skipped"):
            _require(getattr(self, name) >= 0, f"training.{name} must be at least 0", getattr(self, name))
        _require(self.export in ("last", "best"), "training.export must be last or best", self.export)
        for name, steps in self.scale_steps.items():
            valid = isinstance(name, str) and isinstance(steps, int) and not isinstance(steps, bool) and steps >= 1
            _require(valid, "training.scale_steps maps scales to steps of at least 1", self.scale_steps)
        longest = max((self.steps, self.warmup_steps, *self.scale_steps.values()))
        _require(longest <= MOST_STEPS, f"training has at most {MOST_STEPS} steps, of warm-up too", longest)
        _require(1 <= self.low_repeats <= 1000, "training.low_repeats must be in [1, 1000]", self.low_repeats)
        _require(
            self.batch_size % self.accumulation == 0,
            "training.batch_size must be a multiple of training.accumulation",
            (self.batch_size, self.accumulation),
        )
        _require(0 < self.learning_rate <= 1000, "training.learning_rate must be in (0, 1000]", self.learning_rate)
        _require(0 <= self.weight_decay <= 1000, "training.weight_decay must be in [0, 1000]", self.weight_decay)
        _require(0 <= self.seed < 2**63, "training.seed must be in [0, 2**63)", self.seed)
        _require(self.gradient_clip > 0, "training.gradient_clip must be positive", self.gradient_clip)
        _require(0 <= self.balance <= 1, "training.balance must be in [0, 1]", self.balance)
        _require(0 <= self.ema_power <= 100, "training.ema_power must be in [0, 100]", self.ema_power)
        _require(0 < self.ema_decay < 1, "training.ema_decay must be in (0, 1)", self.ema_decay)
        _require(
            self.save_dtype in ("float32", "float16"),
            "training.save_dtype must be float32 or float16",
            self.save_dtype,
        )
        _require(
            self.precision in ("auto", "float32", "bf16"),
            "training.precision must be auto, float32 or bf16",
            self.precision,
        )

    def steps_of(self, scale: str) -> int:
        """Optimiser steps of one scale."""
        return self.scale_steps.get(scale, self.steps)


@dataclass(frozen=True)
class RunConfig:
    """Everything `wavdiff train` needs besides the output folder."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    noise: NoiseConfig = NoiseConfig()
    training: TrainingConfig = TrainingConfig()

    def __post_init__(self) -> None:
        model, training = self.model, self.training
        scales = ["low", *(str(scale) for scale in range(model.levels - 1, -1, -1))]
        _require(
            set(training.scale_steps) <= set(scales),
            f"training.scale_steps has scales among {', '.join(scales)}",
            training.scale_steps,
        )
        crop, step = training.detail_crop, 2**model.levels
        _require(
            crop is None or (crop >= step and crop % step == 0 and crop <= min(model.image_size)),
            f"training.detail_crop must be a multiple of 2**levels = {step}, at most the image's smaller side",
            crop,
        )
        pixels = training.batch_size // training.accumulation * model.image_size[0] * model.image_size[1]
        _require(
            pixels <= MOST_BATCH_PIXELS,
            f"training.batch_size: at most {MOST_BATCH_PIXELS} pixels can be in one part of a batch (whole images, "
            "batch_size / accumulation of them)",
            pixels,
        )


def _convert(annotation: Any, value: Any, where: str) -> Any:
    """`value` from YAML as `annotation`, or a WavdiffError that names `where`."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _convert(next(option for option in arguments if option is not type(None)), value, where)
    if dataclasses.is_dataclass(annotation):
        if not isinstance(value, dict):
            raise WavdiffError(f"configuration: {where} must be a mapping, got {shown(value)}")
        return _from_mapping(typing.cast(type, annotation), value, where)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            value = [value] * 2 if isinstance(value, int) and Ellipsis not in arguments else value
        if not isinstance(value, (list, tuple)) or (Ellipsis not in arguments and len(value) != len(arguments)):
            raise WavdiffError(f"configuration: {where} must be a list of {len(arguments)} values, got {shown(value)}")
        return tuple(_convert(arguments[0], item, where) for item in value)
    if origin is dict and isinstance(value, dict):  # YAML reads the name of scale 0 as a number
        return {str(key): item for key, item in value.items()}
    if annotation is float and not isinstance(value, bool) and isinstance(value, (int, float, str)):
        with contextlib.suppress(ValueError, OverflowError):  # YAML 1.1 reads 1e-3 as text
            number = float(value)
            if number == number:
                return number
    target = origin or annotation
    if isinstance(value, float) and value != value:
        raise WavdiffError(f"configuration: {where} must be a number, got nan")
    if not isinstance(value, target) or (isinstance(value, bool) and target is not bool):
        raise WavdiffError(f"configuration: {where} must be of type {target.__name__}, got {shown(value)}")
    return value


def _from_mapping(kind: type, mapping: dict[str, Any], where: str = "") -> Any:
    hints = typing.get_type_hints(kind)
    unknown = [str(name) for name in mapping if name not in hints]
    if unknown:
        place = where or "the file"
        raise WavdiffError(f"configuration: {place} has no setting {shown(unknown[0])}; known: {', '.join(hints)}")
    prefix = f"{where}." if where else ""
    return kind(**{name: _convert(hints[name], value, prefix + name) for name, value in mapping.items()})


def _merge(base: dict[str, Any], name: str, value: Any) -> None:
    *path, last = name.split(".")
    for part in path:
        base = base.setdefault(part, {})
        if not isinstance(base, dict):
            raise WavdiffError(f"configuration: {shown(name)} names something inside a value")
    base[last] = value


def with_published_networks(mapping: dict[str, Any]) -> dict[str, Any]:
    """A configuration's mapping with `PUBLISHED_NETWORKS`, except where its networks are bias-free already.

    What `scale_networks` changes of a network of another kind goes with that network, and ladders begin where blind
    networks can.

    Raises:
        WavdiffError: `model` or one of its networks is no mapping.
    """
    from wavdiff.blind import BLIND_TOP

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
    for ladder in _section(model, "ladders", "model.ladders").values():
        top = ladder.get("sigma_max") if isinstance(ladder, dict) else None
        if isinstance(top, int | float) and top > BLIND_TOP:
            ladder["sigma_max"] = BLIND_TOP
    return mapping


def _section(mapping: dict[str, Any], name: Any, where: str) -> dict[str, Any]:
    """The mapping `name` inside `mapping`, which is made where it is missing."""
    section = mapping.setdefault(name, {})
    if not isinstance(section, dict):
        raise WavdiffError(f"configuration: {where} must be a mapping, got {shown(section)}")
    return section


def from_mapping(mapping: dict[str, Any], overrides: list[str] | None = None) -> RunConfig:
    """A configuration from a (YAML) mapping and overrides "section.name=value", whose values are YAML.

    Raises:
        WavdiffError: an unknown name, a wrong type or a value out of range; the message names it.
    """
    mapping = copy.deepcopy(mapping)
    for override in overrides or []:
        name, separator, text = override.partition("=")
        if not separator:
            raise WavdiffError(f"--set takes section.name=value, got {shown(override)}")
        try:
            value = parse_yaml(text)
        except WavdiffError as error:
            raise WavdiffError(f"--set {name[:80]}: {shown(text)} {error}") from error
        _merge(mapping, name.strip(), value)
    result: RunConfig = _from_mapping(RunConfig, mapping)
    return result


def model_from_mapping(mapping: dict[str, Any]) -> ModelConfig:
    """The section `model` alone; raises as `from_mapping`."""
    result: ModelConfig = _from_mapping(ModelConfig, mapping, "model")
    return result


def to_mapping(config: RunConfig) -> dict[str, Any]:
    """The whole configuration as plain lists, dicts and numbers."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value

    result: dict[str, Any] = plain(dataclasses.asdict(config))
    return result


def to_yaml(config: RunConfig) -> str:
    """The whole configuration as YAML."""
    return yaml.safe_dump(to_mapping(config), sort_keys=False)


def preset_folders() -> list[Path]:
    """Folders searched for the configurations that ship: the checkout's configs/ and the installed package's."""
    import sys

    return [Path(__file__).parent.parent / "configs", Path(sys.prefix) / "share" / "wavdiff" / "configs"]


def read_mapping(source: str | Path) -> dict[str, Any]:
    """The mapping of a YAML file, or of a shipped configuration by name ("tiny", "faces", ...).

    Raises:
        WavdiffError: no such file or preset, or not a YAML mapping.
    """
    path = Path(source)
    if not path.suffix and not path.is_file():
        found = [folder / f"{source}.yaml" for folder in preset_folders() if (folder / f"{source}.yaml").is_file()]
        if not found:
            names = sorted({file.stem for folder in preset_folders() for file in folder.glob("*.yaml")})
            raise WavdiffError(f"--config {source}: no such file, and no preset of that name ({', '.join(names)})")
        path = found[0]
    try:
        mapping = parse_yaml(read_text(path))
    except WavdiffError as error:
        raise WavdiffError(f"--config {source}: {error}") from error
    if not isinstance(mapping, dict):
        raise WavdiffError(f"--config {source}: must hold a mapping of sections, got {type(mapping).__name__}")
    return mapping
