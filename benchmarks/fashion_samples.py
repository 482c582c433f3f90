"""Samples of the shipped `fashion` cascade at a given number of network calls, in the format of fashion_diffusers.py.

    python benchmarks/fashion_samples.py --n 5000 --calls 20 --out ours_20.npy
    python benchmarks/fashion_diffusers.py score ours_20.npy --floor

The calls are shared out: half to the low-pass network and a quarter to each of the two detail scales, or 4 + 3 + 3 of
ten (a call of the cascade costs less than one of a network on the whole image; here calls are counted alike). The
model's own solvers and schedules.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from wavdiff import api


def split_calls(calls: int) -> tuple[int, int]:
    """(low-pass steps, steps of each detail scale) that make `calls` network calls in all."""
    details = max(1, round(0.3 * calls)) if calls < 20 else calls // 4
    return calls - 2 * details, details


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="fashion")
    parser.add_argument("--n", type=int, default=5000)
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cascade = api.load(arguments.model)
    low, details = split_calls(arguments.calls)
    started = time.perf_counter()
    images = api.sample(cascade, arguments.n, arguments.seed, batch_size=100, lowpass_steps=low, detail_steps=details)
    seconds = time.perf_counter() - started
    pixels = ((images[:, 0, 2:30, 2:30] + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()
    np.save(arguments.out, pixels)
    print(f"{arguments.n} images, {low} + {details} + {details} calls, {seconds:.1f} s: {arguments.out}")


if __name__ == "__main__":
    main()
