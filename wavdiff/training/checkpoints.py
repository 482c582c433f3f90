"""Checkpoints: safetensors and JSON only, written beside and renamed, the newest few kept.

A checkpoint folder `step-00001000` holds the raw weights, the averaged (EMA) weights, the optimiser's moments and
`state.json`. All chance of a run is a function of the step number, so there is no random state to keep.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from wavdiff.errors import WavdiffError

STATE = ("step", "trained", "images_seen", "seconds")
FILES = ("weights.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json")


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: dict[int, str]) -> dict[str, Tensor]:
    """Moments of the optimiser as "parameter name:key" -> tensor; `names` maps id(parameter) to its name."""
    tensors = {}
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            tensors[f"{names[id(parameter)]}:{key}"] = torch.as_tensor(value).clone().contiguous()
    return tensors


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], names: dict[int, str]) -> None:
    """Put moments back, for the parameters that the optimiser holds; others start fresh."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            found = {key.rpartition(":")[2]: value for key, value in tensors.items() if key.rpartition(":")[0] == name}
            if found:
                optimizer.state[parameter] = {
                    key: value.clone()
                    if key == "step"
                    else value.to(parameter.device).contiguous(
                        memory_format=torch.channels_last if value.ndim == 4 else torch.contiguous_format
                    )
                    for key, value in found.items()
                }


def list_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints in `folder`, oldest first."""
    return sorted(path for path in folder.glob("step-*") if all((path / name).is_file() for name in FILES))


def save_checkpoint(
    folder: Path,
    step: int,
    model: nn.Module,
    ema: dict[str, Tensor],
    optimizer: dict[str, Tensor],
    state: dict[str, Any],
    keep: int,
) -> Path:
    """Write one checkpoint and remove all but the newest `keep`.

    Returns:
        Its folder; it appears under its name only when complete.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"step-{step:08d}"
    unfinished = folder / f".unfinished-{target.name}-{os.getpid()}"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
        for name, tensors in zip(FILES[:3], (weights, ema, optimizer), strict=True):
            save_file({key: value.contiguous() for key, value in tensors.items()}, unfinished / name)
        (unfinished / "state.json").write_text(json.dumps({"step": step, **state}, indent=1), encoding="utf-8")
        for path in unfinished.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        shutil.rmtree(target, ignore_errors=True)
        os.replace(unfinished, target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    for old in list_checkpoints(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def load_checkpoint(
    path: Path,
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """Raw weights, averaged weights, optimiser tensors and state of a checkpoint.

    Raises:
        WavdiffError: a file is damaged; names it.
    """
    loaded = []
    for name in FILES[:3]:
        try:
            loaded.append(load_file(path / name))
        except (SafetensorError, OSError) as error:
            raise WavdiffError(f"checkpoint {path / name} is damaged ({error})") from error
    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise WavdiffError(f"checkpoint {path / 'state.json'} is damaged ({error})") from error
    if not isinstance(state, dict) or any(name not in state for name in STATE):
        raise WavdiffError(f"checkpoint {path / 'state.json'} is damaged (it must have {', '.join(STATE)})")
    return loaded[0], loaded[1], loaded[2], state
