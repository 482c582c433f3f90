"""Things to undo: noise that was added to clean pictures, and their means of blocks, with the methods that undo them.

Denoising, at each level: y = x + n with n white of standard deviation sigma, not limited to the range of a file, goes
to BM3D (colour BM3D for RGB, the gray one for gray) and to every cascade. Enlarging, by each factor f: the means of
f x f blocks go to Pillow's filters, in floating point, and to every cascade; rows and columns at the bottom and right
that fill no block are cut off before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from wavdiff import api
from wavdiff.evaluation import metrics
from wavdiff.evaluation.request import Request
from wavdiff.evaluation.scores import level_name
from wavdiff.images import ResizeMethod, resize
from wavdiff.models.cascade.model import WaveletCascade

Method = Callable[..., Tensor]
"""From what is given, (N, C, h, w), to an estimate of the clean pictures, (N, C, H, W)."""
FILTERS: dict[str, ResizeMethod] = {"bicubic": "bicubic", "Lanczos": "lanczos"}


@dataclass(frozen=True)
class Trial:
    """One thing to undo.

    Attributes:
        name: "25/255" or "x2".
        given: the noisy or the small pictures, (N, C, h, w).
        clean: the truth, (N, C, H, W).
        references: what stands beside the models, by name.
        models: cascades in mean mode, by name; with `mode="sample"` and `seed`, picture k is drawn from `seed` + k.
    """

    name: str
    given: Tensor
    clean: Tensor
    references: Mapping[str, Method]
    models: Mapping[str, Method]

    @property
    def methods(self) -> dict[str, Method]:
        """References, then models."""
        return {**self.references, **self.models}


def trials(
    clean: Tensor,
    noise: Callable[[float], Tensor],
    cascades: Mapping[str, WaveletCascade],
    request: Request,
    filters: Sequence[str] = tuple(FILTERS),
) -> Iterator[tuple[str, Trial]]:
    """All that a request asks to undo, ("denoise" or "upscale", trial) one by one.

    Args:
        clean: pictures (N, C, H, W) in [-1, 1].
        noise: from sigma to white noise of standard deviation 1, of the shape of `clean`.
        cascades: by name; those without the scales for a factor, such as a network without any, are left out of it.
        request: levels, factors, and whether BM3D is run.
        filters: of `FILTERS`, to stand beside enlarging.
    """
    for sigma in request.sigmas:
        references: dict[str, Method] = {"noisy": torch.clone}
        if request.bm3d:
            references["BM3D"] = partial(metrics.bm3d_denoise, sigma=sigma)
        models = {name: partial(api.denoise, sigma=sigma, model=cascade) for name, cascade in cascades.items()}
        yield "denoise", Trial(level_name(sigma), clean + 2 * sigma * noise(sigma), clean, references, models)
    for factor in request.factors:
        height, width = (side // factor * factor for side in clean.shape[-2:])
        whole = clean[..., :height, :width]
        references = {name: partial(resize, size=(height, width), method=FILTERS[name]) for name in filters}
        models = {
            name: partial(api.upscale, factor=factor, model=cascade)
            for name, cascade in cascades.items()
            if factor <= 2**cascade.levels
        }
        yield "upscale", Trial(f"x{factor}", functional.avg_pool2d(whole, factor), whole, references, models)
