"""The four verbs as functions on pictures: batches of any number, gray or RGB, any size, any kind.

`sample` draws tensors in [-1, 1], (N, C, H, W). `denoise` and `upscale` take Pillow images, NumPy arrays or tensors
and give the same kind back (see `images.in_memory`; nothing is differentiated through them); around pictures they see
their mirror images, not the zeros that networks saw in training, unless a picture has the size of the training images
and the model knows their border. A gray cascade treats the three channels of an RGB picture alike and apart; an RGB
cascade sees a gray picture as three equal channels and its answer is gray. `sigma` is in [0, 1] units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from wavdiff.images import Planes, plain_info
from wavdiff.images.in_memory import as_planes
from wavdiff.images.rectangle import Rectangle
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.cascade.sampling import sample_walk
from wavdiff.models.cascade.saved import load_cascade
from wavdiff.models.folders import DEFAULT_RESTORATION_MODEL
from wavdiff.restoration.channels import MemorySource
from wavdiff.restoration.plain import Mode
from wavdiff.restoration.request import Quality, RestorationRequest
from wavdiff.restoration.restorer import Restorer
from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import check_sigma, whole_number


def load(model: str | Path = "faces", device: str | torch.device = "cpu") -> WaveletCascade:
    """A cascade by the name of a shipped model ("photos", "faces", "fashion") or by its folder."""
    return load_cascade(model, device)


def sample(cascade: WaveletCascade, n: int = 1, seed: int = 0, **settings: Any) -> Tensor:
    """Draw `n` new images, (n, C, H, W) in [-1, 1]; image k depends on `seed` + k only. Settings: see `sample_walk`."""
    n, seed = whole_number(n, "n"), whole_number(seed, "seed")
    for name, value, least in (("n", n, 1), ("seed", seed, 0)):
        if value < least:
            raise WavdiffError(f"{name} must be at least {least}, got {value}")
    return sample_walk(cascade, range(seed, seed + n), **settings)[-1].clamp(-1, 1)


def _model(model: str | Path | WaveletCascade) -> WaveletCascade:
    return load_cascade(model) if isinstance(model, str | Path) else model


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
) -> Any:
    """Remove noise from pictures of any size.

    Args:
        image: a Pillow image, a NumPy array ((H, W), (H, W, C) or (N, H, W, C); integers, or floats in [0, 1]), or a
            tensor ((C, H, W) or (N, C, H, W) in [-1, 1]; do not clamp its noise). Opacity is left alone.
        sigma: standard deviation of white noise, [0, 1) units; None: measure the noise of every picture.
        noise: what is measured: "white", "poisson" (noise that grows with brightness), or "auto": whichever there is.
        gain, read_noise: noise that is known to grow: its variance is gain x + read_noise^2 for x in [0, 1].
        declip: take back what noise that was cut off at black and white does to them.
        impulses: whether single values at black and white are replaced by their neighbours' median; None: where there
            are some at both ends.
        model: a cascade, the name of one that ships, or a folder.
        mode: "mean": the estimated posterior mean; "sample": a draw from the posterior.
        quality: of means: "fast", "good" or "best": the mean over 1, 2 or 8 turned, mirrored and shifted copies.
        seed: of the draw; picture k uses `seed` + k.
        steps, solver: of the draw; default the cascade's.
        colour: how a gray model takes an RGB picture: its channels apart, or luma and two differences of colour.

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
    }
    draws = {"mode": mode, "quality": quality, "seed": seed, "solver": solver, "steps": steps}
    request = RestorationRequest("denoise", colour=colour, **known, **draws)  # type: ignore[arg-type]
    return _restored(image, _model(model), request)


def upscale(
    image: Any,
    factor: float = 2,
    *,
    size: tuple[int, int] | None = None,
    longest: int | None = None,
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
        size, longest: (height, width) of the result, or its longest side, in the place of a factor.
        model: a cascade, the name of one that ships, or a folder.
        mode: "mean" or "sample".
        quality: of means, as for `denoise`; block means stay.
        seed: of the draw; picture k uses `seed` + k.
        steps, solver: of the draw; default the cascade's.
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
        mode=mode,
        quality=quality,
        seed=seed,
        solver=solver,
        steps=steps,
        colour=colour,
    )
    return _restored(image, _model(model), request)


def _restored(image: Any, cascade: WaveletCascade, request: RestorationRequest) -> Any:
    pictures = as_planes(image)
    count, channels, height, width = pictures.colour.shape
    results: list[Planes] = []
    for index in range(count):
        alpha, key = (None if plane is None else plane[index].cpu() for plane in (pictures.alpha, pictures.key))
        info = replace(plain_info((height, width), channels), has_alpha=alpha is not None, has_key=key is not None)
        source = MemorySource(Planes(pictures.colour[index].cpu(), alpha, key), info)
        work = Restorer(cascade, source, replace(request, seed=request.seed + index), None, limited=pictures.limited)
        work.prepare()
        result = torch.empty(channels, *work.size)

        def write(where: Rectangle, values: Tensor, result: Tensor = result) -> None:
            where.of(result).copy_(values)

        work.colour(write, request.mode, 0)
        results.append(work.completed(Rectangle(0, work.size[0], 0, work.size[1]), result))
        work.close()

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
