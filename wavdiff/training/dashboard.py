"""TensorBoard, where it is installed."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import Any

from torch import Tensor


class Dashboard:
    """Writes a run's records and sample grids as TensorBoard events; does nothing where TensorBoard is not installed.

    Args:
        folder: where the events go.
        purge_step: events of later steps, written before an interruption, are shown no more.
    """

    def __init__(self, folder: Path, purge_step: int = 0) -> None:
        self._writer: Any = None
        self._folder = folder
        if importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            try:
                self._writer = SummaryWriter(str(folder), purge_step=purge_step + 1)
            except OSError as error:
                warnings.warn(f"no curves: {folder} cannot be written ({error.strerror})", stacklevel=2)

    def add_record(self, record: dict[str, Any]) -> None:
        """Every number of a record of stats.jsonl, under the names of its place there."""
        step = record["step"]
        for name, value in _numbers("", {key: item for key, item in record.items() if key != "step"}):
            self._try("add_scalar", name, value, step)

    def add_picture(self, name: str, picture: Tensor, step: int) -> None:
        """A picture (C, H, W) in [-1, 1]."""
        self._try("add_image", name, ((picture + 1) / 2).clamp(0, 1), step)

    def close(self) -> None:
        """Write what is still waiting."""
        self._try("close")

    def _try(self, method: str, *arguments: Any) -> None:
        """Curves are no reason to lose a training: where they cannot be written, they end with a warning."""
        if self._writer is None:
            return
        try:
            getattr(self._writer, method)(*arguments)
        except OSError as error:
            self._writer = None
            warnings.warn(f"no more curves: {self._folder} cannot be written ({error.strerror})", stacklevel=3)


def _numbers(prefix: str, value: Any) -> list[tuple[str, float]]:
    if isinstance(value, dict):
        return [
            pair for key, item in value.items() for pair in _numbers(f"{prefix}/{key}" if prefix else str(key), item)
        ]
    return [(prefix, float(value))] if isinstance(value, (int, float)) else []
