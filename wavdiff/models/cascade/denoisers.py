"""Networks made into denoisers: EDM preconditioning in standardised units, and the losses they are trained on.

A scale is standardised by one number, the rms `std` of its coefficients over the training set. With
u = noise level / std and y = noisy / std, a denoiser is

    D(y; u) = c_skip(u) y + c_out(u) F(c_in(u) y; u),

and the loss is the squared error of F against (x / std - c_skip y) / c_out, which is the EDM loss with its weighting
(Karras et al. 2022, eq. 8 and table 1, sigma_data = 1).

**The detail denoiser sees the scale below.** It reads the noisy details, an estimate x^ of the coarse image x_j, and
the coarse image as it was observed, y_j, with its noise level c (conditioning augmentation). c = 0 says "x^ is exact":
synthesis and enlargement. In denoising c is the noise level of y_j and x^ what the coarser scales made of it. The
network then also corrects x^: information flows from fine to coarse as well,

    x^' = x^ + a(c) F_coarse,    a(c) = c std / sqrt(c^2 + std^2),

and a(0) = 0 leaves an exact coarse image untouched, to the last bit.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wavdiff.models.cascade.noise import SIGMA_MAX, expand, preconditioning

RESIDUAL_FLOOR = 0.25


class LowpassDenoiser(nn.Module):
    """Denoiser of low-pass images: an estimate of E[x_J | y_J].

    Args:
        network: maps (B, C, h, w) and levels (B,) to (B, C, h, w).
        std: rms of the low-pass images over the training set, library units.

    Attributes:
        top: highest standardised noise level that it is asked about.
        blind: whether it takes its noise level from the image.
    """

    top = SIGMA_MAX
    blind = False

    def __init__(self, network: nn.Module, std: float) -> None:
        super().__init__()
        self.network = network
        self.std = std

    def output(self, noisy: Tensor, levels: Tensor) -> Tensor:
        """Raw output F (B, C, h, w) for standardised `noisy` and standardised `levels` (B,)."""
        _, _, c_in = preconditioning(levels)
        return self.network(expand(c_in, noisy) * noisy, levels).to(noisy.dtype)

    def forward(self, noisy: Tensor, noise_level: Tensor) -> Tensor:
        """Denoised image (B, C, h, w) from `noisy` with noise levels (B,), both in library units."""
        levels = noise_level / self.std
        y = noisy / self.std
        c_skip, c_out, _ = preconditioning(levels)
        return self.std * (expand(c_skip, y) * y + expand(c_out, y) * self.output(y, levels))

    def loss(self, clean: Tensor, noisy: Tensor, noise_level: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted squared error per image (B,) and the denoised image; arguments in library units."""
        levels = noise_level / self.std
        y = noisy / self.std
        c_skip, c_out, _ = preconditioning(levels)
        output = self.output(y, levels)
        target = (clean / self.std - expand(c_skip, y) * y) / expand(c_out, y)
        denoised = self.std * (expand(c_skip, y) * y + expand(c_out, y) * output)
        return (output - target).square().mean(dim=(1, 2, 3)), denoised


class DetailDenoiser(nn.Module):
    """Denoiser of the details of one scale given the coarser image, which it may correct.

    Args:
        network: maps (B, 5C, h, w) and levels (B, 2) to (B, 4C, h, w).
        std: rms of the details of this scale over the training set, library units.
        coarse_std: rms of the low-pass images over the training set, library units.

    Attributes:
        top, blind: as for `LowpassDenoiser`.
    """

    top = SIGMA_MAX
    blind = False

    def __init__(self, network: nn.Module, std: float, coarse_std: float) -> None:
        super().__init__()
        self.network = network
        self.std = std
        self.coarse_std = coarse_std

    def output(
        self, noisy: Tensor, levels: Tensor, coarse: Tensor, noisy_coarse: Tensor, coarse_levels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Raw outputs F (B, 3C, h, w) and F_coarse (B, C, h, w).

        Args:
            noisy: details in standardised units, (B, 3C, h, w).
            levels: their noise levels, standardised units, (B,).
            coarse: estimate of x_j, library units, (B, C, h, w).
            noisy_coarse: x_j as observed, library units, (B, C, h, w).
            coarse_levels: noise levels of `noisy_coarse` divided by `std`, (B,); 0 where `coarse` is exact.
        """
        _, _, c_in = preconditioning(levels)
        residual = (
            (noisy_coarse - coarse) / self.std / expand((coarse_levels.square() + RESIDUAL_FLOOR**2).sqrt(), noisy)
        )
        inputs = torch.cat([expand(c_in, noisy) * noisy, coarse / self.coarse_std, residual], dim=1)
        result = self.network(inputs, torch.stack([levels, coarse_levels], dim=1)).to(noisy.dtype)
        return result[:, : noisy.shape[1]], result[:, noisy.shape[1] :]

    def _estimate(
        self, noisy: Tensor, noise_level: Tensor, coarse: Tensor, noisy_coarse: Tensor, coarse_noise_level: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        levels, coarse_levels = noise_level / self.std, coarse_noise_level / self.std
        y = noisy / self.std
        c_skip, c_out, _ = preconditioning(levels)
        output, correction = self.output(y, levels, coarse, noisy_coarse, coarse_levels)
        details = self.std * (expand(c_skip, y) * y + expand(c_out, y) * output)
        _, coarse_out, _ = preconditioning(coarse_levels)
        corrected = coarse + self.std * expand(coarse_out, coarse) * correction
        return output, correction, details, corrected

    def forward(
        self,
        noisy: Tensor,
        noise_level: Tensor,
        coarse: Tensor,
        noisy_coarse: Tensor | None = None,
        coarse_noise_level: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Denoised details and corrected coarse image.

        Args:
            noisy: noisy details, (B, 3C, h, w), library units.
            noise_level: their noise levels, (B,), library units.
            coarse: estimate of x_j, (B, C, h, w).
            noisy_coarse: x_j as observed; None where `coarse` is exact.
            coarse_noise_level: its noise levels, (B,); None or 0 where `coarse` is exact.

        Returns:
            details (B, 3C, h, w) and x_j (B, C, h, w), the latter bit-equal to `coarse` where that is exact.
        """
        if noisy_coarse is None or coarse_noise_level is None:
            noisy_coarse, coarse_noise_level = coarse, torch.zeros_like(noise_level)
        _, _, details, corrected = self._estimate(noisy, noise_level, coarse, noisy_coarse, coarse_noise_level)
        return details, corrected

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
        """Weighted squared error per image (B,), denoised details and corrected coarse image; library units.

        Where the coarse image is exact (level 0) only the details count.
        """
        output, correction, details, corrected = self._estimate(
            noisy, noise_level, coarse, noisy_coarse, coarse_noise_level
        )
        c_skip, c_out, _ = preconditioning(noise_level / self.std)
        y = noisy / self.std
        target = (clean / self.std - expand(c_skip, y) * y) / expand(c_out, y)
        error = (output - target).square()
        _, coarse_out, _ = preconditioning(coarse_noise_level / self.std)
        inexact = expand((coarse_noise_level > 0).to(y), y)
        scale = self.std * expand(coarse_out, y).clamp(min=1e-8)
        coarse_error = inexact * (correction - (clean_coarse - coarse) / scale).square()
        return torch.cat([error, coarse_error], dim=1).mean(dim=(1, 2, 3)), details, corrected
