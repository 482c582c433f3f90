"""Joining scales that were trained apart, on other machines perhaps, into one cascade."""

from __future__ import annotations

import copy
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.cascade.saved import load_cascade, save_model
from wavdiff.models.cascade.training.growth import start_from
from wavdiff.models.folders import TRAINING_RECORD, find_model, refuse_folder, weights_digest, write_model
from wavdiff.system.errors import WavdiffError

EQUAL_SETTINGS = ("wavelet", "channels", "image_size", "conditioning_augmentation")


@dataclass(frozen=True)
class Part:
    """A model, or the folder of a run, and the scales to take from it.

    Attributes:
        given: as the user wrote it.
        folder: of the model.
        cascade: its networks.
        trained: optimiser steps by scale; empty where the model does not say.
        data: name, digest and number of the images it was trained on; empty where it does not say.
        chosen: scales that the user asked to take from it; None for those it was trained for.
    """

    given: str
    folder: Path
    cascade: WaveletCascade
    trained: dict[str, int]
    data: dict[str, Any]
    chosen: tuple[str, ...] | None

    @property
    def offers(self) -> tuple[str, ...]:
        """Scales to take from it."""
        if self.chosen is not None:
            return self.chosen
        return tuple(name for name in self.cascade.scale_names if self.trained.get(name, 0) > 0 or not self.trained)


def open_part(text: str) -> Part:
    """Read "FOLDER" or "FOLDER:low,1".

    Raises:
        WavdiffError: no model, or no such scale.
    """
    path, colon, names = text.rpartition(":")
    if not colon or Path(text).exists():
        path, names = text, ""
    folder = find_model(path)
    cascade = load_cascade(path)
    chosen = tuple(name.strip() for name in names.split(",") if name.strip()) or None
    for name in chosen or ():
        if name not in cascade.scale_names:
            raise WavdiffError(f"{text}: scale {name!r} is not one of {', '.join(cascade.scale_names)}")
    trained, data = _read_record(folder / TRAINING_RECORD)
    return Part(text, folder, cascade, trained, data, chosen)


def _read_record(path: Path) -> tuple[dict[str, int], dict[str, Any]]:
    if not path.is_file():
        return {}, {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): int(steps) for name, steps in record["trained"].items()}, dict(record["data"])
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
        raise WavdiffError(f"{path} is damaged ({error})") from error


def assemble(parts: list[Part], out: Path, overwrite: bool = False) -> dict[str, str]:
    """Join the scales of several models into one and write it.

    Args:
        parts: at least one; together they must offer every scale once.
        out: folder of the new model.
        overwrite: whether a model there may be replaced.

    Returns:
        Which part every scale was taken from, from coarse to fine.

    Raises:
        WavdiffError: parts that do not fit together, a scale that none or several offer, or a folder in the way.
    """
    refuse_folder(out, overwrite)
    if any(out.resolve() in (part.folder.resolve(), *part.folder.resolve().parents) for part in parts):
        raise WavdiffError(f"--out {out} is one of the parts or holds one; choose another folder")
    out = out.resolve()
    _check_fit(parts)
    first = parts[0]
    owners: dict[str, Part] = {}
    for name in first.cascade.scale_names:
        offering = [part for part in parts if name in part.offers]
        if len(offering) != 1:
            who = "none of the parts" if not offering else " and ".join(part.given for part in offering)
            verb = "trained" if len(offering) < 2 else "both trained"
            raise WavdiffError(f"assemble: {who} {verb} scale {name}; write FOLDER:{name} for the one to take it from")
        owners[name] = offering[0]
    model = _join(owners)
    taken = {name: owner.given for name, owner in owners.items()}
    lines = "\n".join(
        f"| {name} | {owner.folder.parent.name if owner.folder.name == 'model' else owner.folder.name} | "
        f"{owner.trained.get(name, 'not recorded')} | {owner.data.get('name', 'not recorded')} |"
        for name, owner in owners.items()
    )
    card = f"""---
library_name: diffusers
tags: [wavdiff, image-denoising, super-resolution, unconditional-image-generation]
---
# wavdiff cascade, assembled

Joined by `wavdiff assemble` from scales that were trained apart.

| scale | taken from | optimiser steps | data |
|---|---|---|---|
{lines}

sha256 of the weights (safetensors serialisation of the sorted tensors): `{weights_digest(model)}`
"""
    known = all(owner.trained for owner in owners.values())
    record = {
        "trained": {name: owner.trained.get(name, 0) for name, owner in owners.items()} if known else {},
        "data": next((part.data for part in parts if part.data), {}),
    }
    write_model(model, out, card, record, None, save_model)
    return taken


def _check_fit(parts: list[Part]) -> None:
    for first, part in itertools.combinations(parts, 2):
        names = first.given, part.given
        for setting in EQUAL_SETTINGS:
            _require_equal(setting, names, first.cascade.config[setting], part.cascade.config[setting])
        _require_equal("levels", names, first.cascade.levels, part.cascade.levels)
        for name in first.cascade.scale_names:
            ours, theirs = first.cascade.denoiser(name).std, part.cascade.denoiser(name).std
            _require_equal(f"rms of scale {name}", names, ours, theirs)
        for key in ("digest", "images"):
            known = first.data.get(key), part.data.get(key)
            if None not in known:
                _require_equal("data" if key == "digest" else "number of images", names, *known)


def _require_equal(what: str, names: tuple[str, str], ours: object, theirs: object) -> None:
    same = list(ours) == list(theirs) if isinstance(ours, (list, tuple)) and isinstance(theirs, (list, tuple)) else None
    if ours != theirs if same is None else not same:
        raise WavdiffError(f"assemble: {names[0]} and {names[1]} differ in {what}: {ours!r} and {theirs!r}")


def _join(owners: dict[str, Part]) -> WaveletCascade:
    """A cascade with the networks of the owners, whose sizes may differ from scale to scale."""
    first = next(iter(owners.values())).cascade
    settings: dict[str, Any] = {key: copy.deepcopy(first.config[key]) for key in first.config if key[0] != "_"}
    settings["lowpass_network"] = owners["low"].cascade.config["lowpass_network"]
    settings["detail_networks"] = [
        owners[str(scale)].cascade.config["detail_networks"][scale] for scale in range(first.levels)
    ]
    for name, strictest in (("noise_max", min), ("noise_min", max)):
        limits = [owner.cascade.config[name] for owner in owners.values()]
        settings[name] = strictest((limit for limit in limits if limit is not None), default=None)
    model = WaveletCascade(**settings).eval()
    with torch.no_grad():
        for name, owner in owners.items():
            start_from(model.denoiser(name).network, owner.cascade.denoiser(name).network)
    return model
