"""Averages (EMA) of the weights of every part of a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from wavdiff.models.run_config import TrainingConfig
from wavdiff.training.state import RunState


def tensors_of(module: Any) -> dict[str, Any]:
    """Parameters and kept buffers by name, the tensors themselves."""
    return dict(nn.Module.state_dict(module, keep_vars=True))


class Averages:
    """One average for every part; running statistics of the weights of now go along as they are.

    Args:
        parts: modules of the model, on their device.
        names: of the model's tensors, by id.
        training: decay and warm-up of the averages.
    """

    def __init__(self, parts: dict[str, nn.Module], names: dict[int, str], training: TrainingConfig) -> None:
        self._tensors = {part: list(tensors_of(module).values()) for part, module in parts.items()}
        self._names = names
        self.of_part = {
            part: EMAModel(
                tensors,
                decay=training.ema_decay,
                use_ema_warmup=True,
                power=training.ema_power,
                foreach=True,
            )
            for part, tensors in self._tensors.items()
        }

    def step(self, part: str) -> None:
        """Take the weights of now into the average of a part."""
        self.of_part[part].step(self._tensors[part])

    def restore(self, averaged: dict[str, Tensor], state: RunState) -> None:
        """Put the averages of a checkpoint back; raises KeyError or RuntimeError where they do not fit."""
        for name, shadow in self._shadows().items():
            shadow.data.copy_(averaged[name])
        for part, average in self.of_part.items():
            average.optimization_step = state.learned(part)

    def weights(self) -> dict[str, Tensor]:
        """Copies of the averages on the CPU, by the names of the model's tensors."""
        return {name: shadow.detach().cpu().clone() for name, shadow in self._shadows().items()}

    def _shadows(self) -> dict[str, Tensor]:
        return {
            self._names[id(tensor)]: shadow
            for part, average in self.of_part.items()
            for tensor, shadow in zip(self._tensors[part], average.shadow_params, strict=True)
        }

    @contextmanager
    def applied(self, model: Any) -> Iterator[Any]:
        """The model with averaged weights, in evaluation mode, and uncompiled: its images have other sizes there."""
        for part, average in self.of_part.items():
            average.store(self._tensors[part])
            average.copy_to(self._tensors[part])
        try:
            with torch.compiler.set_stance("force_eager"):
                yield model.eval()
        finally:
            for part, average in self.of_part.items():
                average.restore(self._tensors[part])
            model.train()
