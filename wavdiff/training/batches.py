"""From a source of images to the micro-batches of one process."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Callable, Generator, Sized
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from wavdiff.data import (
    Augmentation,
    ExampleDataset,
    Images,
    ImageSource,
    StatelessBatchSampler,
    StreamBatchSampler,
    heldout_batch,
    open_source,
)
from wavdiff.data.order import MicroBatchSampler, TrainingKey
from wavdiff.data.protocols import EncodedImage, FirstImages, classes_of
from wavdiff.models import find_family
from wavdiff.models.family import Family
from wavdiff.models.run_config import RunConfig
from wavdiff.system.errors import WavdiffError

Batch = dict[str, Any]
"""Tensors of the family's examples, stacked, and the names of their images under "label"."""


class TrainingExamples(torch.utils.data.Dataset[Batch]):
    """Examples by key: ((image, seed, strength of augmentation), whether it is a strong one).

    Everything random about an example is drawn from its own seed, so its loss does not depend on the batch, the process
    or the worker it meets, and an interrupted run continues exactly.

    Args:
        images: the augmented images.
        example: makes an example, see `Family.example`.
        classed: whether examples have the name of their image's class.
    """

    def __init__(
        self,
        images: ExampleDataset,
        example: Callable[[Tensor, torch.Generator, bool], dict[str, Tensor]],
        classed: bool = False,
    ) -> None:
        self.images, self.example, self.classed = images, example, classed

    def __getitem__(self, key: TrainingKey) -> Batch:
        """One example; every value is a tensor without the batch dimension, or the name."""
        (image, seed, _), strong = key
        generator = torch.Generator().manual_seed(seed >> 1)
        example = self.example(self.images[key[0]], generator, strong)
        named = image.label if isinstance(image, EncodedImage) else cast(ImageSource, self.images.source).label(image)
        if self.classed:
            example["class"] = self.images.source.class_of(image)  # type: ignore[union-attr]
        return {**example, "label": named}


def _leave_signals_to_the_parent(worker: int) -> None:
    """Ctrl-C reaches all processes of a terminal, SIGTERM often all of a job; the parent finishes its step first.

    So its workers must live so long. They end when the batches are closed, or by themselves when the parent is gone.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def training_batches(
    config: RunConfig, source: Images, *, start: int, stop: int, rank: int = 0, processes: int = 1
) -> Generator[Batch, None, None]:
    """Micro-batches of one process, a function of the step alone.

    Args:
        config: the run's configuration.
        source: the training images.
        start: the first step.
        stop: the step to stop before.
        rank: number of this process.
        processes: how many there are; together they see the same global batch whatever their number. Every process
            reads all of a stream, but decodes only its own part.

    Yields:
        `training.accumulation` batches for every step.
    """
    training = config.training
    fields = dataclasses.asdict(config.data.augmentation)
    del fields["gray"]  # is the family's
    calm = fields.pop("calm_strength")
    images = ExampleDataset(source, **config.example_settings, augmentation=Augmentation(**fields))
    # A family without a model: workers need none.
    family = find_family(config.family)(config)
    examples = TrainingExamples(images, family.example, family.needs_classes)
    settings = (training.batch_size, training.seed, start, stop, config.strong_fraction, calm)
    order = (
        StatelessBatchSampler(len(source), *settings)
        if isinstance(source, Sized)
        else StreamBatchSampler(source, *settings)
    )
    loader = torch.utils.data.DataLoader(
        examples,
        batch_sampler=MicroBatchSampler(order, training.accumulation, rank, processes),
        num_workers=config.data.workers,
        pin_memory=torch.cuda.is_available(),  # so that a batch travels to the GPU beside its work
        persistent_workers=False,
        worker_init_fn=_leave_signals_to_the_parent,
        # Else a loader that starts draws from the chance of the step it starts at, and dropout there would differ.
        generator=torch.Generator().manual_seed(training.seed),
    )
    iterator = iter(loader)
    try:
        yield from iterator
    except WavdiffError as error:
        # A worker hands its error over as text, with the traceback around the message.
        raise WavdiffError(str(error).strip().rpartition("WavdiffError: ")[2]) from error
    finally:
        _end_workers(iterator)


def _end_workers(iterator: Any) -> None:
    """End the data workers now: a traceback may keep the iterator alive, and then the program waits for them at exit.

    The loader asks them first, and stops reporting their deaths as errors. Those that do not answer in time are killed:
    its own last word, SIGTERM, they do not heed.
    """
    shut_down = getattr(iterator, "_shutdown_workers", None)
    if shut_down is not None:
        shut_down()
    for worker in getattr(iterator, "_workers", []):
        if worker.is_alive():
            worker.kill()
            worker.join()


def open_data(config: RunConfig) -> tuple[Images, ImageSource]:
    """(training images, held-out images); with `data.validation`, those groups stand in for the held-out images."""
    data = config.data
    folder = Path(data.data_dir).expanduser() if data.data_dir else None
    decoded = Path(data.decoded_cache).expanduser() if data.decoded_cache else None
    channels = config.channels
    train = open_source(
        data.name, "train", folder, channels, data.validation, data.cache_megabytes, decoded, data.shuffle_buffer
    )
    if data.images is not None:
        if not isinstance(train, Sized):
            raise WavdiffError(f"data.images: {data.name!r} is a stream, whose images have no numbers")
        train = FirstImages(train, data.images)
    held = open_source(data.name, "validation" if data.validation else "heldout", folder, channels, data.validation)
    return train, cast(ImageSource, held)


def heldout_images(family: Family[Any, Any], source: ImageSource, limit: int) -> Tensor:
    """At most so many held-out images as examples (N, C, H, W); a family that needs their classes is given them.

    Raises:
        WavdiffError: an image that cannot become an example, or too few to show all classes.
    """
    chosen: Any = source
    if family.needs_classes and classes_of(source):
        chosen = FirstImages(source, min(limit, len(source)))
        family.heldout_classes = [chosen.class_of(place) for place in range(len(chosen))]
    return heldout_batch(chosen, **family.config.example_settings, limit=limit)
