"""Settings of a WavPool classifier."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from wavdiff.data.config import DataConfig
from wavdiff.models.run_config import RunConfig, TrainingConfig
from wavdiff.system.settings import Checked, Rule, one_of, require, setting, within

MOST_WEIGHTS = 2**28


@dataclass(frozen=True)
class WavpoolModel(Checked):
    """The model; defaults are ours (`configs/wavpool-fashion.yaml`); `configs/wavpool-published.yaml` is as published.

    `hidden` units read the details of the finest level, and with `hidden_scaling` a half, a third, ... of them the next
    coarser ones; else all levels have as many. `pool` are the windows of the pool over (unit, direction, level), and
    their strides; what fills no window is dropped, unless `ceil`. `pool_mode` is max or average. `lowpass`: the
    coarsest low-pass image is read as well. Where a side is odd its last row and column stand twice, and their details
    are always zero: they are read where `reads_zeros`. `classes` are their names, in the order of the outputs.
    """

    where: ClassVar[str] = "model."

    image_size: tuple[int, int] = (28, 28)
    channels: int = setting(1, Rule(lambda value: value == 1, "1: gray"))
    hidden: int = setting(68, within(1, 4096))
    hidden_scaling: bool = False
    pool: tuple[int, ...] = (4, 1, 1)
    pool_mode: str = setting("max", one_of("max", "average"))
    ceil: bool = True
    activation: str = setting("relu", one_of("relu", "none"))
    lowpass: bool = True
    reads_zeros: bool = False
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        height, width = self.image_size
        require(2 <= height == width <= 512, "model.image_size must be square, 2 to 512 pixels", self.image_size)
        units, levels = self.hidden_sizes, self.levels
        require(min(units) >= 1, f"model.hidden must leave a unit for each of {levels} levels", self.hidden)
        most = 4 * height * width // 3 * max(units)
        require(most <= MOST_WEIGHTS, f"model: at most {MOST_WEIGHTS} weights, about", most)
        fits = len(self.pool) == 3 and all(
            1 <= side <= most for side, most in zip(self.pool, (max(units), 3, levels), strict=True)
        )
        require(fits, f"model.pool must be three windows, at most {max(units)}, 3 and {levels}", self.pool)
        require(len(set(self.classes)) == len(self.classes) <= 10_000, "model.classes must differ", self.classes[:3])

    @property
    def levels(self) -> int:
        """Levels of the decomposition: as many halvings as there are, floor(log2 n)."""
        return self.image_size[0].bit_length() - 1

    @property
    def hidden_sizes(self) -> tuple[int, ...]:
        """Units of every level, coarse to fine."""
        finest_first = [
            self.hidden // (place + 1) if self.hidden_scaling else self.hidden for place in range(self.levels)
        ]
        return tuple(reversed(finest_first))


@dataclass(frozen=True)
class WavpoolConfig(RunConfig):
    """Everything `wavdiff train` needs to train one, besides the output folder."""

    family: ClassVar[str] = "wavpool"
    parts: ClassVar[tuple[str, ...]] = ("net",)

    model: WavpoolModel = field(default_factory=WavpoolModel)
    data: DataConfig = DataConfig()
    training: TrainingConfig = TrainingConfig()
