"""Where a run stands: what a checkpoint's state stores."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

from wavdiff.training.records import Recent, StepOutcome


@dataclass
class RunState:
    """Where a run stands.

    Attributes:
        step: optimiser steps of the run.
        trained: steps by part.
        images_seen: examples of all steps.
        seconds: spent in steps.
        skipped: steps by part from which it learned nothing.
        skipped_in_a_row: such steps of late, of any part.
        best: step, mean held-out loss and parts of the best moment, or None.
        recent: sums since the last record.
    """

    step: int = 0
    trained: dict[str, int] = field(default_factory=dict)
    images_seen: int = 0
    seconds: float = 0.0
    skipped: dict[str, int] = field(default_factory=dict)
    skipped_in_a_row: int = 0
    best: dict[str, Any] | None = None
    recent: Recent = field(default_factory=Recent)

    def __post_init__(self) -> None:
        self._best_before = self.best

    @classmethod
    def read(cls, state: dict[str, Any]) -> RunState:
        """From a checkpoint's state, of version 1 as well, which knew less."""
        known = {name: state[name] for name in vars(cls()) if name in state and name != "recent"}
        return cls(**known, recent=Recent(state.get("recent")))

    def stored(self, parts: list[str], measured: list[float]) -> dict[str, Any]:
        """What a checkpoint keeps: this, the parts that are trained, and the measured numbers."""
        known = {item.name: getattr(self, item.name) for item in fields(self)}
        return {**known, "recent": self.recent.state(), "scales": parts, "standardisation": measured}

    def count(self, outcome: StepOutcome, batch_size: int) -> None:
        """Count one step for all parts that took part in it."""
        self.step += 1
        self.images_seen += batch_size
        self.seconds += outcome.seconds
        self.recent.add(outcome)
        for name in outcome.loss:
            self.trained[name] = self.trained.get(name, 0) + 1
        for name in outcome.skipped:
            self.skipped[name] = self.skipped.get(name, 0) + 1
        self.skipped_in_a_row = self.skipped_in_a_row + 1 if outcome.skipped else 0

    def learned(self, part: str) -> int:
        """Steps from which a part learned."""
        return self.trained.get(part, 0) - self.skipped.get(part, 0)

    def is_best(self, loss: float, parts: list[str]) -> bool:
        """Whether this moment is the best so far, which is then remembered."""
        best = self.best if self.best and self.best.get("scales", parts) == parts else None
        better = math.isfinite(loss) and (best is None or loss < best["heldout_loss"])
        if better:
            self._best_before, self.best = self.best, {"step": self.step, "heldout_loss": loss, "scales": parts}
        return better

    def forget_best(self) -> None:
        """Take back that this moment is the best: it has no checkpoint."""
        if self.best and self.best["step"] == self.step:
            self.best = self._best_before
