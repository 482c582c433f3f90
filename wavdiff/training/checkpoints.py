"""Checkpoints that cannot be lost: safetensors and JSON only, written beside, checked, fsynced and renamed.

A checkpoint folder `step-00001000` holds the raw weights, the averaged (EMA) weights, the optimiser's moments and
`state.json`, which has the SHA-256 of the other three. All chance of a run is a function of the step number, so there
is no random state to keep. The newest few stay, and the best one by held-out loss.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from wavdiff.system.atomic import recover_folder, replace_folder, sync_folder
from wavdiff.system.errors import WavdiffError

VERSION = 2
"""Of the layout. Version 1 (wavdiff 0.1 and 0.2) had no checksums; it is read as well."""
STATE = ("step", "trained", "images_seen", "seconds")
TENSORS = ("weights.safetensors", "ema.safetensors", "optimizer.safetensors")
FILES = (*TENSORS, "state.json")


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    Attributes:
        weights: raw weights by name.
        averaged: averaged weights by name.
        moments: the optimiser's tensors, see `optimizer_tensors`.
        state: step and what else `RunState.stored` gives.
    """

    weights: dict[str, Tensor]
    averaged: dict[str, Tensor]
    moments: dict[str, Tensor]
    state: dict[str, Any]


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: dict[int, str]) -> dict[str, Tensor]:
    """Moments of the optimiser as "parameter name:key" -> tensor; `names` maps id(parameter) to its name."""
    tensors = {}
    for parameter, state in optimizer.state.items():
        for key, value in ((key, value) for key, value in state.items() if value is not None):  # SGD's without momentum
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
                    key: value.to(parameter.device, copy=True)
                    if key == "step"
                    else value.to(parameter.device).contiguous(
                        memory_format=torch.channels_last if value.ndim == 4 else torch.contiguous_format
                    )
                    for key, value in found.items()
                }


def checkpoint_folders(folder: Path) -> list[Path]:
    """Everything in `folder` that is or was a checkpoint, whole or not, oldest first."""
    found = [path for path in folder.glob("step-*") if path.is_dir() and path.name[5:].isdecimal()]
    return sorted(found, key=lambda path: int(path.name[5:]))


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints in `folder` that have all files, oldest first."""
    return [path for path in checkpoint_folders(folder) if all((path / name).is_file() for name in FILES)]


def recover_checkpoints(folder: Path) -> None:
    """Clean up after a process that was killed while it wrote or removed a checkpoint."""
    for old in folder.glob(".replaced-step-*"):
        recover_folder(folder / old.name.removeprefix(".replaced-"))
    for leftover in folder.glob(".*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _remove(path: Path) -> None:
    """Remove a checkpoint so that it is there as a whole or not at all."""
    doomed = path.with_name(f".removed-{path.name}")
    try:
        os.replace(path, doomed)
    except OSError:
        return
    shutil.rmtree(doomed, ignore_errors=True)


def save_checkpoint(folder: Path, step: int, checkpoint: Checkpoint, keep: int, protected: Iterable[int] = ()) -> Path:
    """Write one checkpoint, then remove all but the newest `keep` and the protected ones.

    Those of later steps are removed, too: they are damaged, or the run would have begun at them.

    Args:
        folder: of all checkpoints of the run.
        step: its number.
        checkpoint: what to write; `state` without the step.
        keep: how many of the newest to keep.
        protected: steps of older checkpoints that stay.

    Returns:
        Its folder; it appears under its name only when it is complete and on the disk.

    Raises:
        WavdiffError: it cannot be written; the older ones are as they were.
    """
    target = folder / f"step-{step:08d}"
    unfinished = folder / f".unfinished-{target.name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        recover_checkpoints(folder)
        unfinished.mkdir()
        digests = {}
        parts = (checkpoint.weights, checkpoint.averaged, checkpoint.moments)
        for name, tensors in zip(TENSORS, parts, strict=True):
            content = save({key: value.detach().cpu().contiguous() for key, value in tensors.items()})
            digests[name] = hashlib.sha256(content).hexdigest()
            _write_through(unfinished / name, content)
        state = {"version": VERSION, "step": step, **checkpoint.state, "sha256": digests}
        digests["state.json"] = _state_digest(state)
        _write_through(unfinished / "state.json", json.dumps(state, indent=1).encode())
        sync_folder(unfinished)
        replace_folder(unfinished, target)
        sync_folder(folder)
    except OSError as error:
        recover_checkpoints(folder)
        kept = ", ".join(path.name for path in list_checkpoints(folder)) or "none yet"
        raise WavdiffError(
            f"checkpoint {target} cannot be written ({error.strerror or error}); kept as they were: {kept}"
        ) from error
    found = checkpoint_folders(folder)
    place = found.index(target)
    stay = {f"step-{number:08d}" for number in protected}
    for old in (*found[: max(0, place + 1 - keep)], *found[place + 1 :]):
        if old.name not in stay:
            _remove(old)
    return target


def _state_digest(state: dict[str, Any]) -> str:
    """SHA-256 of a state, its own digest left out."""
    others = {name: digest for name, digest in state["sha256"].items() if name != "state.json"}
    return hashlib.sha256(json.dumps({**state, "sha256": others}, sort_keys=True).encode()).hexdigest()


def _write_through(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def load_checkpoint(path: Path) -> Checkpoint:
    """Read and check one checkpoint.

    Raises:
        WavdiffError: a file is damaged or of a later version; names it.
    """
    state = _read_state(path / "state.json")
    digests = state.pop("sha256", {})
    loaded = []
    for name in TENSORS:
        try:
            content = (path / name).read_bytes()
            if name in digests and hashlib.sha256(content).hexdigest() != digests[name]:
                raise WavdiffError(f"checkpoint {path / name} is damaged (its SHA-256 is not the one in state.json)")
            loaded.append(load(content))
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            raise WavdiffError(f"checkpoint {path / name} is damaged ({error})") from error
    weights, averaged, moments = loaded
    return Checkpoint(weights, averaged, moments, state)


def _read_state(path: Path) -> dict[str, Any]:
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise WavdiffError(f"checkpoint {path} is damaged ({error})") from error
    if not isinstance(state, dict) or any(name not in state for name in STATE):
        raise WavdiffError(f"checkpoint {path} is damaged (it must have {', '.join(STATE)})")
    version = state.get("version", 1)
    if version not in (1, VERSION):
        raise WavdiffError(f"checkpoint {path} has version {version!r}; this wavdiff reads 1 and {VERSION}: update it")
    digests = state.get("sha256", {})
    if version != 1 and not (isinstance(digests, dict) and digests.get("state.json") == _state_digest(state)):
        raise WavdiffError(f"checkpoint {path} is damaged (its SHA-256 is not the one that it states)")
    trained = state["trained"]
    right = (
        _is_count(state["step"])
        and _is_count(state["images_seen"])
        and isinstance(state["seconds"], (int, float))
        and isinstance(trained, dict)
        and all(_is_count(steps) for steps in trained.values())
        and path.parent.name == f"step-{state['step']:08d}"
    )
    if not right:
        raise WavdiffError(f"checkpoint {path} is damaged (its numbers are not those of {path.parent.name})")
    return state


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def load_newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole; None where there is none at all.

    Raises:
        WavdiffError: there are checkpoints, but all are damaged; names the newest one's file.

    Warns:
        UserWarning: for every damaged one that is passed over.
    """
    first: WavdiffError | None = None
    found = checkpoint_folders(folder)
    for path in reversed(found):
        try:
            checkpoint = load_checkpoint(path)
        except WavdiffError as error:
            first = first or error
            if path != found[0]:
                warnings.warn(f"{error}; the one before is used", stacklevel=2)
            continue
        return checkpoint
    if first is not None:
        raise WavdiffError(f"{first}; no older checkpoint is whole. Remove {folder} to begin again") from first
    return None
