"""Accelerate for devices, precision and processes: how it is set up, and what happens when processes meet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from accelerate.state import AcceleratorState

from wavdiff.models.run_config import TrainingConfig
from wavdiff.system.devices import has_fast_bfloat16
from wavdiff.system.errors import WavdiffError
from wavdiff.system.processes import LONGEST_WAIT, find_processes

LOST_CONNECTION = ("gloo", "NCCL", "onnection", "closed by peer", "timed out")
"""What torch's messages say when another process is gone."""


def open_accelerator(training: TrainingConfig, bf16_is_safe: bool) -> Accelerator:
    """Devices, precision and processes of a run.

    Raises:
        WavdiffError: processes that were not started for training, or a batch that they cannot share.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bf16 = training.precision == "bf16"
    bf16 = bf16 or (training.precision == "auto" and bf16_is_safe and has_fast_bfloat16(device))
    AcceleratorState._reset_state()  # or a second training in this process could not have another precision
    accelerator = Accelerator(
        mixed_precision="bf16" if bf16 else "no",
        gradient_accumulation_steps=training.accumulation,
        cpu=device.type == "cpu",
        kwargs_handlers=[InitProcessGroupKwargs(timeout=LONGEST_WAIT)],
    )
    started = find_processes().count
    if started != accelerator.num_processes:
        raise WavdiffError(
            f"training in {started} processes needs accelerate launch or torchrun: srun alone starts them apart"
        )
    if accelerator.device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32 where the device has it
        torch.backends.cudnn.benchmark = True  # batches have one size: what is fastest for it is found once
    shares = training.accumulation * accelerator.num_processes
    if training.batch_size % shares:
        raise WavdiffError(
            f"training.batch_size {training.batch_size} is not divisible by accumulation x processes = {shares}"
        )
    return accelerator


@contextmanager
def others_alive(accelerator: Accelerator) -> Iterator[None]:
    """The end of another process as one line."""
    try:
        yield
    except RuntimeError as error:
        if accelerator.num_processes > 1 and any(word in str(error) for word in LOST_CONNECTION):
            raise WavdiffError(
                "training: another process has ended early; see its message. The last checkpoint is kept"
            ) from error
        raise
