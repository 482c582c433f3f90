"""What to measure of a model that is no cascade."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import shown

MOST_DRAWS = 100_000


@dataclass(frozen=True)
class FamilyRequest:
    """What to measure.

    Attributes:
        model: a name or a folder.
        data, data_dir: other data than those of its training, as for `open_source`.
        limit: at most so many held-out images, the first.
        importance: draws of the latents for the closer bound of a VAE; None: 100.
        seed: of all draws.
        update_card: whether the report goes into the model's card.
    """

    model: str
    data: str | None = None
    data_dir: Path | None = None
    limit: int = 100
    importance: int | None = None
    seed: int = 0
    update_card: bool = False

    def __post_init__(self) -> None:
        for name, value, most in (("--limit", self.limit, 2**62), ("--importance", self.importance, MOST_DRAWS)):
            if value is not None and not 1 <= value <= most:
                raise WavdiffError(f"{name} must be between 1 and {most}, got {shown(value)}")
