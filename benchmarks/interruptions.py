"""Kill a training at random moments, resume it, and compare the end with that of an uninterrupted run, to the bit.

Every trial forks a process that trains a small cascade (evaluations, sample grids and checkpoints at different steps),
kills it with SIGKILL at a moment drawn uniformly over the duration of an uninterrupted run, and lets a second process
run the same training to its end. Trials go in turn through several settings: plain, two data workers, gradient
accumulation, bfloat16. Compared are all tensors of the last checkpoint (weights, averages, moments), its state, the
records of stats.jsonl but for what a clock says, and the model.

    python benchmarks/interruptions.py --trials 50
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from wavdiff.training.checkpoints import list_checkpoints
from wavdiff.training.config import RunConfig, from_mapping
from wavdiff.training.records import read_stats
from wavdiff.training.trainer import Trainer

CLOCK = ("elapsed_seconds", "images_per_second", "waiting_for_data")
VARIANTS = {
    "plain": [],
    "two workers": ["data.workers=2"],
    "accumulation 2": ["training.accumulation=2"],
    "bfloat16": ["training.precision=bf16"],
}
MODEL = {
    "image_size": [16, 16],
    "levels": 2,
    "lowpass": {"kind": "global", "width": 8, "depth": 1, "stages": 1},
    "details": {"kind": "local", "width": 8, "depth": 4, "receptive_field": 7, "dropout": 0.1},
    "ladders": {"lowpass": {"steps": 4}, "details": {"steps": 3}},
}
TRAINING = {
    "batch_size": 4,
    "warmup_steps": 2,
    "precision": "float32",
    "log_every": 3,
    "evaluate_every": 7,
    "sample_every": 8,
    "checkpoint_every": 4,
}


def configuration(data: Path, steps: int, changes: list[str]) -> RunConfig:
    """The small training."""
    data_section = {"name": str(data), "heldout_limit": 4, "augmentation": {"flip": True, "shift": 0.1}}
    mapping = {"model": MODEL, "data": data_section, "training": TRAINING | {"steps": steps}}
    return from_mapping(mapping, changes)


def make_pictures(folder: Path) -> None:
    """Write 24 small pictures of blocks."""
    generator = np.random.default_rng(0)
    folder.mkdir()
    for number in range(24):
        blocks = generator.integers(0, 256, size=(6, 6), dtype=np.uint8).repeat(4, axis=0).repeat(4, axis=1)
        Image.fromarray(blocks).save(folder / f"{number:02d}.png")


def start(config: RunConfig, out: Path) -> multiprocessing.process.BaseProcess:
    """Train in a forked process of its own group, so that its data workers end with it."""

    def work() -> None:
        os.setsid()
        warnings.simplefilter("ignore")
        torch.set_num_threads(1)
        Trainer(config, out).run()

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return process


def contents(run: Path) -> dict[str, Any]:
    """Everything about the end of a run that must not depend on interruptions."""
    newest = list_checkpoints(run / "checkpoints")[-1]
    state = json.loads((newest / "state.json").read_text())
    for clock in ("seconds", "recent", "sha256"):
        state.pop(clock, None)
    records = [{k: v for k, v in record.items() if k not in CLOCK} for record in read_stats(run / "stats.jsonl")]
    tensors = {}
    weights = run / "model" / "cascade" / "diffusion_pytorch_model.safetensors"
    for path in (*sorted(newest.glob("*.safetensors")), weights):
        for name, value in load_file(path).items():
            tensors[f"{path.name}:{name}"] = value.numpy().tobytes()
    return {"state": state, "records": records, "tensors": tensors}


def main() -> None:
    """Run the trials and print a line for each setting."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    results: dict[str, list[bool]] = {name: [] for name in VARIANTS}
    moments = []
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        make_pictures(place / "pictures")
        expected, durations = {}, {}
        for number, (name, changes) in enumerate(VARIANTS.items()):
            began = time.perf_counter()
            process = start(configuration(place / "pictures", options.steps, changes), place / f"whole-{number}")
            process.join()
            assert process.exitcode == 0, f"the uninterrupted run ({name}) failed"
            durations[name] = time.perf_counter() - began
            expected[name] = contents(place / f"whole-{number}")
        for trial in range(options.trials):
            name = list(VARIANTS)[trial % len(VARIANTS)]
            config = configuration(place / "pictures", options.steps, VARIANTS[name])
            out = place / f"trial-{trial}"
            process = start(config, out)
            process.join(chance.uniform(0, durations[name]))
            killed = process.exitcode is None
            if killed:
                assert process.pid is not None
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except ProcessLookupError:  # it has no group of its own yet
                    os.kill(process.pid, signal.SIGKILL)
                process.join()
            found = list_checkpoints(out / "checkpoints")
            moments.append(int(found[-1].name[5:]) if found else 0)
            process = start(config, out)
            process.join()
            results[name].append(process.exitcode == 0 and contents(out) == expected[name])
    for name, equal in results.items():
        print(f"{name:15} {sum(equal)} of {len(equal)} equal to the bit (a run takes {durations[name]:.1f} s)")
    equal = [value for values in results.values() for value in values]
    print(
        f"{'all':15} {sum(equal)} of {len(equal)} equal to the bit; checkpoints found at steps {sorted(set(moments))}"
    )
    sys.exit(0 if all(equal) else 1)


if __name__ == "__main__":
    main()
