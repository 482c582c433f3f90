"""A training run's configuration: frozen dataclasses, validated when made, to and from YAML.

A file names only what differs from the defaults; `--set section.name=value` overrides single values; unknown names are
errors. Lengths are in pixels, noise levels in [0, 1] image units unless a name says otherwise.
"""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from wavdiff.data.config import DataConfig
from wavdiff.models.cascade.config import ModelConfig, NoiseConfig
from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import shown
from wavdiff.system.settings import from_fields, merge_setting, require
from wavdiff.system.text_files import parse_yaml, read_text

MOST_STEPS = 10**9


MOST_BATCH_PIXELS = 2**28


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
            require(getattr(self, name) >= 1, f"training.{name} must be at least 1", getattr(self, name))
        for name in ("evaluate_every", "sample_every", "warmup_steps", "max_skipped"):
            require(getattr(self, name) >= 0, f"training.{name} must be at least 0", getattr(self, name))
        require(self.export in ("last", "best"), "training.export must be last or best", self.export)
        for name, steps in self.scale_steps.items():
            valid = isinstance(name, str) and isinstance(steps, int) and not isinstance(steps, bool) and steps >= 1
            require(valid, "training.scale_steps maps scales to steps of at least 1", self.scale_steps)
        longest = max((self.steps, self.warmup_steps, *self.scale_steps.values()))
        require(longest <= MOST_STEPS, f"training has at most {MOST_STEPS} steps, of warm-up too", longest)
        require(1 <= self.low_repeats <= 1000, "training.low_repeats must be in [1, 1000]", self.low_repeats)
        require(
            self.batch_size % self.accumulation == 0,
            "training.batch_size must be a multiple of training.accumulation",
            (self.batch_size, self.accumulation),
        )
        require(0 < self.learning_rate <= 1000, "training.learning_rate must be in (0, 1000]", self.learning_rate)
        require(0 <= self.weight_decay <= 1000, "training.weight_decay must be in [0, 1000]", self.weight_decay)
        require(0 <= self.seed < 2**63, "training.seed must be in [0, 2**63)", self.seed)
        require(self.gradient_clip > 0, "training.gradient_clip must be positive", self.gradient_clip)
        require(0 <= self.balance <= 1, "training.balance must be in [0, 1]", self.balance)
        require(0 <= self.ema_power <= 100, "training.ema_power must be in [0, 100]", self.ema_power)
        require(0 < self.ema_decay < 1, "training.ema_decay must be in (0, 1)", self.ema_decay)
        require(
            self.save_dtype in ("float32", "float16"),
            "training.save_dtype must be float32 or float16",
            self.save_dtype,
        )
        require(
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
        require(
            set(training.scale_steps) <= set(scales),
            f"training.scale_steps has scales among {', '.join(scales)}",
            training.scale_steps,
        )
        crop, step = training.detail_crop, 2**model.levels
        require(
            crop is None or (crop >= step and crop % step == 0 and crop <= min(model.image_size)),
            f"training.detail_crop must be a multiple of 2**levels = {step}, at most the image's smaller side",
            crop,
        )
        pixels = training.batch_size // training.accumulation * model.image_size[0] * model.image_size[1]
        require(
            pixels <= MOST_BATCH_PIXELS,
            f"training.batch_size: at most {MOST_BATCH_PIXELS} pixels can be in one part of a batch (whole images, "
            "batch_size / accumulation of them)",
            pixels,
        )


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
        merge_setting(mapping, name.strip(), value)
    result: RunConfig = from_fields(RunConfig, mapping)
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

    return [Path(__file__).parents[2] / "configs", Path(sys.prefix) / "share" / "wavdiff" / "configs"]


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
