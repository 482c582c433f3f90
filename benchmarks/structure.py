"""Measure the package as a building: lines, largest pieces, rows to add a thing; and its speed beside another checkout.

    python benchmarks/structure.py                              # this checkout
    python benchmarks/structure.py --before ../wavdiff-0.5.0    # both, with ratios of times measured in turns

Times are of whole processes, in seconds of processor time (user and system, children too), the median over `--runs`
pairs that alternate, so that a machine whose speed drifts slows both alike.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]

SAMPLE = """
import torch, wavdiff
torch.set_num_threads(1)
wavdiff.sample(wavdiff.load("faces"), n=64, seed=0)
"""
RESTORE = """
import torch, wavdiff
torch.set_num_threads(1)
picture = torch.rand(3, 512, 512, generator=torch.Generator().manual_seed(0)) * 2 - 1
wavdiff.denoise(picture, 25 / 255, model="photos")
wavdiff.upscale(picture[:, :256, :256], 2, model="photos")
"""
TRAIN = """
import sys, torch, wavdiff
torch.set_num_threads(1)
never = ["training.evaluate_every=0", "training.sample_every=0", "training.checkpoint_every=1000"]
wavdiff.train("faces", out=sys.argv[1], overrides=["training.steps=6", "training.scale_steps={}", *never])
"""
TIMED = {
    "import wavdiff": ["-c", "import wavdiff"],
    "wavdiff --help": ["-m", "wavdiff.cli", "--help"],
    "sample --n 64 (faces)": ["-c", SAMPLE],
    "denoise and enlarge 512x512": ["-c", RESTORE],
    "6 training steps (faces)": ["-c", TRAIN, "OUT"],
}


def structure(root: Path) -> dict[str, str]:
    """Lines and largest pieces of a checkout."""
    package = root / "wavdiff"
    files = {path: path.read_text(encoding="utf-8") for path in package.rglob("*.py") if "weights" not in path.parts}
    lines = {path: text.count("\n") for path, text in files.items()}
    classes = {
        f"{path.relative_to(package)}:{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path, text in files.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ClassDef)
    }
    longest, largest = max(lines, key=lambda path: lines[path]), max(classes, key=lambda name: classes[name])
    entries = [
        path for path in package.iterdir() if path.suffix == ".py" or any(path.rglob("*.py")) or path.name == "weights"
    ]
    names = [path.name for path in files if path.name != "__init__.py"]
    return {
        "lines in wavdiff/": f"{sum(lines.values()):,}",
        "largest file": f"{lines[longest]} ({longest.relative_to(package)})",
        "largest class": f"{classes[largest]} ({largest})",
        "folders and modules directly under wavdiff/": str(len(entries)),
        "file names that occur more than once": ", ".join(sorted({n for n in names if names.count(n) > 1})) or "none",
    }


def processor_seconds(root: Path, command: list[str]) -> float:
    """User and system seconds of a process and its children."""
    with tempfile.TemporaryDirectory() as folder:
        words = [folder if word == "OUT" else word for word in command]
        environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{' '.join(words[:2])} in {root}: {done.stderr[-500:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="another checkout to stand beside this one")
    parser.add_argument("--runs", type=int, default=3, help="pairs of timed runs")
    parser.add_argument("--only", help="time only what has this in its name")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    options = parser.parse_args()
    roots = [HERE] if options.before is None else [options.before.resolve(), HERE]
    tables = [structure(root) for root in roots]
    for name in tables[0]:
        print(f"{name}: " + " -> ".join(table[name] for table in tables))
    times = {}
    for name, command in TIMED.items():
        if options.only and options.only not in name:
            continue
        pairs = [[processor_seconds(root, command) for root in roots] for _ in range(options.runs)]
        medians = [statistics.median(column) for column in zip(*pairs, strict=True)]
        times[name] = pairs
        ratio = statistics.median(pair[-1] / pair[0] for pair in pairs)
        print(f"{name}: " + " -> ".join(f"{value:.2f} s" for value in medians) + f", ratio {ratio:.3f}", flush=True)
    if options.json:
        options.json.write_text(json.dumps({"structure": tables, "seconds": times}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
