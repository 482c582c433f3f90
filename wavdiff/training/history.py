"""Reading back what a run logged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_stats(path: Path) -> list[dict[str, Any]]:
    """All records of a stats.jsonl; lines cut off by an interruption are passed over."""
    records = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(record, dict) and isinstance(record.get("step"), int):
                records.append(record)
    return records


def last_heldout(path: Path, step: int | None = None) -> dict[str, Any] | None:
    """The newest record with held-out numbers, up to `step` where that is given, or None."""
    found = [record for record in read_stats(path) if "heldout" in record and (step is None or record["step"] <= step)]
    return found[-1] if found else None
