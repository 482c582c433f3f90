"""The trained model as a folder: written beside and exchanged, so that a complete one is there at any time."""

from __future__ import annotations

import copy
import json
import os
import shutil
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from wavdiff.cascade import WaveletCascade
from wavdiff.config import RunConfig, to_yaml
from wavdiff.data import Images, ImageSource
from wavdiff.errors import WavdiffError
from wavdiff.pipeline import save_model
from wavdiff.training.card import model_card

TRAINING_RECORD = "training.json"


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
    _cast(_cast(model, dtype), torch.float32)  # the card speaks of the weights as they are stored
    card = model_card(config, model, *sources, state, out)
    record = {"trained": state["trained"], "data": data}
    write_model(_cast(model, dtype), out / "model", card, record, to_yaml(config))
    return out / "model"


def refuse_folder(out: Path, overwrite: bool) -> None:
    """Stop where a model cannot be written into `out`.

    Raises:
        WavdiffError: something is there, and `overwrite` is off or it is not a model.
    """
    if (out.exists() and not out.is_dir()) or (out.is_dir() and any(out.iterdir()) and not overwrite):
        raise WavdiffError(f"--out {out} exists; choose another folder or give --overwrite")
    if out.is_dir() and any(out.iterdir()) and not (out / "cascade" / "config.json").is_file():
        raise WavdiffError(f"--out {out} is not a model; it is not replaced")


def write_model(
    model: WaveletCascade, target: Path, card: str, record: dict[str, Any], configuration: str | None = None
) -> None:
    """Write a model folder with the record of what was trained on what, complete before it is in its place.

    Raises:
        WavdiffError: it cannot be written; the older one is as it was.
    """
    unfinished = target.with_name(f".unfinished-{target.name}")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        save_model(model, unfinished, card, configuration)
        (unfinished / TRAINING_RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        replace_folder(unfinished, target)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise WavdiffError(f"model {target} cannot be written ({error})") from error


def replace_folder(fresh: Path, target: Path) -> None:
    """Put the complete folder `fresh` in the place of `target`."""
    old = target.with_name(f".replaced-{target.name}")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        os.replace(target, old)
    os.replace(fresh, target)
    shutil.rmtree(old, ignore_errors=True)


def recover_folder(target: Path) -> None:
    """Clean up after a process that was killed in `replace_folder`."""
    old = target.with_name(f".replaced-{target.name}")
    if old.is_dir() and not target.exists():
        os.replace(old, target)
    for leftover in (old, target.with_name(f".unfinished-{target.name}")):
        shutil.rmtree(leftover, ignore_errors=True)


def _cast(model: WaveletCascade, dtype: torch.dtype) -> WaveletCascade:
    """The model itself, its weights in `dtype` (diffusers' own `to` warns of what does not concern us)."""
    nn.Module.to(cast(nn.Module, model), dtype)
    return model
