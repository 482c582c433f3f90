"""Hostile inputs through every command: what is refused, what is accepted, and whether anything breaks.

    python benchmarks/fuzz.py --inputs 1000 --seed 0

The inputs are those of `tests/hostile.py`: damaged pictures, model folders, configurations and options, each a function
of the seed and a number. They run one after the other in a child process of bounded memory, which is started again
where it dies. For every command and kind the table counts the inputs tried, refused with an error, accepted (a damaged
file may still be a picture; its result is then opened), and the defects: tracebacks, changed inputs, files left over
after an error, messages of more than two lines (or none), results that cannot be opened, time-outs, deaths of the
child. The exit status is 1 if there is any.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from hostile import KINDS, TINY, Result, attempt, main_process_note, make_case, run

DEFECTS = ("traceback", "input damaged", "left over", "message", "bad result", "time-out", "death")
ADDRESS_SPACE = 12 * 2**30
SECONDS = 20.0


def good_model(work: Path) -> Path:
    """A tiny model, trained by the command line."""
    import numpy as np
    import yaml
    from PIL import Image

    (work / "good").mkdir()
    for index in range(4):
        pixels = np.random.default_rng(index).integers(0, 255, (20, 20)).astype(np.uint8)
        Image.fromarray(pixels).save(work / "good" / f"{index}.png")
    (work / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    data, out = str(work / "good"), str(work / "run")
    code, _, err, crash = run(["train", "--data", data, "--config", str(work / "tiny.yaml"), "--out", out], 120)
    if code:
        sys.exit(f"the tiny model cannot be trained: {err}{crash}")
    return work / "run" / "model"


def child(work: Path, seed: int, start: int, stop: int) -> None:
    """Run the cases from `start` on; a line of JSON before and after each."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    model = work / "run" / "model"
    if not model.is_dir():
        good_model(work)
    for index in range(start, stop):
        print(json.dumps({"begin": index}), file=answers)
        place = work / f"case{index}"
        place.mkdir()
        case = make_case(seed, index, place, model)
        _forget_peak()
        began = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = attempt(case, place, SECONDS)
        result.seconds, result.rss_mb = time.perf_counter() - began, _peak()
        shutil.rmtree(place, ignore_errors=True)
        print(json.dumps({"index": index, **dataclasses.asdict(result)}), file=answers)


def _forget_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _peak() -> float:
    """Largest resident memory since it was forgotten, MB."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1e3
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def results(work: Path, seed: int, count: int, first: int = 0) -> list[Result]:
    """What came of all cases; a child that dies or hangs costs the case that it was at."""
    found: list[Result] = []
    index = first
    while index < first + count:
        command = [sys.executable, __file__, "--child", str(work), "--seed", str(seed)]
        command += ["--first", str(index), "--inputs", str(first + count - index)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            current = index - 1
            for line in _lines(process.stdout.fileno(), 3 * SECONDS + 60):
                answer = json.loads(line)
                if "begin" in answer:
                    current = answer["begin"]
                else:
                    index = answer.pop("index") + 1
                    found.append(Result(**answer))
            try:
                hung = process.wait(5) == -9  # killed from outside, by another's time limit
            except subprocess.TimeoutExpired:
                hung = True
            process.kill()
            process.wait()
            if current == index - 1 and index < first + count and not found:
                sys.exit("the child cannot start")
            if index < first + count:  # it died or hung
                defect = "time-out" if hung else "death"
                case = KINDS[index % len(KINDS)]
                found.append(Result(*case, f"case {index}", None, "", [defect]))
                shutil.rmtree(work / f"case{index}", ignore_errors=True)
                index += 1
    return found


def _lines(descriptor: int, seconds: float) -> Iterator[bytes]:
    """The lines of a pipe, until it ends or says nothing for so long."""
    rest = b""
    while select.select([descriptor], [], [], seconds)[0] and (content := os.read(descriptor, 1 << 16)):
        *lines, rest = (rest + content).split(b"\n")
        yield from lines


def table(found: list[Result]) -> str:
    """Command x kind, in Markdown."""
    rows: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in found:
        rows[result.command, result.kind].append(result)
    heads = ("command", "kind", "tried", "refused", "accepted", *DEFECTS, "lines", "peak MB", "longest s")
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    total: list[Result] = []
    for command, kind in (*sorted(rows), ("all", "")):
        some = total if command == "all" else rows[command, kind]
        total = total + some if command != "all" else total
        counts = Counter(defect for result in some for defect in result.defects)
        refused = [result for result in some if result.code]
        longest = max((len(result.message.splitlines()) for result in refused), default=0)
        cells = [command, kind, len(some), len(refused), sum(result.code == 0 for result in some)]
        cells += [counts[defect] for defect in DEFECTS]
        cells += [longest, round(max(r.rss_mb for r in some)), round(max(r.seconds for r in some), 1)]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1000, help="number of inputs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--messages", action="store_true", help="print every message as well")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        child(options.child, options.seed, options.first, options.first + options.inputs)
        return 0
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="wavdiff-fuzz-") as work:
        found = results(Path(work), options.seed, options.inputs, options.first)
    for result in found:
        if result.defects or options.messages:
            print(f"{result.command} / {result.kind} / {result.name}: {', '.join(result.defects) or result.code}")
            print(f"    {result.message[:400]!r}")
            print("    " + result.detail[-1500:].replace("\n", "\n    "))
    print(table(found))
    bad = sum(bool(result.defects) for result in found)
    print(f"\n{len(found)} inputs, {bad} with a defect, {time.perf_counter() - began:.0f} s. {main_process_note()}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
