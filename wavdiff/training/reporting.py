"""What a run says while it goes on: records, curves and contact sheets."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from wavdiff.images import image_grid, save_image
from wavdiff.models.family import Family
from wavdiff.training.averages import Averages
from wavdiff.training.dashboard import Dashboard
from wavdiff.training.records import append_record
from wavdiff.training.state import RunState

Report = Callable[[dict[str, Any]], None]
SHEET_IMAGES = 8


class Reporter:
    """Writes records and contact sheets; what cannot be written is a warning.

    Args:
        folder: of the run.
        step: where the run goes on; curves of later steps are shown no more.
        report: called with every record.
    """

    def __init__(self, folder: Path, step: int, report: Report) -> None:
        self.folder, self.report = folder, report
        self.dashboard = Dashboard(folder / "tensorboard", purge_step=step)

    def record(self, state: RunState, content: dict[str, Any]) -> None:
        """Add a record to stats.jsonl."""
        head = {"step": state.step, "images": state.images_seen, "elapsed_seconds": round(state.seconds, 1)}
        record, path = {**head, **content}, self.folder / "stats.jsonl"
        try:
            append_record(path, record)
        except OSError as error:
            warnings.warn(f"{path} cannot be written ({error.strerror})", stacklevel=2)
        self.dashboard.add_record(record)
        self.report(record)

    def sheet(self, step: int, sheet: Tensor) -> None:
        """Write a contact sheet (C, H, W) in [-1, 1]."""
        folder = self.folder / "samples"
        try:
            folder.mkdir(exist_ok=True)
            save_image(folder / f"step-{step:08d}.png", sheet)
        except OSError as error:
            warnings.warn(f"{folder} cannot be written ({error.strerror or error})", stacklevel=2)
        self.dashboard.add_picture("samples (raw above, averaged below)", sheet, step)

    def close(self) -> None:
        """Write what is still waiting."""
        self.dashboard.close()


def contact_sheet(
    family: Family[Any, Any], model: nn.Module, averages: Averages, accelerator: Accelerator
) -> Tensor | None:
    """Images of the same seeds, raw weights above, averaged below; every process draws its share.

    Returns:
        (C, H, W) in [-1, 1]; None in all but the main process, and where the family draws nothing.
    """
    rank, processes = accelerator.process_index, accelerator.num_processes
    seeds = list(range(SHEET_IMAGES))[rank::processes]
    drawn: list[tuple[int, int, Tensor]] = []

    def draw(row: int) -> None:
        images = family.draw(model, seeds) if seeds else None
        if images is not None:
            drawn.extend((row, seed, image.float().cpu().clone()) for image, seed in zip(images, seeds, strict=True))

    model.eval()
    draw(0)
    with averages.applied(model):
        draw(1)
    if processes > 1:
        drawn = gather_object(drawn)
    if not drawn or not accelerator.is_main_process:
        return None
    images = [image for *_, image in sorted(drawn, key=lambda item: item[:2])]
    return image_grid(torch.stack(images), columns=SHEET_IMAGES)
