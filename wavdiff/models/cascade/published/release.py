"""The networks that the authors released, as cascades of this package.

The release of Kadkhodaie, Guth, Mallat and Simoncelli, "Learning multi-scale local conditional probability models of
images" (ICLR 2023; repository LabForComputationalVision/local-probability-models-of-images, MIT licence) is a folder
for every network:

    multi_scale/celebA_160x160_gray/noise_range_0to255_RF_40x40_low/model.pt        the low-pass network
    multi_scale/celebA_160x160_gray/noise_range_0to255_RF_13x13_scale_1/model.pt    details, from coarse ...
    multi_scale/celebA_160x160_gray/noise_range_0to255_RF_13x13_scale_0/model.pt    ... to fine
    flat/celebA_160x160_gray/noise_range_0to255_RF_43x43/model.pt                   one network for the image itself

A model.pt is a PyTorch state dict: `module.conv_layers.K.weight`, `module.BN_layers.K.gammas`, `.running_sd`. It is a
pickle, and is read as weights only: nothing in it is executed. The conventions are those of `blind`; the low-pass image
is the block mean and the order of the details is (horizontal, vertical, diagonal), as here.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from wavdiff.models.cascade.networks import BiasFreeNetwork, bias_free_kernels
from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import shown

REPOSITORY = "https://github.com/LabForComputationalVision/local-probability-models-of-images"
LARGEST_FILE = 100_000_000
"""Bytes of a model.pt, packed and unpacked; those of the release have up to 3 million."""
TYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_NETWORK = re.compile(r"noise_range_\d+to\d+_RF_(\d+)x(\d+)(?:_(low)|_scale_(\d))?")
_TENSOR = re.compile(r"(?:module\.)?(conv_layers|BN_layers)\.(\d{1,3})\.(weight|gammas|running_sd)")
_SIZE = re.compile(r"(\d{2,4})x(\d{2,4})")


@dataclass(frozen=True)
class Release:
    """One cascade or flat network of the release.

    Attributes:
        name: of its set, such as celebA_160x160_gray.
        image_size: (H, W).
        lowpass: folder of the low-pass or flat network.
        details: folders of the detail networks, finest first.
        receptive_field: of the detail networks, or of the flat one.
    """

    name: str
    image_size: tuple[int, int]
    lowpass: Path
    details: tuple[Path, ...]
    receptive_field: int


def find_release(folder: Path, receptive_field: int | None = None) -> Release:
    """The networks in a folder of the release.

    Args:
        folder: of a set (multi_scale/celebA_160x160_gray, flat/celebA_160x160_gray) or of one flat network.
        receptive_field: of the detail or flat networks; None: the largest that is there for all scales.

    Raises:
        WavdiffError: no such folder, another layout, several sets, a scale or a receptive field that is missing.
    """
    if not folder.is_dir():
        raise WavdiffError(f"{folder}: no such folder; give one of the release, such as {_EXAMPLE}")
    if _NETWORK.fullmatch(folder.resolve().name) and (folder / "model.pt").is_file():
        match = _NETWORK.fullmatch(folder.resolve().name)
        if match is None or match[3] or match[4]:
            raise WavdiffError(f"{folder} is one network of a cascade; give the folder above it")
        found, home = {int(match[1]): folder}, folder.resolve().parent
        return _flat(folder, home, found, receptive_field)
    networks = [
        (match, path.parent)
        for path in sorted(folder.glob("*/model.pt"))
        if (match := _NETWORK.fullmatch(path.parent.name))
    ]
    if not networks:
        sets = sorted({str(path.parent.parent) for path in folder.glob("*/*/model.pt")})
        sets = sets or sorted({str(path.parent.parent) for path in folder.glob("*/*/*/model.pt")})
        if sets:
            raise WavdiffError(f"{folder} holds no networks but sets of them; give one: {', '.join(sets[:8])}")
        raise WavdiffError(f"{folder}: no noise_range_*_RF_*/model.pt in it; give a folder such as {_EXAMPLE}")
    home = folder.resolve()
    flat = {int(match[1]): path for match, path in networks if not match[3] and not match[4]}
    low = [path for match, path in networks if match[3]]
    scales: dict[int, dict[int, Path]] = {}
    for match, path in networks:
        if match[4]:
            scales.setdefault(int(match[4]), {})[int(match[1])] = path
    if not low and not scales:
        return _flat(folder, home, flat, receptive_field)
    if len(low) != 1:
        raise WavdiffError(f"{folder}: one low-pass network (noise_range_*_low) is needed, found {len(low)}")
    if not scales or sorted(scales) != list(range(len(scales))):
        raise WavdiffError(
            f"{folder}: detail networks of scales 0, 1, ... are needed, found {sorted(scales) or 'none'}"
        )
    common = set.intersection(*(set(paths) for paths in scales.values()))
    field = _chosen(folder, common, receptive_field)
    details = tuple(scales[scale][field] for scale in sorted(scales))
    return Release(home.name, _image_size(home), low[0], details, field)


_EXAMPLE = "multi_scale/celebA_160x160_gray"


def _flat(folder: Path, home: Path, found: dict[int, Path], receptive_field: int | None) -> Release:
    field = _chosen(folder, set(found), receptive_field)
    return Release(home.name, _image_size(home), found[field], (), field)


def _chosen(folder: Path, known: set[int], asked: int | None) -> int:
    if not known:
        raise WavdiffError(f"{folder}: no receptive field is there for all scales")
    field = max(known) if asked is None else asked
    if field not in known:
        listed = ", ".join(str(value) for value in sorted(known))
        raise WavdiffError(f"--receptive-field must be one of those in {folder} ({listed}), got {asked}")
    return field


def _image_size(home: Path) -> tuple[int, int]:
    match = _SIZE.search(home.name)
    if match is None:
        raise WavdiffError(f"{home}: its name must say the size of the images, as in celebA_160x160_gray")
    return int(match[1]), int(match[2])


def read_network(file: Path, inputs: int, outputs: int, receptive_field: int | None = None) -> BiasFreeNetwork:
    """A released network.

    Args:
        file: model.pt.
        inputs, outputs: channels that it must have.
        receptive_field: that it must have; None: what its layers make it.

    Raises:
        WavdiffError: a file that cannot be read without executing it, other tensors, or values that are not finite.
    """
    try:
        return _network(_read_tensors(file), inputs, outputs, receptive_field)
    except WavdiffError as error:
        raise WavdiffError(f"{file}: {error}") from error


def _read_tensors(file: Path) -> dict[str, Tensor]:
    """The state dict by name without `module.`; shapes of one value per channel are (channels,)."""
    try:
        if file.stat().st_size > LARGEST_FILE:
            raise WavdiffError(f"a released network has at most {LARGEST_FILE} bytes, this file {file.stat().st_size}")
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                unpacked = sum(member.file_size for member in archive.infolist())
            if unpacked > LARGEST_FILE:
                raise WavdiffError(
                    f"a released network has at most {LARGEST_FILE} bytes, this file {unpacked} unpacked"
                )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other pickle protocols, before the error that follows
            loaded = torch.load(file, map_location="cpu", weights_only=True)
    except WavdiffError:
        raise
    except Exception as error:  # a damaged pickle raises whatever it likes
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise WavdiffError(f"cannot be read as weights only ({type(error).__name__}: {reason})") from error
    if not isinstance(loaded, dict):
        raise WavdiffError(f"must hold a state dict, got {type(loaded).__name__}")
    tensors: dict[str, Tensor] = {}
    for name, value in loaded.items():
        if not isinstance(name, str) or not _TENSOR.fullmatch(name) or not isinstance(value, Tensor):
            raise WavdiffError(f"is not a released network: unknown entry {shown(name)}")
        if value.dtype not in TYPES or value.layout != torch.strided or value.device.type != "cpu":
            raise WavdiffError(f"{name} must hold floating-point numbers, got {value.dtype}")
        if value.numel() * value.element_size() > LARGEST_FILE:  # few numbers in the file can stand for many
            raise WavdiffError(f"{name} is too large, got shape {tuple(value.shape)}")
        if not bool(value.isfinite().all()):
            raise WavdiffError(f"{name} has values that are not finite")
        plain = value.detach().float()
        tensors[name.removeprefix("module.")] = plain if name.endswith(".weight") else plain.flatten()
    return tensors


def _network(tensors: dict[str, Tensor], inputs: int, outputs: int, receptive_field: int | None) -> BiasFreeNetwork:
    depth = sum(name.startswith("conv_layers.") for name in tensors)
    first = tensors.get("conv_layers.0.weight")
    if depth < 2 or first is None or first.ndim != 4:
        raise WavdiffError("is not a released network: conv_layers.0.weight and more are needed")
    kernels = []
    for layer in range(depth):
        weight = tensors.get(f"conv_layers.{layer}.weight")
        if weight is None or weight.ndim != 4 or weight.shape[2:] not in ((1, 1), (3, 3)):
            raise WavdiffError(f"conv_layers.{layer}.weight must be there, with a kernel of 1x1 or 3x3")
        kernels.append(int(weight.shape[-1]))
    field = 1 + 2 * kernels.count(3)
    if receptive_field is not None and field != receptive_field:
        raise WavdiffError(f"its layers make a receptive field of {field}x{field}, not {receptive_field}")
    if kernels != bias_free_kernels(depth, field):
        raise WavdiffError(f"its 3x3 layers are not where those of the release are: {kernels}")
    width = int(first.shape[0])
    with torch.device("meta"):  # its shapes alone, until they are known to be those of the file
        network = BiasFreeNetwork(inputs, outputs, width=width, depth=depth, receptive_field=field)
    state = network.state_dict()
    renamed = {}
    for ours, theirs in _names(depth).items():
        if theirs not in tensors:
            raise WavdiffError(f"{theirs} is missing")
        if tensors[theirs].shape != state[ours].shape:
            raise WavdiffError(
                f"{theirs} must be of shape {tuple(state[ours].shape)}, got {tuple(tensors[theirs].shape)}"
            )
        renamed[ours] = tensors[theirs]
        if ours.endswith("running_sd") and not bool((tensors[theirs] > 0).all()):
            raise WavdiffError(f"{theirs} must be positive")
    unused = set(tensors) - set(_names(depth).values())
    if unused:
        raise WavdiffError(f"is not a released network: unknown entry {shown(min(unused))}")
    network.load_state_dict(renamed, assign=True)
    return network.eval()


def _names(depth: int) -> dict[str, str]:
    """Our names of a network's tensors and those of the release."""
    names = {f"convolutions.{layer}.weight": f"conv_layers.{layer}.weight" for layer in range(depth)}
    for layer in range(depth - 2):
        names[f"scales.{layer}.gamma"] = f"BN_layers.{layer}.gammas"
        names[f"scales.{layer}.running_sd"] = f"BN_layers.{layer}.running_sd"
    return names
