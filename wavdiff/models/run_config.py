"""What every family's configuration has: its data, the training engine's settings, and what the engine asks of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

from wavdiff.data.config import DataConfig
from wavdiff.models import DEFAULT_FAMILY
from wavdiff.system.devices import PRECISIONS
from wavdiff.system.settings import POSITIVE, Checked, Rule, at_least, one_of, require, setting, within

SETTINGS_FILE = "model.json"
"""Where a saved model that is no cascade has its family and configuration."""
MOST_STEPS = 10**9
MOST_BATCH_PIXELS = 2**28


@dataclass(frozen=True)
class TrainingConfig(Checked):
    """The engine's settings. `batch_size` is the global batch of one optimiser step, over processes and accumulation.

    `scale_steps` lets a part of the model ("low", "0", ... of a cascade) train for another number of steps than
    `steps`; each part has its own cosine schedule, which ends where its training ends. `precision`: "auto" is bf16
    where the device has it fast and the model bears it, else float32. `save_dtype`: how the trained model's weights are
    stored; "float16" halves the file and rounds them to 3 decimal digits. `init`: a trained model, of the same size or
    smaller, where this run starts. `max_skipped`: steps in a row whose loss or gradient may be not finite before the
    run stops; a gradient of a norm of at least `skip_threshold`, before it is shortened to `gradient_clip`, counts as
    such. `optimizer`: "adamw" with betas (0.9, `beta2`), or "sgd" without momentum. `schedule` after the warm-up:
    "cosine" to 0, or "constant". `keep_checkpoints` of the newest stay, and the one with the lowest mean held-out loss;
    `export`: whether the "last" or the "best" becomes the model. `compile`: fuse pointwise operations with
    `torch.compile`, which needs a C++ compiler and a minute.
    """

    where: ClassVar[str] = "training."

    steps: int = setting(1000, at_least(1))
    scale_steps: dict[str, int] = field(default_factory=dict)
    batch_size: int = setting(32, at_least(1))
    accumulation: int = setting(1, at_least(1))
    learning_rate: float = setting(1e-3, within(0, 1000, "(]"))
    warmup_steps: int = setting(100, at_least(0))
    weight_decay: float = setting(0.01, within(0, 1000))
    optimizer: str = setting("adamw", one_of("adamw", "sgd"))
    beta2: float = setting(0.99, within(0, 1, "()"))
    schedule: str = setting("cosine", one_of("cosine", "constant"))
    gradient_clip: float = setting(1.0, POSITIVE)
    skip_threshold: float | None = setting(None, POSITIVE)
    ema_decay: float = setting(0.999, within(0, 1, "()"))
    ema_power: float = setting(0.75, within(0, 100))
    precision: str = setting("auto", one_of(*PRECISIONS))
    save_dtype: str = setting("float32", one_of("float32", "float16"))
    init: str | None = None
    seed: int = setting(0, Rule(lambda value: 0 <= value < 2**63, "in [0, 2**63)"))
    log_every: int = setting(10, at_least(1))
    evaluate_every: int = setting(500, at_least(0))
    sample_every: int = setting(500, at_least(0))
    checkpoint_every: int = setting(500, at_least(1))
    keep_checkpoints: int = setting(2, at_least(1))
    max_skipped: int = setting(5, at_least(0))
    export: str = setting("last", one_of("last", "best"))
    compile: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, steps in self.scale_steps.items():
            valid = isinstance(name, str) and isinstance(steps, int) and not isinstance(steps, bool) and steps >= 1
            require(valid, "training.scale_steps maps scales to steps of at least 1", self.scale_steps)
        longest = max((self.steps, self.warmup_steps, *self.scale_steps.values()))
        require(longest <= MOST_STEPS, f"training has at most {MOST_STEPS} steps, of warm-up too", longest)
        require(
            self.batch_size % self.accumulation == 0,
            "training.batch_size must be a multiple of training.accumulation",
            (self.batch_size, self.accumulation),
        )

    def steps_of(self, part: str) -> int:
        """Optimiser steps of one part of the model."""
        return self.scale_steps.get(part, self.steps)


class RunConfig:
    """Base of every family's configuration: a frozen dataclass of sections, in the order in which they are written.

    Attributes:
        family: name in `models.FAMILIES`; the file's key `family`.
        free: settings of `model` that may change between two calls of one run.
        model: the family's own section, with `image_size` and `channels` of its examples.
        data: where images come from.
        training: the engine's settings, and what the family adds to them.
    """

    family: ClassVar[str]
    free: ClassVar[tuple[str, ...]] = ()
    model: Any
    data: DataConfig
    training: TrainingConfig

    def __post_init__(self) -> None:
        training, (height, width) = self.training, self.image_size
        require(
            set(training.scale_steps) <= set(self.parts),
            f"training.scale_steps has scales among {', '.join(self.parts)}",
            training.scale_steps,
        )
        pixels = training.batch_size // training.accumulation * height * width
        require(
            pixels <= MOST_BATCH_PIXELS,
            f"training.batch_size: at most {MOST_BATCH_PIXELS} pixels can be in one part of a batch (whole images, "
            "batch_size / accumulation of them)",
            pixels,
        )

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) of the examples."""
        height, width = self.model.image_size
        return height, width

    @property
    def channels(self) -> int:
        """Channels of the examples: 1 or 3."""
        return int(self.model.channels)

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts of the model that are trained apart, from coarse to fine."""
        return ("model",)

    @property
    def strong_fraction(self) -> float:
        """Part of a batch that is augmented at full strength, in [0, 1]."""
        return 1.0

    @property
    def example_settings(self) -> dict[str, Any]:
        """How an image becomes an example: keyword arguments of `data.heldout_batch` and `data.ExampleDataset`."""
        data = self.data
        return {"size": self.image_size, "channels": self.channels, "crop": data.crop, "pad": data.pad}


def to_mapping(config: RunConfig) -> dict[str, Any]:
    """The whole configuration as plain lists, dicts and numbers."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value

    sections: dict[str, Any] = plain(dataclasses.asdict(cast(Any, config)))
    return sections if config.family == DEFAULT_FAMILY else {"family": config.family, **sections}
