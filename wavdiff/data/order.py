"""The order of training, as a function of the step number alone.

Position `p = step * batch_size + place` runs through epochs without a gap: epoch `p // length`, whose images are
shuffled by a generator seeded with (seed, epoch), and place `p % length` in it. Nothing is remembered between steps,
so a run that starts at step k sees what an uninterrupted run sees from step k on.
"""

import hashlib
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

import numpy as np
import torch

from wavdiff.data.examples import ExampleKey
from wavdiff.data.protocols import EncodedImage, ImageStream
from wavdiff.data.stream import images_from, read_ahead
from wavdiff.system.errors import WavdiffError

TrainingKey = tuple[ExampleKey, bool]
"""An example, and whether it is one of the strongly augmented ones of its batch."""


@dataclass(eq=False)
class StatelessBatchSampler(torch.utils.data.Sampler[list[ExampleKey]]):
    """Batches of keys for `ExampleDataset`, from one step to another.

    Attributes:
        length: number of images.
        batch_size: examples per step.
        seed: the seed of the whole run.
        start: the first step.
        total: the step to stop before.
        strong_fraction: the part of every batch, in [0, 1], that is augmented at strength 1: its first
            `strong_count` examples.
        calm_strength: the strength of augmentation of the others, in [0, 1].

    Raises:
        WavdiffError: an argument out of its range.
    """

    length: int
    batch_size: int
    seed: int = 0
    start: int = 0
    total: int = 0
    strong_fraction: float = 1.0
    calm_strength: float = 0.0
    drop_last = False  # asked for by loaders that shard batches over processes

    def __post_init__(self) -> None:
        for name, least in (("length", 1), ("batch_size", 1), ("start", 0), ("seed", 0)):
            if getattr(self, name) < least:
                raise WavdiffError(f"{name} must be at least {least}, not {getattr(self, name)}")
        for name in ("strong_fraction", "calm_strength"):
            if not 0 <= getattr(self, name) <= 1:
                raise WavdiffError(f"{name} must be within 0 and 1, not {getattr(self, name)}")
        self.strong_count = round(self.batch_size * self.strong_fraction)

    def __len__(self) -> int:
        return max(0, self.total - self.start)

    def __iter__(self) -> Iterator[list[ExampleKey]]:
        with closing(self._images()) as images:
            for step in range(self.start, self.total):
                batch: list[ExampleKey] = []
                for place in range(self.batch_size):
                    position = step * self.batch_size + place
                    strength = 1.0 if place < self.strong_count else self.calm_strength
                    batch.append((next(images), example_seed(self.seed, position), strength))
                yield batch

    def _images(self) -> Generator[int | EncodedImage, None, None]:
        """The images from the first position on: their indices."""
        epoch, order = -1, np.empty(0, dtype=np.int64)
        for position in count(self.start * self.batch_size):
            if position // self.length != epoch:
                epoch = position // self.length
                order = np.random.default_rng([self.seed, epoch]).permutation(self.length)
            yield int(order[position % self.length])


class StreamBatchSampler(StatelessBatchSampler):
    """The same for a stream: the keys hold the encoded images themselves, which a thread reads ahead.

    So the process that trains reads every image once, in order, and workers decode and crop.

    Args:
        stream: the images.
        settings: as for `StatelessBatchSampler`, from `batch_size` on.
    """

    def __init__(self, stream: ImageStream, *settings: Any, **named: Any) -> None:
        super().__init__(1, *settings, **named)
        self.stream = stream

    def _images(self) -> Generator[int | EncodedImage, None, None]:
        images = images_from(self.stream, self.seed, self.start * self.batch_size)
        # Not more than is needed, so that the thread ends with the last step.
        with closing(read_ahead(islice(images, len(self) * self.batch_size), 2 * self.batch_size)) as ahead:
            yield from ahead


def example_seed(seed: int, position: int) -> int:
    """The seed of an example's chance by its position over all steps of a run: 64 bits, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(f"{seed}:{position}".encode(), digest_size=8).digest(), "little")


@dataclass(eq=False)
class MicroBatchSampler(torch.utils.data.Sampler[list[TrainingKey]]):
    """The part of every global batch that one process sees in each accumulation step.

    Part m of `accumulation` on process r of `processes` takes every (accumulation x processes)-th example, so that each
    part has the same mixture of denoising and synthesis.
    """

    batches: StatelessBatchSampler
    accumulation: int
    rank: int
    processes: int

    def __len__(self) -> int:
        return len(self.batches) * self.accumulation

    def __iter__(self) -> Iterator[list[TrainingKey]]:
        stride = self.accumulation * self.processes
        for batch in self.batches:
            keys = [(key, place < self.batches.strong_count) for place, key in enumerate(batch)]
            for part in range(self.accumulation):
                yield keys[part * self.processes + self.rank :: stride]
