"""Blind denoisers: bias-free networks as denoisers of a cascade.

A bias-free network is trained on all noise levels at once and returns the noise that it sees, r = f(y): the denoised
image is y - r, and its own estimate of the noise level is the rms of r (Mohan, Kadkhodaie, Simoncelli,
Fernandez-Granda, ICLR 2020, arXiv 1906.05478). What this denoiser shares with that of `denoisers` is the interface, so
that every verb takes both; what it does not use is the noise level that it is given.

The networks work on pixels in [0, 1], where black is 0: homogeneity and zero padding mean something only there. Library
units [-1, 1] are changed on the way in, p = (x + 1) / 2; details and noise have no offset, d_p = d / 2.

The detail network of Kadkhodaie, Guth, Mallat and Simoncelli (ICLR 2023) reads the coarse image and the noisy details.
Theirs was trained on clean coarse images and is given the denoised one; a cascade trained here with conditioning
augmentation has seen denoised ones.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

from wavdiff.models.cascade.denoising import Coarse, Denoised, least_known, short_step, shortened
from wavdiff.models.cascade.folded_denoisers import FoldedDenoiser
from wavdiff.models.cascade.networks import FoldedNetwork
from wavdiff.models.cascade.noise import expand, preconditioning

BLIND_TOP = 10.0
"""Top of a blind network's noise levels, standard units: it must tell the image from the noise by subtraction."""


def to_pixels(x: Tensor) -> Tensor:
    """Library units [-1, 1] as pixels [0, 1]."""
    return (x + 1) / 2


class BlindDenoiser(nn.Module):
    """A denoiser that takes its noise level from the image, and leaves the coarse image as it is.

    Args:
        network: of low-pass images: maps pixels (B, C, h, w) to the noise in them; of details: pixels of the coarse
            image and the noisy details, (B, 4C, h, w), to the noise in the details, (B, 3C, h, w).
        std: rms of the scale's coefficients over the training set, library units; it sets the units of schedules.
        coarse_std: not used.
        least: as of `EDMDenoiser`.
    """

    top = BLIND_TOP
    mean_draws = 4

    def __init__(self, network: nn.Module, std: float, coarse_std: float | None = None, least: float = 0.0) -> None:
        super().__init__()
        self.network = network
        self.std = std
        self.least = least
        self._chain: tuple[Any, FoldedNetwork] | None = None

    def train(self, mode: bool = True) -> Self:
        """As every module; the chain is made anew, for a fused optimiser or `.data` may have changed weights unseen."""
        self._chain = None
        return super().train(mode)

    def denoise(self, noisy: Tensor, level: Tensor, coarse: Coarse | None = None) -> Denoised:
        """As `EDMDenoiser.denoise`; of levels, only how far they lie below those of training is looked at, and the
        coarse image stays as it is."""
        mean, kept = self._answer(noisy, level, coarse)
        return Denoised(shortened(mean, noisy, self._share(level, None if coarse is None else coarse.level)), kept)

    def _share(self, level: Tensor, coarse_level: Tensor | None) -> Tensor:
        return short_step(level, least_known(self.least, self.std, coarse_level, level))[1]

    def _answer(self, noisy: Tensor, level: Tensor, coarse: Coarse | None) -> Denoised:
        if coarse is None:
            pixels, kept = to_pixels(noisy), None
        else:
            pixels, kept = torch.cat([to_pixels(coarse.estimate), noisy / 2], dim=1), coarse.estimate
        return Denoised(noisy - self._noise(pixels, (level.square() + self.std**2).sqrt()), kept)

    def loss(
        self,
        clean: Tensor,
        noisy: Tensor,
        level: Tensor,
        coarse: Coarse | None = None,
        clean_coarse: Tensor | None = None,
    ) -> tuple[Tensor, Denoised]:
        """As `EDMDenoiser.loss`, of the details only."""
        denoised = self._answer(noisy, level, coarse)
        _, c_out, _ = preconditioning(level / self.std)
        error = ((denoised.mean - clean) / (self.std * expand(c_out, clean))).square().mean(dim=(1, 2, 3))
        # Of details over 4C channels, as there, of which the correction's C are without error.
        return (error if coarse is None else error * 3 / 4), denoised

    def at(self, level: float, coarse_level: float = 0.0, *, gray: bool, dtype: torch.dtype) -> FoldedDenoiser:
        """As `EDMDenoiser.at`."""
        share = float(self._share(torch.tensor([level]), torch.tensor([coarse_level])))
        network: Any = self.network
        inputs, outputs = network.config["in_channels"], network.config["out_channels"]
        folded = FoldedNetwork(
            network,
            torch.zeros(1),
            gray=gray,
            dtype=dtype,
            input_scale=torch.full((inputs,), 0.5),
            output_scale=torch.full((outputs,), -2.0 * share),
        )
        return FoldedDenoiser(folded, inputs=("noisy",) if inputs == outputs else ("coarse", "noisy"), offset=1.0)

    def _noise(self, pixels: Tensor, size: Tensor) -> Tensor:
        """The noise in `pixels`, library units, for states whose rms is about `size` (B,), library units.

        In training every example is brought to the same size first and its noise back again. Outside training that
        changes nothing, for the network is homogeneous; in training the noisiest examples would else be all that the
        statistics of a batch show.

        Outside training the network is computed in float32 even under autocast: it tells the noise by subtraction, and
        bfloat16 adds noise of its own, of 0.4 % of a pixel's value.
        """
        if self.training:
            shrink = expand(size, pixels)
            return 2 * shrink * self.network(pixels / shrink).to(pixels.dtype)
        with torch.autocast(pixels.device.type, enabled=False):
            if torch.is_grad_enabled() or pixels.dtype != torch.float32:
                return 2 * self.network(pixels)
            return 2 * self._folded()(pixels)

    def _folded(self) -> FoldedNetwork:
        """The network as a bare chain of convolutions, made again where a weight has changed or `train` was called."""
        state = [*self.network.parameters(), *self.network.buffers()]
        key = [(tensor.data_ptr(), None if tensor.is_inference() else tensor._version) for tensor in state]
        if self._chain is None or self._chain[0] != key:
            self._chain = key, FoldedNetwork(self.network, torch.zeros(1), dtype=torch.float32)
        return self._chain[1]
