"""The diffusers pipeline around a cascade, and finding models on disk.

A model folder has diffusers' layout: `model_index.json`, `cascade/config.json`,
`cascade/diffusion_pytorch_model.safetensors`, `scheduler/scheduler_config.json`, and a model card in `README.md`.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from wavdiff.cascade import WaveletCascade
from wavdiff.config import KINDS, MOST_LEVELS, MOST_PARAMETERS, NetworkConfig, model_from_mapping
from wavdiff.errors import WavdiffError
from wavdiff.texts import parse_json, parse_yaml, read_text, shown
from wavdiff.wavelets import check_wavelet

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
        settings = parse_json(read_text(path / "config.json"))
        _check_settings(settings)
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


def _check_settings(settings: Any) -> None:
    """Check what `cascade/config.json` says before any network is made: types, ranges, and how large it would be."""
    if not isinstance(settings, dict):
        raise WavdiffError("does not hold the settings of a cascade")
    known = inspect.signature(WaveletCascade.__init__).parameters
    given = {name: value for name, value in settings.items() if not name.startswith("_")}
    for name in given:
        if name not in known:
            raise WavdiffError(f"a cascade has no setting {shown(name)}")
    for name, parameter in known.items():
        if name != "self" and parameter.default is parameter.empty and name not in given:
            raise WavdiffError(f"the setting {name} is missing")
    kind = settings.get("_class_name", "WaveletCascade")
    if kind != "WaveletCascade":
        raise WavdiffError(f"_class_name must be 'WaveletCascade', got {shown(kind)}")
    networks, stds = given["detail_networks"], given["detail_stds"]
    if not isinstance(networks, list) or not isinstance(stds, list) or not len(networks) == len(stds) <= MOST_LEVELS:
        raise WavdiffError(f"detail_networks and detail_stds must be equally long lists, of at most {MOST_LEVELS}")
    for name, value in (("lowpass_std", given["lowpass_std"]), *(("detail_stds", value) for value in stds)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
            raise WavdiffError(f"{name} must be a positive number, got {shown(value)}")
    check_range(given.get("lowpass_range"), "lowpass_range")
    complete = [_complete(network) for network in (given["lowpass_network"], *networks)]
    mapping = {
        **{name: given[name] for name in ("image_size", "channels", "wavelet")},
        "conditioning_augmentation": given.get("conditioning_augmentation", True),
        "ladders": given.get("ladders") or {},
        "levels": len(networks),
        "lowpass": complete[0],
        "scale_networks": {str(scale): network for scale, network in enumerate(complete[1:])},
    }
    try:
        model_from_mapping(mapping)
        check_wavelet(given["wavelet"])
    except WavdiffError as error:
        raise WavdiffError(str(error).removeprefix("configuration: ")) from error


def check_range(limits: Any, name: str) -> None:
    """Check a range of pixels, or None.

    Raises:
        WavdiffError: not two numbers with 0 <= low < high <= 1.
    """
    if limits is None:
        return
    right = isinstance(limits, list | tuple) and len(limits) == 2
    right = right and all(isinstance(v, int | float) and not isinstance(v, bool) for v in limits)
    if not right or not 0 <= limits[0] < limits[1] <= 1:
        raise WavdiffError(f"{name} must be two numbers with 0 <= low < high <= 1, got {shown(limits)}")


def _complete(network: Any) -> dict[str, Any]:
    """The settings of a network with all its defaults; only those that its kind takes."""
    if not isinstance(network, dict):
        raise WavdiffError(f"a network's settings must be a mapping, got {shown(network)}")
    kind = network.get("kind")
    if kind not in KINDS:
        raise WavdiffError(f"network kind must be one of {', '.join(KINDS)}, got {shown(kind)}")
    defaults = {**NetworkConfig(kind=kind).settings(), **({"depth": 2} if kind == "global" else {})}
    allowed = {*defaults, *(["receptive_field"] if kind == "global" else [])}
    unknown = next((name for name in network if name not in allowed), None)
    if unknown is not None:
        raise WavdiffError(f"a {kind} network has no setting {shown(unknown)}")
    return {**defaults, **network}


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
        mapping = parse_yaml(read_text(path))
    except WavdiffError as error:
        raise WavdiffError(f"{path} {error}") from error
    return mapping if isinstance(mapping, dict) else None
