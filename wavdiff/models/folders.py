"""Folders of trained models of any family: finding, checking, writing them whole."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import nn

from wavdiff.models import DEFAULT_FAMILY, find_family
from wavdiff.models.run_config import SETTINGS_FILE
from wavdiff.system.atomic import replace_folder
from wavdiff.system.errors import WavdiffError
from wavdiff.system.text_files import parse_json, parse_yaml, read_text

if TYPE_CHECKING:
    from wavdiff.models.family import Family

WEIGHTS = Path(__file__).parent / "weights"
DEFAULT_RESTORATION_MODEL = "photos"
"""The shipped model that `denoise` and `upscale` use unless another is named."""


def shipped_models() -> list[str]:
    """Names of the models that ship with the package."""
    places = [path.parent.name for name in ("model_index.json", SETTINGS_FILE) for path in WEIGHTS.glob(f"*/{name}")]
    return sorted(places)


def find_any_model(model: str | Path) -> Path:
    """The folder of a model of any family: one that ships, by name, or a path.

    Raises:
        WavdiffError: no such model; says what was expected.
    """
    if str(model) in shipped_models():
        return WEIGHTS / str(model)
    path = Path(model).expanduser()
    if any(
        (path / "model" / name).exists() for name in ("cascade", SETTINGS_FILE)
    ):  # the output folder of a training run
        path = path / "model"
    if not path.is_dir():
        known = ", ".join(shipped_models()) or "none"
        raise WavdiffError(f"--model {model}: no such folder, and no shipped model of that name ({known})")
    if not (path / "cascade" / "config.json").is_file() and not (path / SETTINGS_FILE).is_file():
        raise WavdiffError(f"--model {model}: is not a wavdiff model: cascade/config.json is missing")
    return path


def family_of(folder: Path) -> type[Family[Any, Any]]:
    """The family of the model in a folder that `find_any_model` found."""
    if (folder / "cascade" / "config.json").is_file():
        return find_family(DEFAULT_FAMILY)
    settings = parse_json(read_text(folder / SETTINGS_FILE))
    if not isinstance(settings, dict):
        raise WavdiffError(f"--model {folder}: {SETTINGS_FILE} does not hold the settings of a model")
    return find_family(settings.get("family"))


def find_model(model: str | Path) -> Path:
    """The folder of a cascade; as `find_any_model`.

    Raises:
        WavdiffError: no such model, or one that is no cascade.
    """
    path = find_any_model(model)
    family = family_of(path)
    if family.Config.family != DEFAULT_FAMILY:
        raise WavdiffError(f"--model {model}: is a {family.noun}, no wavelet cascade")
    return path


def diffusers_folder(model: str | Path, part: str = "") -> str:
    """What diffusers loads for a shipped model's name, a model folder or that of a run: its folder, or a `part` of it.

    Anything else stays as it is, for diffusers may know it: a folder of its own, a repository of the hub.
    """
    path = Path(model).expanduser()
    if str(model) not in shipped_models() and not any(
        (place / "cascade" / "config.json").is_file() for place in (path, path / "model")
    ):
        return str(model)
    return str(find_model(model) / part)


def file_digest(path: Path) -> str:
    """sha256 of a file, hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def training_configuration(folder: Path) -> dict[str, Any] | None:
    """The configuration that a model folder was trained with, or None where it is not recorded."""
    path = folder / "training.yaml"
    if not path.is_file():
        return None
    try:
        mapping = parse_yaml(read_text(path))
    except WavdiffError as error:
        raise WavdiffError(f"{path} {error}") from error
    return mapping if isinstance(mapping, dict) else None


def data_section(configuration: dict[str, Any] | None) -> dict[str, Any]:
    """Its section `data`; empty where there is none."""
    section = (configuration or {}).get("data")
    return section if isinstance(section, dict) else {}


def weights_digest(model: Any, dtype: torch.dtype = torch.float32) -> str:
    """sha256 over names and values of all weights, independent of how the file lays them out."""
    tensors = {name: value.to(dtype).contiguous() for name, value in sorted(model.state_dict().items())}
    return hashlib.sha256(save(tensors)).hexdigest()


TRAINING_RECORD = "training.json"


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
    model: Any,
    target: Path,
    card: str,
    record: dict[str, Any],
    configuration: str | None,
    save: Callable[[Any, Path, str, str | None], None],
) -> None:
    """Write a model folder with the record of what was trained on what, complete before it is in its place.

    `save` writes what the record is put beside, as `Family.save` does.

    Raises:
        WavdiffError: it cannot be written; the older one is as it was.
    """
    unfinished = target.with_name(f".unfinished-{target.name}")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        save(model, unfinished, card, configuration)
        (unfinished / TRAINING_RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        replace_folder(unfinished, target)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise WavdiffError(f"model {target} cannot be written ({error})") from error


def cast_weights(model: Any, dtype: torch.dtype) -> Any:
    """The model itself, its weights in `dtype` (diffusers' own `to` warns of what does not concern us)."""
    nn.Module.to(model, dtype)
    return model
