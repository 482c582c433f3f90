"""Denoisers at fixed noise levels, with everything constant folded into convolutions (see `networks.folded`)."""

from __future__ import annotations

import torch
from torch import Tensor

from wavdiff.models.cascade.denoising import Coarse, Denoised
from wavdiff.models.cascade.networks import FoldedNetwork


class FoldedDenoiser:
    """A denoiser at one noise level.

    Args:
        network: takes the inputs that `inputs` names, one behind the other, unscaled; answers in library units.
        skip: factor of the noisy coefficients that are added to its answer.
        inputs: in their order, of "noisy", "coarse" (the estimate) and "residual" (observed minus estimate).
        offset: added to inputs that are images, so that black is 0.
        corrects: whether the last channels of the answer are added to the estimate of the coarse image.
    """

    def __init__(
        self,
        network: FoldedNetwork,
        *,
        skip: float = 1.0,
        inputs: tuple[str, ...] = ("noisy",),
        offset: float = 0.0,
        corrects: bool = False,
    ) -> None:
        self.network, self.skip, self.inputs, self.offset, self.corrects = network, skip, inputs, offset, corrects

    def denoise(self, noisy: Tensor, level: object = None, coarse: Coarse | None = None) -> Denoised:
        """As `EDMDenoiser.denoise`; levels are those that it was made for."""
        result = self.network(self._assembled(noisy, coarse))
        mean = result[:, : noisy.shape[1]].add_(noisy, alpha=self.skip)
        if coarse is None:
            return Denoised(mean)
        corrected = result[:, noisy.shape[1] :].add_(coarse.estimate) if self.corrects else coarse.estimate
        return Denoised(mean, corrected)

    def _assembled(self, noisy: Tensor, coarse: Coarse | None) -> Tensor:
        if coarse is None:
            return noisy + self.offset if self.offset else noisy
        given = {"noisy": noisy, "coarse": coarse.estimate, "residual": coarse.estimate}
        batch, _, height, width = noisy.shape
        # Straight into the layout and precision of the convolutions: a fourth of the time of doing it step by step.
        assembled = torch.empty(
            (batch, sum(given[name].shape[1] for name in self.inputs), height, width),
            dtype=self.network.dtype,
            device=noisy.device,
            memory_format=self.network.memory_format(height, width),
        )
        place = 0
        for name in self.inputs:
            target = assembled[:, place : place + given[name].shape[1]]
            place += target.shape[1]
            if name == "residual":
                target.zero_() if coarse.observed is None else target.copy_(coarse.observed - coarse.estimate)
            elif name == "coarse" and self.offset:
                target.copy_(coarse.estimate + self.offset)
            else:
                target.copy_(given[name])
        return assembled
