"""The diffusers pipeline around a cascade, and finding models on disk.

A model folder has diffusers' layout: `model_index.json`, `cascade/config.json`,
`cascade/diffusion_pytorch_model.safetensors`, `scheduler/scheduler_config.json`, and a model card in `README.md`.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from wavdiff.models import find_family
from wavdiff.models.cascade.config import MOST_PARAMETERS
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.cascade.stored_settings import check_settings
from wavdiff.models.run_config import SETTINGS_FILE
from wavdiff.system.atomic import replace_folder
from wavdiff.system.errors import WavdiffError
from wavdiff.system.text_files import parse_json, parse_yaml, read_text

WEIGHTS = Path(__file__).parent / "weights"
WEIGHT_TYPES = ("F32", "F16", "BF16")
DEFAULT_RESTORATION_MODEL = "photos"
"""The shipped model that `denoise` and `upscale` use unless another is named."""


def shipped_models() -> list[str]:
    """Names of the cascades that ship with the package."""
    return sorted(path.parent.name for path in WEIGHTS.glob("*/model_index.json"))


def find_model(model: str | Path) -> Path:
    """The folder of a model: one that ships, by name, or a path.

    Raises:
        WavdiffError: no such model, or a folder without a cascade; says what was expected.
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
    if not (path / "cascade" / "config.json").is_file():
        if (path / SETTINGS_FILE).is_file():
            family = find_family(parse_json(read_text(path / SETTINGS_FILE)).get("family"))
            raise WavdiffError(f"--model {model}: is a {family.noun}, no wavelet cascade")
        raise WavdiffError(f"--model {model}: is not a wavdiff model: cascade/config.json is missing")
    return path


def load_cascade(model: str | Path = "faces", device: str | torch.device = "cpu") -> WaveletCascade:
    """A cascade ready to use, by the name of a shipped model or by its folder.

    Args:
        model: "faces", "fashion" ..., a model folder, or the output folder of a training run.
        device: where to put it.

    Returns:
        The cascade in evaluation mode, channels_last.

    Raises:
        WavdiffError: missing, incomplete or damaged model; names the file.
    """
    path = find_model(model) / "cascade"
    weights = path / "diffusion_pytorch_model.safetensors"
    if not weights.is_file():
        raise WavdiffError(f"--model {model}: {weights.name} is missing in {path}")
    try:
        settings = parse_json(read_text(path / "config.json"))
        check_settings(settings)
    except WavdiffError as error:
        raise WavdiffError(f"--model {model}: {path / 'config.json'} {error}") from error
    place = weights
    try:
        _check_weights(weights)
        place = path
        cascade, report = WaveletCascade.from_pretrained(
            path,
            use_safetensors=True,
            torch_dtype=torch.float32,
            local_files_only=True,
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
    except WavdiffError as error:
        raise WavdiffError(f"--model {model}: {weights} {error}") from error
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise WavdiffError(f"--model {model}: damaged model in {place} ({reason})") from error
    wrong = [*report["missing_keys"], *report["unexpected_keys"], *(str(k) for k in report["mismatched_keys"])]
    if wrong:
        raise WavdiffError(f"--model {model}: weights do not fit the configuration in {path}: {wrong[0]}")
    for name, tensor in cascade.state_dict().items():
        if not bool(tensor.isfinite().all()):
            raise WavdiffError(f"--model {model}: weights in {weights} are not finite")
        if name.endswith(".running_sd") and not bool((tensor > 0).all()):
            raise WavdiffError(f"--model {model}: {name} in {weights} must be positive, got {float(tensor.min()):g}")
    result: WaveletCascade = cascade.to(device=device, memory_format=torch.channels_last).eval()
    return result


def _check_weights(path: Path) -> None:
    """Check the head of a file of weights: how its tensors are stored, and how many numbers they hold."""
    index = path.with_name(path.name + ".index.json")
    if index.exists():
        raise WavdiffError(f"must be the only file of weights; {index.name} names others")
    total = 0
    with safe_open(path, framework="pt") as file:
        names: list[str] = list(file.keys())
        for name in names:
            part = file.get_slice(name)
            if part.get_dtype() not in WEIGHT_TYPES:
                raise WavdiffError(f"{name} must be of type {', '.join(WEIGHT_TYPES)}, got {part.get_dtype()}")
            total += math.prod(part.get_shape())
    if total > MOST_PARAMETERS:
        raise WavdiffError(f"must hold at most {MOST_PARAMETERS} parameters, got {total}")


def save_model(cascade: WaveletCascade, folder: Path, card: str, configuration: str | None = None) -> None:
    """Write a model folder in diffusers' layout, with its card and the YAML of its training run.

    The cascade's folder is complete before `model_index.json` appears.
    """
    from diffusers import EDMDPMSolverMultistepScheduler

    folder.mkdir(parents=True, exist_ok=True)
    scheduler: Any = EDMDPMSolverMultistepScheduler(sigma_data=1.0)
    cascade.save_pretrained(folder / "cascade", safe_serialization=True)
    scheduler.save_pretrained(folder / "scheduler")
    import diffusers

    index = {
        "_class_name": "WaveletCascadePipeline",
        "_diffusers_version": diffusers.__version__,
        # The module, as `save_pretrained` writes it: diffusers looks there for the base class that tells how to load.
        "cascade": ["wavdiff.cascade", "WaveletCascade"],
        "scheduler": ["diffusers", "EDMDPMSolverMultistepScheduler"],
    }
    (folder / "README.md").write_text(card, encoding="utf-8")
    if configuration is not None:
        (folder / "training.yaml").write_text(configuration, encoding="utf-8")
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


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
    configuration: str | None = None,
    save: Callable[[Any, Path, str, str | None], None] | None = None,
) -> None:
    """Write a model folder with the record of what was trained on what, complete before it is in its place.

    `save` writes what the record is put beside: `Family.save`; default `save_model`.

    Raises:
        WavdiffError: it cannot be written; the older one is as it was.
    """
    unfinished = target.with_name(f".unfinished-{target.name}")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        (save or save_model)(model, unfinished, card, configuration)
        (unfinished / TRAINING_RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        replace_folder(unfinished, target)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise WavdiffError(f"model {target} cannot be written ({error})") from error


def cast_weights(model: Any, dtype: torch.dtype) -> Any:
    """The model itself, its weights in `dtype` (diffusers' own `to` warns of what does not concern us)."""
    nn.Module.to(model, dtype)
    return model
