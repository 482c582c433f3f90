"""The trained model as a folder: written beside and exchanged, so that a complete one is there at any time."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wavdiff.data import Images, ImageSource
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.folders import cast_weights, write_model
from wavdiff.models.run_config import RunConfig
from wavdiff.training.card import model_card
from wavdiff.training.config import to_yaml


def export_model(
    cascade: WaveletCascade,
    averaged: dict[str, Tensor],
    config: RunConfig,
    sources: tuple[Images, ImageSource],
    state: dict[str, Any],
    data: dict[str, Any],
    out: Path,
) -> Path:
    """Write the averaged cascade with its card, its configuration and the record of what was trained on what.

    Args:
        cascade: the networks, anywhere.
        averaged: the weights to write.
        config: the run's configuration.
        sources: training and held-out images.
        state: of the checkpoint: steps by scale, images seen, seconds.
        data: what is known of the data: name, digest, number of images.
        out: the run's folder.

    Returns:
        `out/model`.

    Raises:
        WavdiffError: it cannot be written; the older one is as it was.
    """
    model = copy.deepcopy(cascade).to("cpu", memory_format=torch.contiguous_format).eval()
    model.load_state_dict(averaged, strict=False)
    dtype = getattr(torch, config.training.save_dtype)
    cast_weights(cast_weights(model, dtype), torch.float32)  # the card speaks of the weights as they are stored
    card = model_card(config, model, *sources, state, out)
    record = {"trained": state["trained"], "data": data}
    write_model(cast_weights(model, dtype), out / "model", card, record, to_yaml(config))
    return out / "model"
