"""Resident memory over a long training: the first 1,000 steps against the last 1,000.

A small cascade is trained by the same Trainer as any other, with records, evaluations, sample grids and checkpoints, on
a folder of small pictures that it makes. Resident memory is read after every record of 50 steps.

    python benchmarks/memory_growth.py --steps 20000
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from interruptions import MODEL, TRAINING, make_pictures

from wavdiff.system.allocator import keep_freed_memory
from wavdiff.training.config import from_mapping
from wavdiff.training.trainer import Trainer

PAGE = os.sysconf("SC_PAGE_SIZE")


def resident() -> float:
    """Resident memory of this process in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 2**20


def main() -> None:
    """Train, and print memory at ten places and the two means."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--set", action="append", default=[], help="as for wavdiff train")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    seen: list[tuple[int, float]] = []

    def report(record: dict[str, Any]) -> None:
        if "loss" in record:
            seen.append((record["step"], resident()))

    with tempfile.TemporaryDirectory() as temporary:
        make_pictures(Path(temporary) / "pictures")
        changes = {"steps": options.steps, "log_every": 50, "evaluate_every": 1000, "sample_every": 1000}
        training = TRAINING | changes | {"checkpoint_every": 500}
        data = {"name": f"{temporary}/pictures", "heldout_limit": 4, "augmentation": {"flip": True, "shift": 0.1}}
        config = from_mapping({"model": MODEL, "data": data, "training": training}, options.set)
        began = time.perf_counter()
        Trainer(config, Path(temporary) / "run", report=report).run()
        taken = time.perf_counter() - began
    for place in range(0, len(seen), max(1, len(seen) // 10)):
        print(f"step {seen[place][0]:>7,}: {seen[place][1]:8.1f} MiB")
    first = [memory for step, memory in seen if step <= 1000]
    last = [memory for step, memory in seen if step > options.steps - 1000]
    before, after = sum(first) / len(first), sum(last) / len(last)
    print(f"{options.steps:,} steps in {taken / 60:.1f} minutes, {options.set or 'plain'}")
    print(f"first 1,000 steps {before:.1f} MiB, last 1,000 {after:.1f} MiB: {100 * (after / before - 1):+.2f} %")


if __name__ == "__main__":
    main()
