"""EDM denoisers: networks that are told a noise level, with their preconditioning inside.

Everything outside calls `denoise` (see `denoising`) and sees neither raw outputs nor preconditioning.

A scale is standardised by one number, the rms `std` of its coefficients over the training set. With u = level / std and
y = noisy / std, the denoiser here is

    D(y; u) = c_skip(u) y + c_out(u) F(c_in(u) y; u),

and its loss is the squared error of F against (x / std - c_skip y) / c_out, which is the EDM loss with its weighting
(Karras et al. 2022, eq. 8 and table 1, sigma_data = 1). `blind_denoisers` has the other kind.

**Details see the scale below.** Their network reads the noisy details, an estimate x^ of the coarse image x_j, and the
coarse image as it was observed, y_j, with its noise level c (conditioning augmentation). c = 0 says "x^ is exact":
synthesis and enlargement. In denoising c is the noise level of y_j and x^ what the coarser scales made of it. The
network then also corrects x^: information flows from fine to coarse as well,

    x^' = x^ + a(c) F_coarse,    a(c) = c std / sqrt(c^2 + std^2),

and a(0) = 0 leaves an exact coarse image untouched, to the last bit.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from wavdiff.models.cascade.denoising import Coarse, Denoised, least_known, short_step, shortened
from wavdiff.models.cascade.folded_denoisers import FoldedDenoiser
from wavdiff.models.cascade.networks import FoldedNetwork
from wavdiff.models.cascade.noise import SIGMA_MAX, expand, preconditioning

RESIDUAL_FLOOR = 0.25
"""Noise level, in units of the details' rms, that is added to that of an observed coarse image in its unit."""


class EDMDenoiser(nn.Module):
    """A denoiser that is told its noise level.

    Args:
        network: of low-pass images: (B, C, h, w) and levels (B,) to (B, C, h, w); of details: (B, 5C, h, w) and levels
            (B, 2) to (B, 4C, h, w).
        std: rms of the scale's coefficients over the training set, library units.
        coarse_std: of details: rms of the low-pass images over the training set.
        least: noise on this scale of the weakest noise in an image that denoising was trained for, library units.
    """

    top = SIGMA_MAX
    mean_draws = 0

    def __init__(self, network: nn.Module, std: float, coarse_std: float | None = None, least: float = 0.0) -> None:
        super().__init__()
        self.network = network
        self.std = std
        self.coarse_std = coarse_std
        self.least = least

    def denoise(self, noisy: Tensor, level: Tensor, coarse: Coarse | None = None) -> Denoised:
        """Estimate E[x | noisy, coarse].

        Args:
            noisy: low-pass image (B, C, h, w), or details (B, 3C, h, w).
            level: their noise levels, (B,).
            coarse: for details.

        Returns:
            The mean, and for details the coarse image, bit-equal to the estimate where that is exact. Below the levels
            that training knew, a part of the step from what was observed (see `denoising.short_step`).
        """
        coarse_level = None if coarse is None else coarse.level
        asked, share = short_step(level, least_known(self.least, self.std, coarse_level, level))
        if coarse is None or coarse_level is None:
            mean, corrected = self._evaluate(noisy, asked, coarse)[0]
            return Denoised(shortened(mean, noisy, share), corrected)
        coarse_asked, coarse_share = self._coarse_step(coarse_level)
        answer = self._evaluate(noisy, asked, Coarse(coarse.estimate, coarse.observed, coarse_asked))[0]
        assert answer.coarse is not None
        corrected = shortened(answer.coarse, coarse.estimate, coarse_share)
        return Denoised(shortened(answer.mean, noisy, share), corrected)

    def loss(
        self,
        clean: Tensor,
        noisy: Tensor,
        level: Tensor,
        coarse: Coarse | None = None,
        clean_coarse: Tensor | None = None,
    ) -> tuple[Tensor, Denoised]:
        """Weighted squared error per image (B,), and what was denoised; where the coarse image is exact, of the
        details alone."""
        denoised, output, correction = self._evaluate(noisy, level, coarse)
        y = noisy / self.std
        c_skip, c_out, _ = preconditioning(level / self.std)
        target = (clean / self.std - expand(c_skip, y) * y) / expand(c_out, y)
        error = (output - target).square()
        if coarse is not None and clean_coarse is not None:
            c = self._coarse_level(level, coarse)
            scale = self.std * expand(preconditioning(c)[1], y).clamp(min=1e-8)
            missed = (correction - (clean_coarse - coarse.estimate) / scale).square()
            error = torch.cat([error, expand((c > 0).to(y), y) * missed], dim=1)
        return error.mean(dim=(1, 2, 3)), denoised

    def at(self, level: float, coarse_level: float = 0.0, *, gray: bool, dtype: torch.dtype) -> FoldedDenoiser:
        """This denoiser at one noise level, with all that is constant folded into its network's convolutions.

        Args:
            level: of the coefficients, library units.
            coarse_level: of details: of the coarse image as observed, library units; 0: it is exact.
            gray: for one channel in place of three equal ones (see `networks.folded`).
            dtype: of the convolutions.
        """
        network: Any = self.network
        given, beside = (torch.tensor(value, dtype=torch.float64) for value in (level, coarse_level))
        steps = short_step(given, least_known(self.least, self.std, beside, given)), self._coarse_step(beside)
        (u, share), (c, coarse_share) = ((float(asked) / self.std, float(share)) for asked, share in steps)
        c_skip, c_out, c_in = (float(value) for value in preconditioning(torch.tensor(u, dtype=torch.float64)))
        if self.coarse_std is None:
            channels = network.config["in_channels"]
            folded = FoldedNetwork(
                network,
                torch.tensor([u]),
                gray=gray,
                dtype=dtype,
                input_scale=torch.full((channels,), c_in / self.std),
                output_scale=torch.full((channels,), share * c_out * self.std),
            )
            return FoldedDenoiser(folded, skip=1 - share + share * c_skip)
        channels = network.config["in_channels"] // 5
        residual = 1 / (self.std * (c**2 + RESIDUAL_FLOOR**2) ** 0.5)
        coarse_out = float(preconditioning(torch.tensor(c, dtype=torch.float64))[1])
        groups = torch.tensor([3 * channels, channels, channels])
        folded = FoldedNetwork(
            network,
            torch.tensor([u, c]),
            gray=gray,
            dtype=dtype,
            input_scale=torch.tensor([c_in / self.std, 1 / self.coarse_std, residual]).repeat_interleave(groups),
            output_scale=torch.tensor(
                [share * c_out * self.std, coarse_share * self.std * coarse_out]
            ).repeat_interleave(groups[:2]),
        )
        skip = 1 - share + share * c_skip
        return FoldedDenoiser(folded, skip=skip, inputs=("noisy", "coarse", "residual"), corrects=coarse_level > 0)

    def _coarse_step(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """`short_step` for the noise levels of coarse images; all of the step where they are exact."""
        asked, share = short_step(level, torch.where(level > 0, self.least, 0.0))
        return asked, torch.where(level > 0, share, 1.0)  # there 0 / 0

    def _coarse_level(self, level: Tensor, coarse: Coarse) -> Tensor:
        """Noise levels of the coarse image as observed, in units of the details' rms."""
        return torch.zeros_like(level) if coarse.level is None else coarse.level / self.std

    def _evaluate(self, noisy: Tensor, level: Tensor, coarse: Coarse | None) -> tuple[Denoised, Tensor, Tensor]:
        """What is denoised, and the raw outputs F (as `noisy`) and F_coarse (B, C, h, w)."""
        levels, y = level / self.std, noisy / self.std
        c_skip, c_out, c_in = preconditioning(levels)
        inputs = expand(c_in, y) * y
        if coarse is not None and self.coarse_std is not None:
            c = self._coarse_level(level, coarse)
            observed = coarse.estimate if coarse.observed is None else coarse.observed
            spread = expand((c.square() + RESIDUAL_FLOOR**2).sqrt(), noisy)
            residual = (observed - coarse.estimate) / self.std / spread
            inputs = torch.cat([inputs, coarse.estimate / self.coarse_std, residual], dim=1)
            levels = torch.stack([levels, c], dim=1)
        result = self.network(inputs, levels).to(noisy.dtype)
        output, correction = result[:, : noisy.shape[1]], result[:, noisy.shape[1] :]
        mean = self.std * (expand(c_skip, y) * y + expand(c_out, y) * output)
        if coarse is None:
            return Denoised(mean), output, correction
        corrected = coarse.estimate + self.std * expand(preconditioning(c)[1], correction) * correction
        return Denoised(mean, corrected), output, correction
