"""What a step says, what is written of many steps, and `stats.jsonl`."""

from __future__ import annotations

import json
import math
import os
from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wavdiff.models.heldout_names import flat_numbers
from wavdiff.system.atomic import written_whole

LEVEL_EDGES = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Where the classes of noise levels meet, standardised units."""
LEVEL_NAMES = (
    f"<{LEVEL_EDGES[0]:g}",
    *(f"{low:g}-{high:g}" for low, high in zip(LEVEL_EDGES[:-1], LEVEL_EDGES[1:], strict=True)),
    f">{LEVEL_EDGES[-1]:g}",
)


def level_class(level: float) -> int:
    """Number of the class in `LEVEL_NAMES` of a standardised noise level."""
    return bisect_right(LEVEL_EDGES, level)


def class_sums(levels: list[float] | None, losses: list[float]) -> list[float]:
    """Sums of the losses, then counts, by class of noise level; (B,) each. Without levels all are 0."""
    sums, counts = [0.0] * len(LEVEL_NAMES), [0.0] * len(LEVEL_NAMES)
    for level, loss in zip(levels or [], losses, strict=levels is not None):
        place = level_class(level)
        sums[place] += loss
        counts[place] += 1
    return sums + counts


@dataclass
class StepOutcome:
    """One optimiser step; all by part.

    Attributes:
        loss: mean over the batch.
        gradient_norm: before clipping.
        learning_rate: of this step.
        classes: see `class_sums`.
        skipped: parts whose loss or gradient was not finite; they learned nothing.
        images: where a part was skipped: of every example, whether its losses are finite, and what it is.
        code: 0 to go on, else why to stop, see `StopRequest.code`.
        waited: seconds spent waiting for data.
        seconds: of the whole step.
    """

    loss: dict[str, float]
    gradient_norm: dict[str, float]
    learning_rate: dict[str, float]
    classes: dict[str, list[float]]
    skipped: list[str] = field(default_factory=list)
    images: list[tuple[bool, str]] = field(default_factory=list)
    code: int = 0
    waited: float = 0.0
    seconds: float = 0.0


class Recent:
    """Sums over the steps since the last record; kept in checkpoints, so that interruptions change no record."""

    def __init__(self, state: Any = None) -> None:
        known = state if isinstance(state, dict) else {}  # version 1 kept a list of steps
        self.steps: int = known.get("steps", 0)
        self.seconds: float = known.get("seconds", 0.0)
        self.waited: float = known.get("waited", 0.0)
        self.loss: dict[str, list[float]] = known.get("loss", {})
        self.norm: dict[str, list[float]] = known.get("norm", {})
        self.classes: dict[str, list[float]] = known.get("classes", {})
        self.skipped: dict[str, int] = known.get("skipped", {})
        self.rates: dict[str, float] = known.get("rates", {})

    def state(self) -> dict[str, Any]:
        """What makes an equal object."""
        return dict(vars(self))

    def add(self, outcome: StepOutcome) -> None:
        """Count one step; what is not finite is counted as skipped and enters no mean."""
        self.steps += 1
        self.seconds += outcome.seconds
        self.waited += outcome.waited
        self.rates = outcome.learning_rate
        for name in outcome.loss:
            if name in outcome.skipped:
                self.skipped[name] = self.skipped.get(name, 0) + 1
                continue
            for sums, value in ((self.loss, outcome.loss[name]), (self.norm, outcome.gradient_norm[name])):
                total = sums.setdefault(name, [0.0, 0.0])
                total[0] += value
                total[1] += 1
            before = self.classes.setdefault(name, [0.0] * (2 * len(LEVEL_NAMES)))
            self.classes[name] = [a + b for a, b in zip(before, outcome.classes[name], strict=True)]

    def record(self, batch_size: int) -> dict[str, Any]:
        """Means over the steps."""
        count = len(LEVEL_NAMES)
        by_level = {
            name: {
                label: round(sums[place] / sums[count + place], 6)
                for place, label in enumerate(LEVEL_NAMES)
                if sums[count + place]
            }
            for name, sums in self.classes.items()
        }
        record: dict[str, Any] = {
            "loss": {name: round(total / number, 6) for name, (total, number) in self.loss.items()},
            "gradient_norm": {name: round(total / number, 4) for name, (total, number) in self.norm.items()},
            "learning_rate": self.rates,
            "loss_by_level": {name: row for name, row in by_level.items() if row},
            "images_per_second": round(batch_size * self.steps / max(self.seconds, 1e-9), 2),
            "waiting_for_data": round(self.waited / max(self.seconds, 1e-9), 4),
        }
        if self.skipped:
            record["skipped"] = dict(self.skipped)
        return record


def append_record(path: Path, record: dict[str, Any]) -> None:
    """Add one line to `stats.jsonl`."""
    with path.open("a+b") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
        broken = file.read(1) not in (b"", b"\n")  # a line that a full disk cut off
        file.write(((b"\n" if broken else b"") + json.dumps(record).encode()) + b"\n")


def forget_records_after(path: Path, step: int) -> None:
    """Drop the records of later steps, which will be run again, and what an interruption cut off."""
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    kept = "".join(line + "\n" for line in lines if _step_of(line) <= step)
    with written_whole(path) as file:
        file.write(kept.encode())


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def read_stats(path: Path) -> list[dict[str, Any]]:
    """All records of a stats.jsonl, with flat names of held-out numbers; lines that were cut off are passed over."""
    records = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                record = json.loads(line)
                if not isinstance(record["step"], int):
                    continue
                if "heldout" in record:  # nested tables until 0.5.0
                    record["heldout"] = flat_numbers(record["heldout"])
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                continue
            records.append(record)
    return records


def last_heldout(path: Path, step: int | None = None) -> dict[str, Any] | None:
    """The newest record with held-out numbers, up to `step` where that is given, or None."""
    found = [record for record in read_stats(path) if "heldout" in record and (step is None or record["step"] <= step)]
    return found[-1] if found else None
