"""A cascade on disk, in diffusers' layout, which may be anybody's: everything is checked before a network is made.

A model folder has `model_index.json`, `cascade/config.json`, `cascade/diffusion_pytorch_model.safetensors`,
`scheduler/scheduler_config.json`, `pipeline.py` and `cascade/cascade.py` for diffusers, and a card in `README.md`.
"""

from __future__ import annotations

import inspect
import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn

from wavdiff.models.cascade.config import MOST_LEVELS, MOST_PARAMETERS, model_from_mapping
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.cascade.networks import network_class
from wavdiff.models.cascade.verbs import check_range
from wavdiff.models.folders import find_model
from wavdiff.models.wavelets import check_wavelet
from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import shown
from wavdiff.system.text_files import parse_json, read_text

WEIGHT_TYPES = ("F32", "F16", "BF16")
CLASSES = {"pipeline.py": "WaveletCascadePipeline", "cascade/cascade.py": "WaveletCascade"}
"""Files of code for `DiffusionPipeline.from_pretrained(..., trust_remote_code=True)`, which knows no other classes than
its own: each imports one of ours."""


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
        given = check_settings(settings)
    except WavdiffError as error:
        raise WavdiffError(f"--model {model}: {path / 'config.json'} {error}") from error
    try:
        _check_weights(weights)
        state = load_file(weights)
    except WavdiffError as error:
        raise WavdiffError(f"--model {model}: {weights} {error}") from error
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise WavdiffError(f"--model {model}: damaged model in {weights} ({reason})") from error
    with torch.random.fork_rng(devices=[]):  # initial weights, which are replaced, are drawn: not from the caller's
        cascade = WaveletCascade(**given)
    shapes, stored = ({name: tuple(x.shape) for name, x in each.items()} for each in (cascade.state_dict(), state))
    wrong = [f"size mismatch for {name}" for name, size in shapes.items() if stored.get(name, size) != size]
    wrong += sorted(shapes.keys() ^ stored.keys())
    if wrong:
        raise WavdiffError(f"--model {model}: weights do not fit the configuration in {path}: {wrong[0]}")
    for name, tensor in state.items():
        if not bool(tensor.isfinite().all()):
            raise WavdiffError(f"--model {model}: weights in {weights} are not finite")
        if name.endswith(".running_sd") and not bool((tensor > 0).all()):
            raise WavdiffError(f"--model {model}: {name} in {weights} must be positive, got {float(tensor.min()):g}")
    cascade.load_state_dict(state)
    place: Any = {"device": device, "memory_format": torch.channels_last}
    result: WaveletCascade = nn.Module.to(cascade, **place)  # diffusers' own asks about hooks, and imports a compiler
    return result.eval()


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
    (folder / "README.md").write_text(card, encoding="utf-8")
    if configuration is not None:
        (folder / "training.yaml").write_text(configuration, encoding="utf-8")
    write_index(folder)


def write_index(folder: Path) -> None:
    """Write `model_index.json`, by which diffusers knows a folder, and after the code that it names."""
    import diffusers

    for name, kind in CLASSES.items():
        says = '"""For diffusers; needs the package wavdiff."""'
        code = f'{says}\n\nfrom wavdiff import {kind}\n\n__all__ = ["{kind}"]\n'
        (folder / name).write_text(code, encoding="utf-8")
    index = {
        "_class_name": ["pipeline", "WaveletCascadePipeline"],
        "_diffusers_version": diffusers.__version__,
        "cascade": ["cascade", "WaveletCascade"],
        "scheduler": ["diffusers", "EDMDPMSolverMultistepScheduler"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def check_settings(settings: Any) -> dict[str, Any]:
    """The settings in a `cascade/config.json`, checked before any network is made: types, ranges, how large it is."""
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
    if not isinstance(given.get("draws", True), bool):
        raise WavdiffError(f"draws must be true or false, got {shown(given['draws'])}")
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
    return given


def _complete(network: Any) -> dict[str, Any]:
    """The settings of a network with all its defaults; only those that its kind takes."""
    if not isinstance(network, dict):
        raise WavdiffError(f"a network's settings must be a mapping, got {shown(network)}")
    kind = network.get("kind")
    found = network_class(kind)
    known = inspect.signature(found.__init__).parameters
    defaults = {"kind": kind, **{name: known[name].default for name in found.settings}}
    # Folders of version 0.1 give global networks a receptive field as well.
    unknown = next((name for name in network if name not in (*defaults, "receptive_field")), None)
    if unknown is not None:
        raise WavdiffError(f"a {kind} network has no setting {shown(unknown)}")
    return {**defaults, **network}
