"""The library's walk of `denoise`, in float32 with gradients, which remembers what every denoiser was given.

The walk is that of `CascadeVerbs.denoise_walk`; only the context of the networks' calls (no autocast, no
inference mode) and the bookkeeping around them are this module's.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wavdiff.evaluation.inspection.description import receptive_field
from wavdiff.models.cascade.denoising import Coarse, Denoised
from wavdiff.models.cascade.verbs import CascadeVerbs


@dataclass(frozen=True)
class ScaleCall:
    """One call of a denoiser, library units, every tensor part of the graph of the walk.

    Attributes:
        noisy: noisy low-pass image (B, C, h, w) or noisy details (B, 3C, h, w).
        noise_level: its standard deviation.
        denoised: of the shape of `noisy`.
        coarse: for details, the coarse image (B, C, h, w) as the coarser scales left it; None for the low-pass image.
        observed: for details, the coarse image as it was observed; None where `coarse` counts as exact.
    """

    noisy: Tensor
    noise_level: float
    denoised: Tensor
    coarse: Tensor | None = None
    observed: Tensor | None = None


class _Recorded:
    """A denoiser that notes its calls; everything else is the denoiser's own."""

    def __init__(self, denoiser: Any, calls: list[ScaleCall]) -> None:
        self._denoiser, self._calls = denoiser, calls

    def __getattr__(self, name: str) -> Any:
        return getattr(self._denoiser, name)

    def denoise(self, noisy: Tensor, level: Tensor, coarse: Coarse | None = None) -> Denoised:
        # Nodes of their own in the graph: the noisy low-pass image also is what the coarsest details see as observed,
        # and a derivative by it must not go through the denoisers before this one.
        noisy = noisy.view_as(noisy)
        if coarse is not None:
            observed = None if coarse.observed is None else coarse.observed.view_as(coarse.observed)
            coarse = Coarse(coarse.estimate.view_as(coarse.estimate), observed, coarse.level)
        answer: Denoised = self._denoiser.denoise(noisy, level, coarse)
        given = (None, None) if coarse is None else (coarse.estimate, coarse.observed)
        self._calls.append(ScaleCall(noisy, float(level[0]), answer.mean, *given))
        return answer


class RecordedWalk(CascadeVerbs):
    """The walk of another cascade, with or without gradients.

    Args:
        cascade: trained or exact denoisers, in evaluation mode.
        gradients: whether the walk can be differentiated; costs the memory of all hidden layers.

    Attributes:
        calls: what the denoisers of the last walk were given and answered, from coarse to fine.
    """

    def __init__(self, cascade: CascadeVerbs, *, gradients: bool) -> None:
        for name in CascadeVerbs.__annotations__:
            setattr(self, name, getattr(cascade, name))
        self.calls: list[ScaleCall] = []
        self.lowpass = _Recorded(cascade.lowpass, self.calls)
        self.details = [_Recorded(denoiser, self.calls) for denoiser in cascade.details]
        self._gradients = gradients

    def network_context(self) -> contextlib.AbstractContextManager[Any]:
        """Context in which networks are called: full precision; gradients where they were asked for."""
        return torch.enable_grad() if self._gradients else torch.no_grad()

    def run(self, noisy: Tensor, noise_level: float) -> list[Tensor]:
        """Walk.

        Args:
            noisy: (B, C, H, W), library units.
            noise_level: standard deviation of its noise, library units.

        Returns:
            The denoised x_J, ..., x_0.
        """
        self.calls.clear()
        level = torch.full((noisy.shape[0],), noise_level, dtype=noisy.dtype, device=noisy.device)
        with self.network_context():
            return self.denoise_walk(noisy, level)


def reach(cascade: CascadeVerbs) -> int | None:
    """How far from a pixel of x_0 another may lie and still matter to it, in pixels; None: any distance.

    Each scale looks at half its receptive field on its own grid, at what the coarser scales made of theirs.
    """
    fields = [receptive_field(denoiser) for denoiser in (*cascade.details, cascade.lowpass)]
    known = [field for field in fields if field is not None]
    if cascade.wavelet != "haar" or len(known) < len(fields):
        return None
    levels = cascade.levels
    steps = [*(2 ** (scale + 1) for scale in range(levels)), 2**levels]
    return sum((field // 2) * step for field, step in zip(known, steps, strict=True)) + 2**levels
