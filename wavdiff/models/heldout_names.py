"""Names of held-out numbers: "what/part@group", such as "loss/low@0.5", in one flat table.

"psnr_in/0@25" beside "psnr/0@25" is the same number before the model did anything.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any


def flat_numbers(tables: dict[str, Any]) -> dict[str, float]:
    """The flat form of {"what": {"part": {"group": value or [before, after]}}}; what is flat already stays."""
    flat: dict[str, float] = {}
    for what, parts in tables.items():
        if not isinstance(parts, dict):
            flat[what] = parts
            continue
        for part, row in parts.items():
            for group, value in row.items():
                if isinstance(value, list):
                    flat[f"{what}_in/{part}@{group}"], flat[f"{what}/{part}@{group}"] = value
                else:
                    flat[f"{what}/{part}@{group}"] = value
    return flat


def table_of(numbers: dict[str, float], what: str) -> dict[str, dict[str, float]]:
    """{"part": {"group": value}} of all numbers "what/part@group"."""
    table: dict[str, dict[str, float]] = {}
    for name, value in numbers.items():
        kind, _, rest = name.partition("/")
        if kind == what:
            part, _, group = rest.partition("@")
            table.setdefault(part, {})[group] = value
    return table


def mean_losses(numbers: dict[str, float]) -> dict[str, float]:
    """The mean held-out loss of every part, over its groups."""
    return {part: sum(row.values()) / len(row) for part, row in table_of(numbers, "loss").items()}


def mean_loss(numbers: dict[str, float], parts: Iterable[str]) -> float:
    """One number to compare moments of a run by: the mean held-out loss over parts and groups; nan without any."""
    losses = table_of(numbers, "loss")
    values = [value for part in parts for value in losses.get(part, {}).values()]
    return sum(values) / len(values) if values else math.nan


def headline(numbers: dict[str, float], arrow: str) -> tuple[str, str]:
    """The numbers that say most, as text: what they are, and they themselves.

    They are the PSNR of the finest part by noise level, `arrow` between before and after, or all there are.
    """
    before, after = table_of(numbers, "psnr_in"), table_of(numbers, "psnr")
    if not after:
        return "held-out numbers", ", ".join(f"{name}: {value:.4f}" for name, value in numbers.items())
    part, row = list(after.items())[-1]
    start = {group: f"{value:.2f} {arrow} " for group, value in before.get(part, {}).items()}
    cells = ", ".join(f"{group}: {start.get(group, '')}{value:.2f}" for group, value in row.items())
    return "held-out PSNR in dB by noise level (of 255)", cells
