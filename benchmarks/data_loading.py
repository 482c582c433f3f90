"""How fast training examples come from a folder of many small files, and whether training waits for them.

Makes a temporary folder of `--files` gray PNG pictures (1,000 different ones, the others are links to them) and times

    first start      the index is built: every file is opened once
    later start      the index is checked: the folder is walked through
    batches          training batches per second, after the first, with 0 and 2 workers
    waiting          part of a real run's training steps that is spent in waiting for the next batch

    python benchmarks/data_loading.py
    python benchmarks/data_loading.py --side 96 --config faces --steps 12
    python benchmarks/data_loading.py --data faces --config faces --steps 12
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from wavdiff.data import open_source
from wavdiff.training.batches import training_batches
from wavdiff.training.config import RunConfig, from_mapping, read_mapping
from wavdiff.training.records import StepOutcome
from wavdiff.training.trainer import Trainer

PER_FOLDER = 1000


def write_pictures(folder: Path, count: int, side: int) -> None:
    generator = np.random.default_rng(0)
    for number in range(count):
        place = folder / f"{number // PER_FOLDER:05d}"
        if number % PER_FOLDER == 0:
            place.mkdir()
        if number >= PER_FOLDER:
            os.link(folder / "00000" / f"{number % PER_FOLDER:08d}.png", place / f"{number:08d}.png")
            continue
        coarse = generator.integers(0, 256, size=(side // 8, side // 8), dtype=np.uint8)
        Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(place / f"{number:08d}.png")


class TimedBatches:
    """Batches, and how long it took to get each."""

    def __init__(self, batches: Iterator[Any]) -> None:
        self.batches = batches
        self.seconds: list[float] = []

    def __iter__(self) -> TimedBatches:
        return self

    def __next__(self) -> Any:
        started = time.perf_counter()
        batch = next(self.batches)
        self.seconds.append(time.perf_counter() - started)
        return batch


class WatchedTrainer(Trainer):
    """A trainer that notes how long every step took and how much of it was waiting; seconds."""

    def __init__(self, config: RunConfig, out: Path) -> None:
        super().__init__(config, out)
        self.waits: list[float] = []
        self.steps: list[float] = []

    def _step(self, batches: Iterator[Any], first: int, ask: Callable[[], int]) -> StepOutcome:
        outcome = super()._step(batches, first, ask)
        self.steps.append(outcome.seconds)
        self.waits.append(outcome.waited)
        return outcome


def measure(config: RunConfig, out: Path, batches: int) -> None:
    name, workers = config.data.name, config.data.workers
    source = open_source(name, "train", channels=config.model.channels)
    timed = TimedBatches(training_batches(config, source, start=0, stop=batches + 1))
    for _ in range(batches + 1):
        next(timed)
    seconds = sum(timed.seconds[1:])
    print(f"{workers} workers: {batches / seconds:8.1f} batches of {config.training.batch_size} per second")
    trainer = WatchedTrainer(config, out)
    trainer.run()
    share = sum(trainer.waits[1:]) / sum(trainer.steps[1:])
    print(f"{workers} workers: {share:8.1%} of {len(trainer.steps) - 1} training steps spent in waiting for batches")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--side", type=int, default=64, help="of the pictures, pixels; a multiple of 8")
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--steps", type=int, default=20, help="of the training")
    parser.add_argument("--config", default="tiny", help="preset or YAML file of the training")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="SECTION.NAME=VALUE")
    parser.add_argument("--data", help="measure this source instead of making a folder")
    request = parser.parse_args()
    if request.data:
        with tempfile.TemporaryDirectory() as temporary:
            compare_workers(request, request.data, Path(temporary))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "pictures"
        folder.mkdir()
        os.environ["WAVDIFF_CACHE"] = str(Path(temporary) / "cache")
        started = time.perf_counter()
        write_pictures(folder, request.files, request.side)
        print(f"{request.files:,} files of {request.side}x{request.side}, written in {seconds_since(started)}")
        for what in ("first", "later"):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            started = time.perf_counter()
            open_source(str(folder), "train")
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
            print(f"{what} start: {seconds_since(started)}, peak memory of the process grew by {grown:.0f} MB")
        compare_workers(request, str(folder), Path(temporary))


def compare_workers(request: argparse.Namespace, data: str, place: Path) -> None:
    for workers in (0, 2):
        quiet = [f"training.{name}_every=0" for name in ("evaluate", "sample")]
        changes = [f"data.name={data}", f"data.workers={workers}", f"training.steps={request.steps}", *quiet]
        changes.append("training.scale_steps={}")
        config = from_mapping(read_mapping(request.config), [*request.overrides, *changes])
        measure(config, place / f"run-{workers}", request.batches)


def seconds_since(started: float) -> str:
    return f"{time.perf_counter() - started:.2f} s"


if __name__ == "__main__":
    main()
