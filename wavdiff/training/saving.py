"""What can be gone on with, and what can be used: checkpoints, and the trained model as a folder."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from wavdiff.data import Images, ImageSource
from wavdiff.models.folders import cast_weights, write_model
from wavdiff.system.errors import WavdiffError
from wavdiff.training.averages import Averages
from wavdiff.training.card import model_card
from wavdiff.training.checkpoints import Checkpoint, load_checkpoint, load_newest, save_checkpoint
from wavdiff.training.config import to_yaml
from wavdiff.training.run_folder import RunFolder
from wavdiff.training.state import RunState
from wavdiff.training.step import Learner


class Saver:
    """Writes and reads a run's checkpoints, and writes its model.

    Args:
        folder: of the run, with its family.
        model: raw weights.
        averages: averaged weights.
        learner: the optimiser's moments, and which parts it trains.
        sources: training and held-out images.
    """

    def __init__(
        self,
        folder: RunFolder,
        model: nn.Module,
        averages: Averages,
        learner: Learner,
        sources: tuple[Images, ImageSource],
    ) -> None:
        self.folder, self.model, self.averages, self.learner, self.sources = folder, model, averages, learner, sources
        self.family, self.training = folder.family, folder.config.training
        self.checkpoints = folder.path / "checkpoints"

    def resume(self) -> RunState:
        """Put the newest whole checkpoint back.

        Raises:
            WavdiffError: it does not fit.
        """
        found = load_newest(self.checkpoints)
        if found is None:
            return RunState()
        state = RunState.read(found.state)
        try:
            self.model.load_state_dict(found.weights)
            self.averages.restore(found.averaged, state)
            self.learner.restore(found.moments)
        except (RuntimeError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise WavdiffError(
                f"--out {self.folder.path}: checkpoint step-{state.step:08d} does not fit this model ({reason})"
            ) from error
        measured = self._measured()
        if found.state.get("standardisation", measured) != measured:
            raise WavdiffError(
                f"{self.folder.path / 'run.json'} is damaged (its rms values are not those of the checkpoints, "
                f"{found.state['standardisation']})"
            )
        return state

    def save(self, state: RunState) -> None:
        """Write a checkpoint and the model.

        Raises:
            WavdiffError: one of them cannot be written; the older ones are as they were.
        """
        averaged, stored = self.averages.weights(), self._stored(state)
        content = Checkpoint(self.model.state_dict(), averaged, self.learner.moments(), stored)
        protected = [state.best["step"]] if state.best else []
        save_checkpoint(self.checkpoints, state.step, content, self.training.keep_checkpoints, protected)
        self._export(state, averaged, stored)

    def export(self, state: RunState) -> None:
        """Write the model: the last averaged weights, or the best ones."""
        self._export(state, self.averages.weights(), self._stored(state))

    def _export(self, state: RunState, averaged: dict[str, Tensor], stored: dict[str, Any]) -> None:
        if self.training.export == "best" and state.best and state.best["step"] != state.step:
            try:
                best = load_checkpoint(self.checkpoints / f"step-{state.best['step']:08d}")
                averaged, stored = best.averaged, best.state
            except WavdiffError as error:
                warnings.warn(f"the model is the last one, not the best: {error}", stacklevel=2)
        self._write_model(averaged, stored)

    def _write_model(self, averaged: dict[str, Tensor], stored: dict[str, Any]) -> None:
        """Write the averaged model with its card, its configuration and the record of what was trained on what."""
        model: Any = copy.deepcopy(self.model)
        model.to("cpu", memory_format=torch.contiguous_format)
        model.eval()
        model.load_state_dict(averaged, strict=False)
        dtype = getattr(torch, self.training.save_dtype)
        cast_weights(cast_weights(model, dtype), torch.float32)  # the card speaks of the weights as they are stored
        card = model_card(self.family, model, *self.sources, stored, self.folder.path)
        record = {"trained": stored["trained"], "data": self.folder.data}
        configuration = to_yaml(self.folder.config)
        write_model(
            cast_weights(model, dtype), self.folder.path / "model", card, record, configuration, self.family.save
        )

    def _measured(self) -> list[float]:
        return self.family.check_measured(self.folder.measured)

    def _stored(self, state: RunState) -> dict[str, Any]:
        return state.stored(self.learner.parts, self._measured())
