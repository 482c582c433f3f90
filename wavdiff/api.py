"""The verbs as functions on pictures: batches of any number, gray or RGB, any size, any kind.

`sample` draws tensors in [-1, 1], (N, C, H, W). `denoise` and `upscale` take Pillow images, NumPy arrays or tensors
and give the same kind back (see `images.in_memory`; nothing is differentiated through them); around pictures they see
their mirror images, not the zeros that networks saw in training, unless a picture has the size of the training images
and the model knows their border. A gray cascade treats the three channels of an RGB picture alike and apart; an RGB
cascade sees a gray picture as three equal channels and its answer is gray. `sigma` is in [0, 1] units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from wavdiff.data import Augmentation, crop_example
from wavdiff.images import Planes, plain_info
from wavdiff.images.in_memory import as_planes
from wavdiff.images.rectangle import Rectangle
from wavdiff.models import DEFAULT_FAMILY
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.cascade.sampling import sample_walk
from wavdiff.models.cascade.saved import load_cascade
from wavdiff.models.family import check_can, load_model
from wavdiff.models.folders import (
    DEFAULT_RESTORATION_MODEL,
    data_section,
    family_of,
    find_any_model,
    training_configuration,
)
from wavdiff.restoration.channels import MemorySource
from wavdiff.restoration.cleaned import restoring
from wavdiff.restoration.plain import Mode
from wavdiff.restoration.request import Quality, RestorationRequest
from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import check_sigma, whole_number

_PLAIN: dict[str, Any] = {"augmentation": Augmentation(), "generator": None}


def load(model: str | Path = "faces", device: str | torch.device = "cpu") -> Any:
    """A model by the name of a shipped one ("photos", "faces", "fashion") or by its folder, in evaluation mode.

    Most are cascades; other families have modules of their own (`models.vdvae.Vdvae`, `models.wavpool.WavPool`).
    """
    folder = find_any_model(model)
    if family_of(folder).Config.family == DEFAULT_FAMILY:
        return load_cascade(model, device)
    return load_model(folder).to(device)


def sample(model: Any, n: int = 1, seed: int = 0, **settings: Any) -> Tensor:
    """Draw `n` new images, (n, C, H, W) in [-1, 1]; image k depends on `seed` + k only.

    Settings of cascades: see `sample_walk`; of hierarchical VAEs: `temperature`.

    Raises:
        WavdiffError: a model that draws nothing, or a number out of its range.
    """
    n, seed = whole_number(n, "n"), whole_number(seed, "seed")
    for name, value, least in (("n", n, 1), ("seed", seed, 0)):
        if value < least:
            raise WavdiffError(f"{name} must be at least {least}, got {value}")
    if isinstance(model, WaveletCascade):
        return sample_walk(model, range(seed, seed + n), **settings)[-1].clamp(-1, 1)
    check_can(model, "sample", "given", type(model).__name__)
    drawn: Tensor = model.sample(range(seed, seed + n), **settings)
    return drawn


def cascade_of(model: str | Path | WaveletCascade) -> WaveletCascade:
    """A cascade as it is given, or loaded by its name or folder."""
    return load_cascade(model) if isinstance(model, str | Path) else model


@dataclass(frozen=True)
class Classifier:
    """A model that knows classes, and how pictures are cut for it.

    Attributes:
        model: it.
        settings: as for `data.crop_example`.
    """

    model: Any
    settings: dict[str, Any]


def load_classifier(model: str | Path) -> Classifier:
    """A classifier by the folder of its run or model.

    Raises:
        WavdiffError: no such model, or one of another kind.
    """
    folder = find_any_model(model)
    loaded = load(folder)
    check_can(loaded, "classify", str(model), family_of(folder).noun)
    data, config = data_section(training_configuration(folder)), loaded.config
    settings = {"crop": data.get("crop"), "pad": bool(data.get("pad"))}
    return Classifier(loaded, {"size": config.image_size, "channels": config.channels, **settings})


def classify(image: Any, model: str | Path | Classifier) -> dict[str, float]:
    """Probabilities of the classes of one picture, whose largest centred square is brought to the model's size.

    Args:
        image: a Pillow image, a NumPy array or a tensor, as for `denoise`.
        model: a classifier, or the folder of one.

    Raises:
        WavdiffError: several pictures, or something that is none; a model that knows no classes.
    """
    known = model if isinstance(model, Classifier) else load_classifier(model)
    pictures = as_planes(image).colour
    if len(pictures) != 1:
        raise WavdiffError(f"one picture is classified at a time, got {len(pictures)}")
    pixels = ((pictures[0].cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    example = crop_example(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels, **known.settings, **_PLAIN)
    probabilities = known.model.classify(example[None])[0].tolist()
    return dict(zip(known.model.classes, probabilities, strict=True))


def denoise(
    image: Any,
    sigma: float | None = None,
    *,
    noise: Literal["auto", "white", "poisson"] = "auto",
    gain: float | None = None,
    read_noise: float = 0.0,
    declip: bool = True,
    impulses: bool | None = None,
    model: str | Path | WaveletCascade = DEFAULT_RESTORATION_MODEL,
    mode: Mode = "mean",
    quality: Quality = "fast",
    seed: int = 0,
    steps: int | None = None,
    solver: str | None = None,
    colour: Literal["channels", "luma"] = "channels",
    strength: float = 1.0,
) -> Any:
    """Remove noise from pictures of any size.

    Args:
        image: a Pillow image, a NumPy array ((H, W), (H, W, C) or (N, H, W, C); integers, or floats in [0, 1]), or a
            tensor ((C, H, W) or (N, C, H, W) in [-1, 1]; do not clamp its noise). Opacity is left alone.
        sigma: standard deviation of white noise, [0, 1) units; None: measure the noise of every picture.
        noise: what is measured: "white", "poisson" (noise that grows with brightness), or "auto": whichever there is.
        gain: noise that is known to grow: its variance is gain x + read_noise^2 for x in [0, 1].
        read_noise: see `gain`.
        declip: take back what noise that was cut off at black and white does to them.
        impulses: whether single values at black and white are replaced by their neighbours' median; None: where there
            are some at both ends.
        model: a cascade, the name of one that ships, or a folder.
        mode: "mean": the estimated posterior mean; "sample": a draw from the posterior.
        quality: of means: "fast", "good" or "best": the mean over 1, 2 or 8 turned, mirrored and shifted copies.
        seed: of the draw; picture k uses `seed` + k.
        steps: noise levels of the draw; default the cascade's.
        solver: of the draw; default the cascade's.
        colour: how a gray model takes an RGB picture: its channels apart, or luma and two differences of colour.
        strength: of means: the part of the noise that is taken away, in [0, 1]; 0.8 leaves a grain of a fifth.

    Returns:
        The same kind, type and shape.

    Raises:
        WavdiffError: sigma out of range, or something that is no picture.
    """
    if sigma is not None:
        sigma = check_sigma(sigma)
    known = {
        "sigma": sigma,
        "noise": noise,
        "gain": gain,
        "read_noise": read_noise,
        "declip": declip,
        "impulses": impulses,
        "strength": strength,
    }
    draws = {"mode": mode, "quality": quality, "seed": seed, "solver": solver, "steps": steps}
    request = RestorationRequest("denoise", colour=colour, **known, **draws)  # type: ignore[arg-type]
    return restored_pictures(image, cascade_of(model), request)


def upscale(
    image: Any,
    factor: float = 2,
    *,
    size: tuple[int, int] | None = None,
    longest: int | None = None,
    denoise: bool = False,
    sigma: float | None = None,
    strength: float = 1.0,
    model: str | Path | WaveletCascade = DEFAULT_RESTORATION_MODEL,
    mode: Mode = "mean",
    quality: Quality = "fast",
    seed: int = 0,
    steps: int | None = None,
    solver: str | None = None,
    colour: Literal["channels", "luma"] = "channels",
) -> Any:
    """Enlarge pictures; with Haar and a power of two, the result's block means are the input.

    Floating-point results may leave the range a little, which integers and Pillow images cannot: those are the nearest
    pictures within the range that have the block means.

    Args:
        image: a Pillow image, a NumPy array or a tensor, as for `denoise`. Opacity is enlarged as well.
        factor: above 1. Powers of two keep block means; others are made by the next power of two, reduced with Lanczos'
            filter.
        size: (height, width) of the result, in the place of a factor.
        longest: longest side of the result, in the place of a factor.
        denoise: remove noise first, of a level that is measured.
        sigma: the same with noise of this level, [0, 1) units.
        strength: of removing noise, as for `denoise`.
        model: a cascade, the name of one that ships, or a folder.
        mode: "mean" or "sample".
        quality: of means, as for `denoise`; block means stay.
        seed: of the draw; picture k uses `seed` + k.
        steps: noise levels of the draw; default the cascade's.
        solver: of the draw; default the cascade's.
        colour: how a gray model takes an RGB picture: its channels apart, or luma and two differences of colour.

    Returns:
        The same kind and type, larger.

    Raises:
        WavdiffError: a factor that this cascade cannot do, or something that is no picture.
    """
    request = RestorationRequest(
        "upscale",
        factor=factor,
        size=size,
        longest=longest,
        denoise=denoise or sigma is not None,
        sigma=None if sigma is None else check_sigma(sigma),
        strength=strength,
        mode=mode,
        quality=quality,
        seed=seed,
        solver=solver,
        steps=steps,
        colour=colour,
    )
    return restored_pictures(image, cascade_of(model), request)


def restored_pictures(image: Any, cascade: WaveletCascade, request: RestorationRequest) -> Any:
    """What a request makes of pictures of any kind, in the same kind."""
    pictures = as_planes(image)
    count, channels, height, width = pictures.colour.shape
    results: list[Planes] = []
    for index in range(count):
        alpha, key = (None if plane is None else plane[index].cpu() for plane in (pictures.alpha, pictures.key))
        info = replace(plain_info((height, width), channels), has_alpha=alpha is not None, has_key=key is not None)
        source = MemorySource(Planes(pictures.colour[index].cpu(), alpha, key), info)
        own = replace(request, seed=request.seed + index)
        with restoring(cascade, source, own, None, limited=pictures.limited) as work:
            work.prepare()
            result = torch.empty(channels, *work.size)

            def write(where: Rectangle, values: Tensor, result: Tensor = result) -> None:
                where.of(result).copy_(values)

            work.colour(write, request.mode, 0)
            results.append(work.completed(Rectangle(0, work.size[0], 0, work.size[1]), result))

    def stacked(name: str) -> Tensor | None:
        planes = [getattr(result, name) for result in results]
        return None if planes[0] is None else torch.stack(planes)

    device = pictures.colour.device
    colour = torch.stack([result.colour for result in results]).to(device)
    return pictures.back(colour, *(None if p is None else p.to(device) for p in (stacked("alpha"), stacked("key"))))


def train(
    config: str | Path | dict[str, Any] = "tiny",
    out: str | Path = "runs/wavdiff",
    data: str | None = None,
    overrides: Sequence[str] = (),
    scales: Literal["all"] | Sequence[str] = "all",
) -> Path:
    """Train a cascade, or continue the training in `out`.

    Args:
        config: a preset's name, a YAML file, or a mapping.
        out: folder of the run.
        data: "faces", "fashion-mnist", "celeba" or a folder; default what the configuration names.
        overrides: "section.name=value".
        scales: scales to train, or "all".

    Returns:
        The folder of the trained model, ready for `load`.

    Raises:
        WavdiffError: a wrong configuration, data that cannot be opened, a run that does not fit.
    """
    from wavdiff.training.config import from_mapping, read_mapping
    from wavdiff.training.trainer import Trainer

    mapping = config if isinstance(config, dict) else read_mapping(config)
    if data is not None:
        mapping = {**mapping, "data": {**mapping.get("data", {}), "name": data}}
    resolved = from_mapping(mapping, list(overrides))
    return Trainer(resolved, Path(out), None if scales == "all" else list(scales)).run()
