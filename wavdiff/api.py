"""The four verbs as functions on pictures: batches of any number, gray or RGB, any size.

Tensors here are pictures in [-1, 1], (N, C, H, W) or (C, H, W), with C = 1 or 3 whatever the channels of the cascade:
a gray cascade treats the three channels of an RGB picture alike and apart; an RGB cascade sees a gray picture as three
equal channels and its answer is their mean. `sigma` is in [0, 1] units.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from wavdiff.cascade import Mode, WaveletCascade
from wavdiff.errors import WavdiffError
from wavdiff.pipeline import load_cascade
from wavdiff.solvers import Ladder

Progress = Callable[[int], None]
GROUP = 16
FRAME = 8  # pixels repeated around a picture before it is enlarged, and cut off again


def load(model: str | Path = "faces", device: str | torch.device = "cpu") -> WaveletCascade:
    """A cascade by the name of a shipped model ("faces", "fashion") or by its folder; see `pipeline.load_cascade`."""
    return load_cascade(model, device)


def check_sigma(sigma: float, name: str = "sigma") -> float:
    """`sigma` if it is a noise level in [0, 1] units.

    Raises:
        WavdiffError: negative, not finite, or 1 and more, with a hint at the 0..255 convention.
    """
    if not 0 <= sigma < 1:
        hint = f"; did you mean {sigma:g}/255 = {sigma / 255:.3f}?" if 1 <= sigma <= 255 else ""
        raise WavdiffError(f"{name} is a standard deviation in [0, 1) of the image's range, got {sigma:g}{hint}")
    return sigma


def sample_walk(
    cascade: WaveletCascade,
    seeds: Sequence[int],
    *,
    low_seeds: Sequence[int] | None = None,
    batch_size: int = 64,
    size: tuple[int, int] | None = None,
    stop_scale: int = 0,
    solver: str | None = None,
    lowpass_steps: int | None = None,
    detail_steps: int | None = None,
    progress: Progress | None = None,
) -> list[Tensor]:
    """Draw one image per seed and keep the walk.

    Args:
        cascade: the model.
        seeds: one per image.
        low_seeds: seeds of the low-pass images; default `seeds`.
        batch_size: images between two reports of progress; changes no image (see `_group_size`).
        size: (H, W), default the cascade's own.
        stop_scale: end the walk at x_{stop_scale}.
        solver: "dpm", "sde-dpm", "heun" or "euler"; default the cascade's.
        lowpass_steps, detail_steps: rungs of the ladders; default the cascade's.
        progress: called with the number of images finished, after each batch.

    Returns:
        x_J, ..., x_{stop_scale}, each (N, C, h, w), clamped to [-1, 1] only by whoever saves them.
    """
    if batch_size < 1:
        raise WavdiffError(f"batch_size must be at least 1, got {batch_size}")
    shape = (cascade.channels, *(size or cascade.image_size))
    common: dict[str, Any] = {"solver": solver} if solver else {}
    low = {**common, **({"steps": lowpass_steps} if lowpass_steps is not None else {})}
    detail = {**common, **({"steps": detail_steps} if detail_steps is not None else {})}
    group = _group_size(cascade, shape)
    walks = []
    for start in range(0, len(seeds), batch_size):
        part = list(seeds[start : start + batch_size])
        low_part = list(low_seeds[start : start + batch_size]) if low_seeds is not None else part
        if len(low_part) != len(part):
            raise WavdiffError(f"low_seeds: one per image is needed ({len(seeds)}), got {len(low_seeds or [])}")
        filling = -len(part) % group
        for first in range(0, len(part), group):
            walk = cascade.sample(
                shape,
                (part + part[-1:] * filling)[first : first + group],
                low_seeds=(low_part + low_part[-1:] * filling)[first : first + group],
                lowpass_ladder=cascade.ladder("lowpass", **low),
                detail_ladder=cascade.ladder("details", **detail),
                stop_scale=stop_scale,
            )
            count = min(group, len(part) - first)
            walks.append([image[:count].float().cpu() for image in walk])
            if progress:
                progress(count)
    return [torch.cat(images).clone() for images in zip(*walks, strict=True)]


def _group_size(cascade: WaveletCascade, shape: tuple[int, int, int]) -> int:
    """Images per network call, a function of the image size alone.

    Convolutions of different batch sizes round differently, and sampling amplifies it (by up to 0.02 in bfloat16).
    Groups of one size, filled up where images are missing, make an image bit-equal whatever it is drawn with.
    """
    height, width = cascade.image_size
    return max(1, min(GROUP, GROUP * height * width // (shape[1] * shape[2])))


def sample(cascade: WaveletCascade, n: int = 1, seed: int = 0, **settings: Any) -> Tensor:
    """Draw `n` new images, (n, C, H, W) in [-1, 1]; image k depends on `seed` + k only. Settings: see `sample_walk`."""
    if n < 1:
        raise WavdiffError(f"n must be at least 1, got {n}")
    return sample_walk(cascade, range(seed, seed + n), **settings)[-1].clamp(-1, 1)


def _as_batch(picture: Tensor) -> tuple[Tensor, bool]:
    if picture.ndim == 3:
        return picture[None], True
    if picture.ndim != 4:
        raise WavdiffError(f"a picture is (C, H, W) or (N, C, H, W), got shape {tuple(picture.shape)}")
    return picture, False


def _through(cascade: WaveletCascade, pictures: Tensor, verb: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Apply `verb(batch, copies)` to pictures of 1 or 3 channels; `copies` counts batch rows per picture."""
    count, channels = pictures.shape[:2]
    if channels not in (1, 3):
        raise WavdiffError(f"a picture has 1 (gray) or 3 (RGB) channels, got {channels}")
    pictures = pictures.to(device=cascade.device, dtype=torch.float32)
    if channels == cascade.channels:
        result = verb(pictures, 1)
    elif cascade.channels == 1:
        result = verb(pictures.flatten(0, 1)[:, None], 3)[:, 0].unflatten(0, (count, channels))
    else:
        result = verb(pictures.expand(-1, 3, -1, -1), 1).mean(dim=1, keepdim=True)
    return result.clone().cpu()


def denoise(cascade: WaveletCascade, picture: Tensor, sigma: float, *, mode: Mode = "mean", seed: int = 0) -> Tensor:
    """Remove white noise of standard deviation `sigma` ([0, 1] units) from pictures of any size.

    Args:
        cascade: the model.
        picture: (C, H, W) or (N, C, H, W) in [-1, 1] plus noise (do not clamp it before).
        sigma: standard deviation of the noise, [0, 1) units.
        mode: "mean": the estimated posterior mean; "sample": a draw from the posterior.
        seed: of the draw; picture k uses `seed` + k.

    Returns:
        The same shape.

    Raises:
        WavdiffError: sigma out of range, or a shape that is no picture.
    """
    check_sigma(sigma)
    pictures, single = _as_batch(picture)

    def verb(batch: Tensor, copies: int) -> Tensor:
        level = torch.full((batch.shape[0],), 2 * sigma, device=batch.device)
        seeds = [seed * copies + row for row in range(batch.shape[0])]
        return cascade.denoise(batch, level, mode=mode, seeds=seeds)

    result = _through(cascade, pictures, verb)
    return result[0] if single else result


def _knows_border(cascade: WaveletCascade, small: Tensor, factor: int) -> bool:
    """Whether the picture's border is the border that the networks were trained with: that of their image size.

    There the zeros around it tell a network where it is, which helps.
    Around any other picture they only disturb its last columns.
    """
    return (small.shape[-2] * factor, small.shape[-1] * factor) == cascade.image_size


def upscale(
    cascade: WaveletCascade,
    picture: Tensor,
    factor: int = 2,
    *,
    mode: Mode = "mean",
    seed: int = 0,
    steps: int | None = None,
    solver: str | None = None,
) -> Tensor:
    """Enlarge pictures by 2, 4, ...; with Haar, the result's block means are the input.

    Args:
        cascade: the model.
        picture: (C, H, W) or (N, C, H, W) in [-1, 1].
        factor: a power of two that the cascade has scales for.
        mode: "mean" or "sample".
        seed: of the draw; picture k uses `seed` + k.
        steps, solver: of the draw; default the cascade's.

    Returns:
        (..., C, factor H, factor W).

    Raises:
        WavdiffError: a factor that this cascade cannot do, or a shape that is no picture.
    """
    pictures, single = _as_batch(picture)
    changes: dict[str, Any] = {
        **({"steps": steps} if steps is not None else {}),
        **({"solver": solver} if solver else {}),
    }
    ladder: Ladder = cascade.ladder("details", **changes)

    def verb(batch: Tensor, copies: int) -> Tensor:
        seeds = [seed * copies + row for row in range(batch.shape[0])]
        frame = 0 if _knows_border(cascade, batch, factor) else FRAME
        framed = functional.pad(batch, (frame,) * 4, mode="replicate")
        large = cascade.upscale(framed, factor, mode=mode, seeds=seeds, ladder=ladder)
        height, width = large.shape[-2:]
        return large[..., frame * factor : height - frame * factor, frame * factor : width - frame * factor]

    result = _through(cascade, pictures, verb)
    return result[0] if single else result


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
    from wavdiff.config import from_mapping, read_mapping
    from wavdiff.training.loop import Trainer

    mapping = config if isinstance(config, dict) else read_mapping(config)
    if data is not None:
        mapping = {**mapping, "data": {**mapping.get("data", {}), "name": data}}
    resolved = from_mapping(mapping, list(overrides))
    return Trainer(resolved, Path(out), None if scales == "all" else list(scales)).run()
