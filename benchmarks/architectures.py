"""Which networks to train: short trainings of variants of a configuration, quality against multiply-adds.

Every variant changes one thing of the first. All are trained by `wavdiff train` with the same data, seed, number of
steps and batch, with a schedule that ends, and judged by the PSNR of denoising on the held-out images. Short trainings
favour small networks: a variant that is ahead here although it is larger is a safe choice, one that is behind is not
refuted. One seed each: differences of a few hundredths of a dB mean nothing.

    python benchmarks/architectures.py --data photos --steps 600 --out architectures
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from wavdiff.models.cascade.training.standardisation import build_cascade
from wavdiff.models.heldout_names import table_of
from wavdiff.training.config import from_mapping, read_mapping
from wavdiff.training.records import last_heldout

BASE = ["model.details.width=64", "model.lowpass.width=64", "model.scale_networks={}"]
VARIANTS = {
    "64 wide, 10 deep, 21x21, 3 levels": [],
    "96 wide": ["model.details.width=96", "model.lowpass.width=96"],
    "32 wide": ["model.details.width=32", "model.lowpass.width=32"],
    "14 deep, 29x29": [
        *("model.details.depth=14", "model.details.receptive_field=29"),
        *("model.lowpass.depth=14", "model.lowpass.receptive_field=29"),
    ],
    "6 deep, 13x13": [
        *("model.details.depth=6", "model.details.receptive_field=13"),
        *("model.lowpass.depth=6", "model.lowpass.receptive_field=13"),
    ],
    "10 deep, 13x13 (four layers 1x1)": ["model.details.receptive_field=13", "model.lowpass.receptive_field=13"],
    "2 levels": ["model.levels=2"],
    "1 level": ["model.levels=1"],
    "two ReLUs in a block (preactivated)": ["model.details.preactivated=true", "model.lowpass.preactivated=true"],
    "every example counts by its squared error": ["training.balance=0"],
    "silu, preactivated": [
        *("model.details.activation=silu", "model.details.preactivated=true"),
        *("model.lowpass.activation=silu", "model.lowpass.preactivated=true"),
    ],
    "wavelet db2": ["model.wavelet=db2"],
    "batches of 12, a third of the steps": ["training.batch_size=12"],
}
SIGMAS = ("5", "10", "25", "50")


def main() -> None:
    """Train what is not trained yet and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--config", default="photos")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--out", type=Path, default=Path("architectures"))
    parser.add_argument("--only", action="append", help="part of a variant's name; may be repeated")
    options = parser.parse_args()
    rows = []
    for number, (name, changes) in enumerate(VARIANTS.items()):
        if options.only and not any(part in name for part in options.only):
            continue
        steps = options.steps // 3 if "third" in name else options.steps
        settings = [*BASE, *changes, f"training.steps={steps}", "training.warmup_steps=50"]
        settings += ["training.evaluate_every=1000000", f"training.checkpoint_every={steps}"]
        out = options.out / f"{number:02d}-{options.steps}"
        began = time.perf_counter()
        command = [sys.executable, "-m", "wavdiff.cli", "train", "--config", options.config, "--data", options.data]
        command += ["--out", str(out), *(part for setting in settings for part in ("--set", setting))]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        minutes = (time.perf_counter() - began) / 60
        config = from_mapping(read_mapping(options.config), settings)
        cascade = build_cascade(config, 1.0, [1.0] * config.model.levels)
        record = last_heldout(out / "stats.jsonl")
        assert record is not None
        psnr = table_of(record["heldout"], "psnr")["0"]
        seconds = json.loads((out / "stats.jsonl").read_text().splitlines()[-1])["elapsed_seconds"]
        rows.append((name, cascade.multiply_adds_per_pixel(), [psnr[sigma] for sigma in SIGMAS], seconds))
        print(f"{name}: {minutes:.1f} minutes, {psnr}", file=sys.stderr, flush=True)
    print("| variant | multiply-adds per pixel | " + " | ".join(f"{sigma}/255" for sigma in SIGMAS) + " | training |")
    print("|---" * (len(SIGMAS) + 3) + "|")
    for name, count, values, seconds in rows:
        cells = " | ".join(f"{value:.2f}" for value in values)
        print(f"| {name} | {count:,.0f} | {cells} | {seconds / 60:.1f} min |")


if __name__ == "__main__":
    main()
