"""From a source of images to the micro-batches of one process."""

from __future__ import annotations

import signal
from collections.abc import Generator, Sized
from pathlib import Path
from typing import Any, cast

import torch

from wavdiff.data import (
    Augmentation,
    ExampleDataset,
    Images,
    ImageSource,
    StatelessBatchSampler,
    StreamBatchSampler,
    open_source,
)
from wavdiff.data.order import MicroBatchSampler
from wavdiff.models.cascade.noise import NoiseDistribution
from wavdiff.models.cascade.training.noisy_examples import TrainingBatch, TrainingExamples
from wavdiff.system.errors import WavdiffError
from wavdiff.training.config import RunConfig, to_mapping


def _leave_signals_to_the_parent(worker: int) -> None:
    """Ctrl-C reaches all processes of a terminal, SIGTERM often all of a job; the parent finishes its step first.

    So its workers must live so long. They end when the batches are closed, or by themselves when the parent is gone.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def training_batches(
    config: RunConfig, source: Images, *, start: int, stop: int, rank: int = 0, processes: int = 1
) -> Generator[TrainingBatch, None, None]:
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
    fields = to_mapping(config)["data"]["augmentation"]
    calm = fields.pop("calm_strength")
    gray = fields.pop("gray")
    images = ExampleDataset(source, **example_settings(config), augmentation=Augmentation(**fields))
    noise_fields = to_mapping(config)["noise"]
    fraction = noise_fields.pop("denoising_fraction")
    examples = TrainingExamples(
        images, NoiseDistribution(**noise_fields), config.model.levels, training.low_repeats, gray
    )
    settings = (training.batch_size, training.seed, start, stop, fraction, calm)
    order = (
        StatelessBatchSampler(len(source), *settings)
        if isinstance(source, Sized)
        else StreamBatchSampler(source, *settings)
    )
    loader = torch.utils.data.DataLoader(
        examples,
        batch_sampler=MicroBatchSampler(order, training.accumulation, rank, processes),
        num_workers=config.data.workers,
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
    channels = config.model.channels
    train = open_source(
        data.name, "train", folder, channels, data.validation, data.cache_megabytes, decoded, data.shuffle_buffer
    )
    held = open_source(data.name, "validation" if data.validation else "heldout", folder, channels, data.validation)
    return train, cast(ImageSource, held)


def example_settings(config: RunConfig) -> dict[str, Any]:
    """How an image becomes an example: keyword arguments of `data.heldout_batch` and `data.ExampleDataset`."""
    return {
        "size": config.model.image_size,
        "channels": config.model.channels,
        "crop": config.data.crop,
        "pad": config.data.pad,
    }
