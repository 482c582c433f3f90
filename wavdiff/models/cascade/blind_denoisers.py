"""Blind denoisers: bias-free networks as denoisers of a cascade.

A bias-free network is trained on all noise levels at once and returns the noise that it sees, r = f(y): the denoised
image is y - r, and its own estimate of the noise level is the rms of r (Mohan, Kadkhodaie, Simoncelli,
Fernandez-Granda, ICLR 2020, arXiv 1906.05478). What these denoisers share with those of `denoiser` is their interface,
so that every verb takes both; what they do not use is the noise level that they are given.

The networks work on pixels in [0, 1], where black is 0: homogeneity and zero padding mean something only there. Library
units [-1, 1] are changed on the way in, p = (x + 1) / 2; details and noise have no offset, d_p = d / 2.

The detail network of Kadkhodaie, Guth, Mallat and Simoncelli (ICLR 2023) reads the coarse image and the noisy details.
Theirs was trained on clean coarse images and is given the denoised one; a cascade trained here with conditioning
augmentation has seen denoised ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from wavdiff.images.rectangle import Rectangle
from wavdiff.models.cascade.networks import FusedNetwork
from wavdiff.models.cascade.noise import expand, preconditioning
from wavdiff.models.cascade.random_numbers import position_noise

BLIND_TOP = 10.0
"""Top of a blind network's noise levels, standardised units: it must tell the image from the noise by subtraction."""


def to_pixels(x: Tensor) -> Tensor:
    """Library units [-1, 1] as pixels [0, 1]."""
    return (x + 1) / 2


class BlindDenoiser(nn.Module):
    """What the two blind denoisers share.

    Attributes:
        top: highest standardised noise level that it is asked about.
        blind: it takes its noise level from the image.
    """

    top = BLIND_TOP
    blind = True

    def __init__(self, network: nn.Module, std: float) -> None:
        super().__init__()
        self.network = network
        self.std = std
        self._chains: dict[torch.dtype, tuple[Any, FusedNetwork]] = {}

    def train(self, mode: bool = True) -> Self:
        """As every module; chains are made anew, for a fused optimiser or `.data` may have changed weights unseen."""
        self._chains.clear()
        return super().train(mode)

    def _residual(self, pixels: Tensor, size: Tensor, *, precise: bool = True) -> Tensor:
        """The noise in `pixels`, library units, for states whose rms is about `size` (B,), library units.

        In training every example is brought to the same size first and its noise back again. Outside training that
        changes nothing, for the network is homogeneous; in training the noisiest examples would else be all that the
        statistics of a batch show.

        Where `precise`, the network is computed in float32 even under autocast: it tells the noise by subtraction, and
        bfloat16 adds noise of its own, of 0.4 % of a pixel's value. In the steps of a solver that is little.
        """
        if self.training:
            shrink = expand(size, pixels)
            return 2 * shrink * self.network(pixels / shrink).to(pixels.dtype)
        kind = pixels.device.type
        low = not precise and torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.bfloat16
        with torch.autocast(kind, enabled=False):
            if torch.is_grad_enabled() or pixels.dtype != torch.float32:
                return 2 * self.network(pixels)
            return 2 * self._chain(torch.bfloat16 if low else torch.float32)(pixels)

    def _chain(self, dtype: torch.dtype) -> FusedNetwork:
        """The network as a bare chain of convolutions, made again where a weight has changed or `train` was called."""
        state = [*self.network.parameters(), *self.network.buffers()]
        key = [(tensor.data_ptr(), None if tensor.is_inference() else tensor._version) for tensor in state]
        known = self._chains.get(dtype)
        if known is None or known[0] != key:
            network: Any = self.network
            known = (key, FusedNetwork(network, torch.zeros(1), dtype=dtype))
            self._chains[dtype] = known
        return known[1]

    def _raw(self, denoised: Tensor, noisy: Tensor, levels: Tensor) -> Tensor:
        """F of the EDM preconditioning of a denoised state; both standardised."""
        c_skip, c_out, _ = preconditioning(levels)
        return (denoised - expand(c_skip, noisy) * noisy) / expand(c_out, noisy)

    def _error(self, clean: Tensor, denoised: Tensor, noise_level: Tensor) -> Tensor:
        """The weighted squared error of `denoiser`, for library units."""
        _, c_out, _ = preconditioning(noise_level / self.std)
        return ((denoised - clean) / (self.std * expand(c_out, clean))).square()


class BlindLowpassDenoiser(BlindDenoiser):
    """`LowpassDenoiser` by a blind network.

    Args:
        network: maps pixels (B, C, h, w) to the noise in them.
        std: rms of the low-pass images over the training set, library units; it only sets the units of noise ladders.
    """

    def forward(self, noisy: Tensor, noise_level: Tensor, *, precise: bool = True) -> Tensor:
        """Denoised image (B, C, h, w), library units; `noise_level` (B,) is not looked at."""
        size = (noise_level.square() + self.std**2).sqrt()
        return noisy - self._residual(to_pixels(noisy), size, precise=precise)

    def output(self, noisy: Tensor, levels: Tensor) -> Tensor:
        """As `LowpassDenoiser.output`."""
        denoised = self(self.std * noisy, self.std * levels, precise=False)
        return self._raw(denoised / self.std, noisy, levels)

    def loss(self, clean: Tensor, noisy: Tensor, noise_level: Tensor) -> tuple[Tensor, Tensor]:
        """As `LowpassDenoiser.loss`."""
        denoised = self(noisy, noise_level)
        return self._error(clean, denoised, noise_level).mean(dim=(1, 2, 3)), denoised


class BlindDetailDenoiser(BlindDenoiser):
    """`DetailDenoiser` by a blind network; it leaves the coarse image as it is.

    Args:
        network: maps pixels of the coarse image and the noisy details, (B, 4C, h, w), to the noise in the details,
            (B, 3C, h, w).
        std: rms of the details of this scale over the training set, library units.
    """

    mean_draws = 4
    """Noisy details whose denoised means make the mean of the details given the coarse image alone."""

    def forward(
        self,
        noisy: Tensor,
        noise_level: Tensor,
        coarse: Tensor,
        noisy_coarse: Tensor | None = None,
        coarse_noise_level: Tensor | None = None,
        *,
        precise: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Denoised details (B, 3C, h, w) and the coarse image as it was given; noise levels are not looked at."""
        size = (noise_level.square() + self.std**2).sqrt()
        pixels = torch.cat([to_pixels(coarse), noisy / 2], dim=1)
        return noisy - self._residual(pixels, size, precise=precise), coarse

    def output(
        self, noisy: Tensor, levels: Tensor, coarse: Tensor, noisy_coarse: Tensor, coarse_levels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As `DetailDenoiser.output`; there is no correction of the coarse image."""
        details, _ = self(self.std * noisy, self.std * levels, coarse, precise=False)
        return self._raw(details / self.std, noisy, levels), torch.zeros_like(coarse)

    def loss(
        self,
        clean: Tensor,
        noisy: Tensor,
        noise_level: Tensor,
        clean_coarse: Tensor,
        coarse: Tensor,
        noisy_coarse: Tensor,
        coarse_noise_level: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `DetailDenoiser.loss`, of the details only."""
        details, _ = self(noisy, noise_level, coarse)
        # Over 4C channels, as there, of which the correction's C are without error.
        error = self._error(clean, details, noise_level).mean(dim=(1, 2, 3)) * 3 / 4
        return error, details, coarse


def top_observations(denoiser: Any, scale: int, count: int, where: Rectangle) -> list[Tensor]:
    """Details at the top noise level, from which the mean given the coarse image alone is made; library units.

    There the observation says (almost) nothing, and a denoiser that knows its noise level is given the most likely one,
    zero. A blind one must see the noise: it is given a few draws that depend on the place only, and the mean is theirs.

    Args:
        denoiser: of the details.
        scale: its scale.
        count: channels of the details.
        where: the part of the details that is wanted.

    Returns:
        (1, count, h, w) each.
    """
    if not getattr(denoiser, "blind", False):
        return [torch.zeros(1, count, where.height, where.width)]
    top = denoiser.top * denoiser.std
    return [top * position_noise(("mean", scale, k), count, where)[None] for k in range(denoiser.mean_draws)]


def mean_at_top(
    denoiser: Any, scale: int, coarse: Tensor, where: Rectangle, denoise: Callable[[Tensor], Tensor]
) -> Tensor:
    """The mean of the details (B, 3C, h, w) given the coarse image (B, C, h, w) alone.

    Args:
        denoiser, scale, where: as for `top_observations`.
        coarse: the coarse image there.
        denoise: details (B, 3C, h, w) at the top noise level, denoised given that coarse image.
    """
    batch, channels = coarse.shape[:2]
    observations = top_observations(denoiser, scale, 3 * channels, where)
    means = [denoise(observed.to(coarse).expand(batch, -1, -1, -1)) for observed in observations]
    return means[0] if len(means) == 1 else torch.stack(means).mean(dim=0)
