"""The diffusers pipeline around a cascade, and finding models on disk.

A model folder has diffusers' layout: `model_index.json`, `cascade/config.json`,
`cascade/diffusion_pytorch_model.safetensors`, `scheduler/scheduler_config.json`, and a model card in `README.md`.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError

from wavdiff.cascade import WaveletCascade
from wavdiff.errors import WavdiffError

WEIGHTS = Path(__file__).parent / "weights"
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
    if (path / "model" / "cascade").is_dir():  # the output folder of a training run
        path = path / "model"
    if not path.is_dir():
        known = ", ".join(shipped_models()) or "none"
        raise WavdiffError(f"--model {model}: no such folder, and no shipped model of that name ({known})")
    if not (path / "cascade" / "config.json").is_file():
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
        settings = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise WavdiffError(f"--model {model}: {path / 'config.json'} is not JSON ({error})") from error
    if not isinstance(settings, dict):
        raise WavdiffError(f"--model {model}: {path / 'config.json'} does not hold the settings of a cascade")
    try:
        cascade, report = WaveletCascade.from_pretrained(
            path,
            use_safetensors=True,
            torch_dtype=torch.float32,
            local_files_only=True,
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise WavdiffError(f"--model {model}: damaged model in {path} ({reason})") from error
    wrong = [*report["missing_keys"], *report["unexpected_keys"], *(str(k) for k in report["mismatched_keys"])]
    if wrong:
        raise WavdiffError(f"--model {model}: weights do not fit the configuration in {path}: {wrong[0]}")
    if not all(bool(parameter.isfinite().all()) for parameter in cascade.parameters()):
        raise WavdiffError(f"--model {model}: weights in {weights} are not finite")
    result: WaveletCascade = cascade.to(device=device, memory_format=torch.channels_last).eval()
    return result


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
        "cascade": [WaveletCascade.__module__, "WaveletCascade"],
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
        mapping = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise WavdiffError(f"{path} cannot be read ({error})") from error
    return mapping if isinstance(mapping, dict) else None
