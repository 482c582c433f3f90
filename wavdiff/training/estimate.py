"""How long a training will take: steps of it on images of noise, measured before anything is read or written."""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import default_collate
from torch.utils.flop_counter import FlopCounterMode

from wavdiff.models import find_family
from wavdiff.models.run_config import RunConfig
from wavdiff.training.acceleration import open_accelerator
from wavdiff.training.state import RunState
from wavdiff.training.status import duration
from wavdiff.training.step import Learner

MEASURED_PIXELS = 2**17
"""Of the examples of a measured step; larger batches are that many times slower."""
MOST_PIXELS = 2**20
"""Of an example; a step on larger ones is not measured."""
GPU_OPERATIONS, GPU_STEP = 5e13, 0.05
"""Of one recent GPU: operations a second, half of what an H100 did in training `photos`; and the shortest step."""
NIGHT = 10 * 3600


@dataclass(frozen=True)
class Phase:
    """Steps in which the same parts are trained.

    Attributes:
        steps: how many.
        seconds: of one of them, on this machine.
        operations: floating-point operations of one of them.
    """

    steps: int
    seconds: float
    operations: float


@dataclass(frozen=True)
class Estimate:
    """What a training costs, without evaluation and reading images.

    Attributes:
        phases: in order; parts end at their own number of steps.
        measured, batch: examples in a measured step, and in one of the training.
        device: where it was measured: "cpu", "cuda".
    """

    phases: tuple[Phase, ...]
    measured: int
    batch: int
    device: str

    @property
    def seconds(self) -> float:
        """Of all steps."""
        return math.fsum(phase.steps * phase.seconds for phase in self.phases)

    @property
    def is_long(self) -> bool:
        """Whether it takes more than a night."""
        return self.seconds > NIGHT

    def report(self) -> str:
        """Lines for people."""
        first, steps = self.phases[0], sum(phase.steps for phase in self.phases)
        part = "" if self.measured == self.batch else f", measured on {self.measured} of {self.batch} examples"
        where = "this CPU" if self.device == "cpu" else "this machine"
        lines = [f"a step takes {first.seconds:.2g} s on {where}{part}: {steps:,} steps, {duration(self.seconds)}"]
        if self.device == "cpu" and self.seconds > 3600:
            guess = math.fsum(p.steps * max(p.operations / GPU_OPERATIONS, GPU_STEP) for p in self.phases)
            lines.append(f"one recent GPU: {duration(guess)} is a guess, from {GPU_OPERATIONS:.0e} operations a second")
        if self.is_long:
            some = int(NIGHT / self.seconds * steps)
            lines.append(
                f"a night of {NIGHT // 3600} hours is about {some:,} steps: give --steps, so that the learning rate "
                "ends there, or --max-hours and the same command every night"
            )
        return "\n".join(lines)


def estimate_training(config: RunConfig) -> Estimate | None:
    """Take a few steps of a training, on images of noise, and count; nothing of it is kept.

    Returns:
        What all its steps will take; None where an example is too large for a quick answer.

    Raises:
        WavdiffError: as for a training of this configuration.
    """
    pixels = math.prod(config.image_size)
    if pixels > MOST_PIXELS:
        return None
    training = config.training
    count = min(training.batch_size, max(1, MEASURED_PIXELS // pixels))
    small: Any = dataclasses.replace(training, batch_size=count, accumulation=1, compile=False)
    family = find_family(config.family)(dataclasses.replace(config, training=small))  # type: ignore[type-var]
    accelerator = open_accelerator(small, family.bf16_is_safe)
    model = family.build({}).to(device=accelerator.device, memory_format=torch.channels_last)
    learner = Learner(accelerator, family, model, list(config.parts))
    learner.prepare(RunState())
    batch = default_collate([_example(family, config, seed) for seed in range(count)])
    phases, done = list[Phase](), 0
    for end in sorted({training.steps_of(part) for part in config.parts}):
        active = [part for part in config.parts if training.steps_of(part) >= end]
        family.ready = set(config.parts)
        with FlopCounterMode(display=False) as counter:  # which is slow: also the step that warms up
            learner.step(itertools.repeat(batch), RunState(), active, lambda: 0)
        began = time.perf_counter()
        learner.step(itertools.repeat(batch), RunState(), active, lambda: 0)
        seconds = time.perf_counter() - began
        share = training.batch_size / count
        phases.append(Phase(end - done, seconds * share, counter.get_total_flops() * share))
        done = end
    learner.release()
    return Estimate(tuple(phases), count, training.batch_size, accelerator.device.type)


def _example(family: Any, config: RunConfig, seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(config.channels, *config.image_size, generator=generator).div(3).clamp(-1, 1)
    example = family.example(image, generator, seed < config.strong_fraction * config.training.batch_size)
    return {**example, "label": "noise", **({"class": config.model.classes[0]} if family.needs_classes else {})}
