"""The order of training, as a function of the step number alone.

Position ``p = step * batch_size + place`` runs through epochs without a gap: epoch ``p // length``, whose images are
shuffled by a generator seeded with (seed, epoch), and place ``p % length`` in it. Nothing is remembered between steps,
so a run that starts at step k sees what an uninterrupted run sees from step k on.
"""

import hashlib
import itertools
from collections.abc import Generator, Iterator
from contextlib import closing

import numpy as np
import torch

from wavdiff.data.examples import ExampleKey
from wavdiff.data.protocols import EncodedImage, ImageStream
from wavdiff.data.stream import images_from, read_ahead
from wavdiff.system.errors import WavdiffError

TrainingKey = tuple[ExampleKey, bool]
"""An example, and whether it is one of the strongly augmented ones of its batch."""


class StatelessBatchSampler(torch.utils.data.Sampler[list[ExampleKey]]):
    """Batches of keys for :class:`~wavdiff.data.examples.ExampleDataset`, from one step to another.

    Args:
        length: number of images.
        batch_size: examples per step.
        seed: the seed of the whole run.
        start: the first step.
        total: the step to stop before.
        strong_fraction: the part of every batch, in [0, 1], that is augmented at strength 1: its first
            ``round(batch_size * strong_fraction)`` examples.
        calm_strength: the strength of augmentation of the others, in [0, 1].

    Raises:
        WavdiffError: an argument out of its range.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        seed: int = 0,
        start: int = 0,
        total: int = 0,
        strong_fraction: float = 1.0,
        calm_strength: float = 0.0,
    ) -> None:
        for name, value, least in (("length", length, 1), ("batch_size", batch_size, 1), ("start", start, 0)):
            if value < least:
                raise WavdiffError(f"{name} must be at least {least}, not {value}")
        if seed < 0:
            raise WavdiffError(f"seed must be at least 0, not {seed}")
        for name, part in (("strong_fraction", strong_fraction), ("calm_strength", calm_strength)):
            if not 0 <= part <= 1:
                raise WavdiffError(f"{name} must be within 0 and 1, not {part}")
        self.length = length
        self.batch_size = batch_size
        self.seed = seed
        self.start = start
        self.total = total
        self.strong_count = round(batch_size * strong_fraction)
        self.calm_strength = calm_strength
        self.drop_last = False  # asked for by loaders that shard batches over processes

    def __len__(self) -> int:
        """Count the batches."""
        return max(0, self.total - self.start)

    def __iter__(self) -> Iterator[list[ExampleKey]]:
        """Give the batch of keys of every step."""
        with closing(self._images()) as images:
            for step in range(self.start, self.total):
                batch: list[ExampleKey] = []
                for place in range(self.batch_size):
                    position = step * self.batch_size + place
                    strength = 1.0 if place < self.strong_count else self.calm_strength
                    batch.append((next(images), example_seed(self.seed, position), strength))
                yield batch

    def _images(self) -> Generator[int | EncodedImage, None, None]:
        """Give the images from the first position on: their indices."""
        epoch, order = -1, np.empty(0, dtype=np.int64)
        for position in itertools.count(self.start * self.batch_size):
            if position // self.length != epoch:
                epoch = position // self.length
                order = np.random.default_rng([self.seed, epoch]).permutation(self.length)
            yield int(order[position % self.length])


class StreamBatchSampler(StatelessBatchSampler):
    """The same for a stream: the keys hold the encoded images themselves, which a thread reads ahead.

    So the process that trains reads every image once, in order, and workers decode and crop.

    Args:
        stream: the images.
        batch_size: as for :class:`StatelessBatchSampler`, as all that follow.
        seed: the seed of the whole run.
        start: the first step.
        total: the step to stop before.
        strong_fraction: the part of every batch that is augmented at strength 1.
        calm_strength: the strength of the others.

    Raises:
        WavdiffError: an argument out of its range.
    """

    def __init__(
        self,
        stream: ImageStream,
        batch_size: int,
        seed: int = 0,
        start: int = 0,
        total: int = 0,
        strong_fraction: float = 1.0,
        calm_strength: float = 0.0,
    ) -> None:
        super().__init__(1, batch_size, seed, start, total, strong_fraction, calm_strength)
        self.stream = stream

    def _images(self) -> Generator[int | EncodedImage, None, None]:
        """Give the images from the first position on: what their files hold."""
        images = images_from(self.stream, self.seed, self.start * self.batch_size)
        # Not more than is needed, so that the thread ends with the last step.
        with closing(read_ahead(itertools.islice(images, len(self) * self.batch_size), 2 * self.batch_size)) as ahead:
            yield from ahead


def example_seed(seed: int, position: int) -> int:
    """Give the seed of one example's chance.

    Args:
        seed: the seed of the run.
        position: the example's position in the run, counted over all steps.

    Returns:
        64 bits, the same on every machine.
    """
    return int.from_bytes(hashlib.blake2b(f"{seed}:{position}".encode(), digest_size=8).digest(), "little")


class MicroBatchSampler(torch.utils.data.Sampler[list[TrainingKey]]):
    """The part of every global batch that one process sees in each accumulation step.

    Part m of `accumulation` on process r of `processes` takes every (accumulation x processes)-th example, so that each
    part has the same mixture of denoising and synthesis.
    """

    def __init__(self, batches: StatelessBatchSampler, accumulation: int, rank: int, processes: int) -> None:
        self.batches = batches
        self.accumulation = accumulation
        self.rank = rank
        self.processes = processes

    def __len__(self) -> int:
        """Number of micro-batches."""
        return len(self.batches) * self.accumulation

    def __iter__(self) -> Iterator[list[TrainingKey]]:
        """Keys of one micro-batch after the other."""
        stride = self.accumulation * self.processes
        for batch in self.batches:
            keys = [(key, place < self.batches.strong_count) for place, key in enumerate(batch)]
            for part in range(self.accumulation):
                yield keys[part * self.processes + self.rank :: stride]
