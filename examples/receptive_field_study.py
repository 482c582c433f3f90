"""Models of several receptive fields, pictures, and the PSNR of denoising these with those (see `receptive_fields`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wavdiff.data import find_source, open_source, source_names
from wavdiff.data.augmentation import Augmentation, crop_example
from wavdiff.evaluation import metrics
from wavdiff.evaluation.photographs.measuring import seeded_noise
from wavdiff.evaluation.photographs.reading import find_photographs
from wavdiff.evaluation.scores import level_name
from wavdiff.evaluation.tables import NOTHING
from wavdiff.images import read_pixels
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.cascade.saved import load_cascade
from wavdiff.system.errors import WavdiffError

BATCH = 20
NOISY = "noisy"


@dataclass(frozen=True)
class Model:
    """A cascade under the name that tables give it."""

    name: str
    cascade: WaveletCascade

    @property
    def flat(self) -> bool:
        """Whether it is one network on the pixels."""
        return self.cascade.levels == 0

    @property
    def receptive_field(self) -> int | None:
        """Side of what one output sees, of the network (flat) or of the detail networks; None if these differ."""
        names = ["low"] if self.flat else [str(scale) for scale in range(self.cascade.levels)]
        fields = {getattr(self.cascade.denoiser(name).network, "receptive_field", None) for name in names}
        return fields.pop() if len(fields) == 1 else None

    @property
    def kind(self) -> str:
        """What tables call it."""
        return "flat" if self.flat else "cascade"

    @property
    def parameters(self) -> int:
        """How many numbers were trained."""
        return sum(parameter.numel() for parameter in self.cascade.parameters())

    @property
    def multiply_adds_per_pixel(self) -> float:
        """Of one call of every network, per pixel of the picture."""
        return self.cascade.multiply_adds_per_pixel()

    @property
    def field_text(self) -> str:
        """The receptive field as tables show it."""
        field = self.receptive_field
        return NOTHING if field is None else f"{field}x{field}"


@dataclass(frozen=True)
class Pictures:
    """Clean pictures: (C, H, W) in [-1, 1] by name, and how many of them had to be enlarged to that size."""

    source: str
    planes: dict[str, Tensor]
    enlarged: int


@dataclass(frozen=True)
class Study:
    """What was found: decibels (levels, pictures), float64, by model, those of the noisy pictures under `NOISY`."""

    sigmas: list[float]
    psnr: dict[str, Tensor]

    def mean_and_error(self, name: str, beside: str | None = None) -> list[tuple[float, float]]:
        """Mean over pictures and its standard error at every level, of PSNR or of its excess over that of `beside`."""
        values = self.psnr[name] - (self.psnr[beside] if beside else 0)
        count = values.shape[1]
        errors = values.std(dim=1) / math.sqrt(count) if count > 1 else torch.full((len(values),), math.nan)
        return list(zip(values.mean(dim=1).tolist(), errors.tolist(), strict=True))


def open_models(texts: Sequence[str], device: str, *, float32: bool) -> list[Model]:
    """Load models from NAME=FOLDER or FOLDER, cascades first, each kind from the smallest receptive field on.

    Raises:
        WavdiffError: a missing or damaged model, a name that is used twice or is `NOISY`.
    """
    models: dict[str, Model] = {}
    for text in texts:
        name, separator, place = text.partition("=")
        if not separator:
            place = text
            name = Path(text).absolute().name
        if not name or name == NOISY or name in models:
            reason = "is used twice" if name in models else f"must not be empty or {NOISY!r}"
            raise WavdiffError(f"{text}: the name {name!r} {reason}; give another one as NAME=FOLDER")
        cascade = load_cascade(place, device)
        cascade.autocast = cascade.autocast and not float32
        models[name] = Model(name, cascade)
    return sorted(models.values(), key=lambda model: (model.flat, model.receptive_field or math.inf))


def common_format(models: Sequence[Model], size: int | None) -> tuple[int, tuple[int, int]]:
    """Channels and size (H, W) of the pictures that all models are given.

    Raises:
        WavdiffError: models of gray and of colour pictures, or of several sizes and no `size`.
    """
    channels = {model.cascade.channels: model.name for model in models}
    if len(channels) > 1:
        raise WavdiffError(f"models must all be gray or all RGB; {channels[1]} is gray, {channels[3]} is RGB")
    sizes = {model.cascade.image_size: model.name for model in models}
    if size is None and len(sizes) > 1:
        texts = ", ".join(f"{name} has {height}x{width}" for (height, width), name in sizes.items())
        raise WavdiffError(f"models of several sizes need --size; {texts}")
    return next(iter(channels)), (size, size) if size is not None else next(iter(sizes))


def read_pictures(
    data: str, data_dir: Path | None, size: tuple[int, int], channels: int, crop: int | None, limit: int
) -> Pictures:
    """Read the first `limit` pictures, by name, and bring them to `size` by a centre crop and Lanczos' filter.

    Args:
        data: a source by name, whose held-out images are taken, or a folder, of which all are taken.
        data_dir: where the files of a named source lie.
        size: (H, W).
        channels: 1, for the mean of RGB, or 3.
        crop: the shorter side of what is cut out; None for the largest.
        limit: at least 1.

    Raises:
        WavdiffError: no such source or folder, or a picture that cannot be read or is smaller than `crop`.
    """
    readers: dict[str, Callable[[], np.ndarray]]
    if data in source_names():
        source = open_source(data, "heldout", data_dir, channels)
        readers = {source.label(k): partial(source.__getitem__, k) for k in range(min(limit, len(source)))}
    else:
        files = find_photographs(Path(data).expanduser())
        readers = {name: partial(read_pixels, files[name]) for name in list(files)[:limit]}
    pad = data in source_names() and find_source(data).pad  # on a black canvas, as its model was trained
    planes, enlarged = {}, 0
    for name, read in readers.items():
        pixels = read()
        try:
            planes[name] = crop_example(pixels, size, channels, crop, pad, Augmentation(), None)
        except WavdiffError as error:
            raise WavdiffError(f"{name}: {error}") from error
        largest = min(length / side for length, side in zip(pixels.shape, size, strict=False))
        enlarged += not pad and (largest if crop is None else crop / min(size)) < 1
    return Pictures(data if data in source_names() else Path(data).absolute().name, planes, enlarged)


@torch.no_grad()
def measure(
    models: Sequence[Model],
    pictures: Mapping[str, Tensor],
    sigmas: Sequence[float],
    seed: int,
    say: Callable[[str], None] = lambda text: None,
) -> Study:
    """Add noise to all pictures and let every model remove it.

    Args:
        models: at least one.
        pictures: (C, H, W) in [-1, 1], by name.
        sigmas: standard deviations of the noise, [0, 1] units.
        seed: of the noise.
        say: is told of each level.
    """
    clean = torch.stack(list(pictures.values()))
    rows: dict[str, list[Tensor]] = {name: [] for name in (NOISY, *(model.name for model in models))}
    for sigma in sigmas:
        noise = torch.stack([seeded_noise(name, sigma, tuple(one.shape), seed) for name, one in pictures.items()])
        noisy = clean + 2 * sigma * noise
        rows[NOISY].append(metrics.psnr(noisy, clean, limited=False))
        for model in models:
            device = model.cascade.device
            level = torch.full((len(clean),), 2 * sigma, device=device)
            parts = [
                model.cascade.denoise(noisy[k : k + BATCH].to(device), level[k : k + BATCH]).mean.float().cpu()
                for k in range(0, len(clean), BATCH)
            ]
            rows[model.name].append(metrics.psnr(torch.cat(parts), clean, limited=False))
        say(f"{level_name(sigma)}: " + ", ".join(f"{name} {float(row[-1].mean()):.2f}" for name, row in rows.items()))
    return Study(list(sigmas), {name: torch.stack(row) for name, row in rows.items()})
