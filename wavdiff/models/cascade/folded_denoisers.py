"""Denoisers at fixed noise levels, with everything constant folded into convolutions (see `networks.fused`)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from wavdiff.models.cascade.blind_denoisers import BlindDetailDenoiser, BlindLowpassDenoiser, to_pixels
from wavdiff.models.cascade.denoisers import RESIDUAL_FLOOR, DetailDenoiser, LowpassDenoiser
from wavdiff.models.cascade.networks import FusedNetwork
from wavdiff.models.cascade.noise import preconditioning


class FusedLowpassDenoiser:
    """`LowpassDenoiser` at one noise level, with its preconditioning folded into the first and the last layer.

    Args:
        model: the denoiser.
        level: standardised noise level.
        unit: the data it is called with, divided by the standardised data: `model.std` for library units, or 1.
        gray, dtype: as for `FusedNetwork`.
    """

    def __init__(self, model: LowpassDenoiser, level: float, unit: float, *, gray: bool, dtype: torch.dtype) -> None:
        c_skip, c_out, c_in = (float(value) for value in preconditioning(torch.tensor(level, dtype=torch.float64)))
        network: Any = model.network
        channels = network.config["in_channels"]
        self.c_skip = c_skip
        self.network = FusedNetwork(
            network,
            torch.tensor([level]),
            gray=gray,
            dtype=dtype,
            input_scale=torch.full((channels,), c_in / unit),
            output_scale=torch.full((channels,), c_out * unit),
        )

    def __call__(self, noisy: Tensor) -> Tensor:
        """The denoised image (B, C, h, w), in the unit of `noisy`."""
        return self.network(noisy).add_(noisy, alpha=self.c_skip)


class FusedDetailDenoiser:
    """`DetailDenoiser` at fixed noise levels, with its preconditioning folded into the first and the last layer.

    Args:
        model: the denoiser.
        level: standardised noise level of the details.
        coarse_level: noise level of the coarse image as observed, divided by the std of the details; 0: it is exact.
        unit: as for `FusedLowpassDenoiser`, of the details. The coarse image is in library units.
        gray, dtype: as for `FusedNetwork`.
    """

    def __init__(
        self,
        model: DetailDenoiser,
        level: float,
        coarse_level: float,
        unit: float,
        *,
        gray: bool,
        dtype: torch.dtype,
    ) -> None:
        c_skip, c_out, c_in = (float(value) for value in preconditioning(torch.tensor(level, dtype=torch.float64)))
        _, coarse_out, _ = preconditioning(torch.tensor(coarse_level, dtype=torch.float64))
        network: Any = model.network
        channels = network.config["in_channels"] // 5
        residual = 1 / (model.std * (coarse_level**2 + RESIDUAL_FLOOR**2) ** 0.5)
        self.c_skip, self.exact = c_skip, coarse_level == 0
        self.network = FusedNetwork(
            network,
            torch.tensor([level, coarse_level]),
            gray=gray,
            dtype=dtype,
            input_scale=torch.tensor([c_in / unit] * 3 * channels + [1 / model.coarse_std, residual]).repeat_interleave(
                torch.tensor([1] * 3 * channels + [channels, channels])
            ),
            output_scale=torch.tensor([c_out * unit] * 3 * channels + [model.std * float(coarse_out)] * channels),
        )

    def __call__(self, noisy: Tensor, coarse: Tensor, noisy_coarse: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Denoised details (B, 3C, h, w), in the unit of `noisy`, and the corrected coarse image (B, C, h, w)."""
        batch, groups, height, width = noisy.shape
        channels = groups // 3
        # Straight into the layout and precision of the convolutions: a fourth of the time of doing it step by step.
        inputs = torch.empty(
            (batch, 5 * channels, height, width),
            dtype=self.network.dtype,
            device=noisy.device,
            memory_format=torch.channels_last,
        )
        inputs[:, :groups].copy_(noisy)
        inputs[:, groups : groups + channels].copy_(coarse)
        residual = inputs[:, groups + channels :]
        residual.zero_() if noisy_coarse is None else residual.copy_(noisy_coarse - coarse)
        result = self.network(inputs)
        details = result[:, : noisy.shape[1]].add_(noisy, alpha=self.c_skip)
        return details, coarse if self.exact else result[:, noisy.shape[1] :].add_(coarse)


class FusedBlindLowpassDenoiser:
    """`BlindLowpassDenoiser` with everything constant folded into convolutions.

    Args:
        model: the denoiser.
        unit, gray, dtype: as for `FusedLowpassDenoiser`.
    """

    def __init__(self, model: BlindLowpassDenoiser, unit: float, *, gray: bool, dtype: torch.dtype) -> None:
        network: Any = model.network
        self.size = model.std / unit  # library units of one unit of what it is called with
        self.network = FusedNetwork(
            network,
            torch.zeros(1),
            gray=gray,
            dtype=dtype,
            output_scale=torch.full((network.config["out_channels"],), -2 / self.size),
        )

    def __call__(self, noisy: Tensor) -> Tensor:
        """The denoised image (B, C, h, w), in the unit of `noisy`."""
        return self.network(to_pixels(self.size * noisy)).add_(noisy)


class FusedBlindDetailDenoiser:
    """`BlindDetailDenoiser` with everything constant folded into convolutions.

    Args:
        model: the denoiser.
        unit, gray, dtype: as for `FusedDetailDenoiser`.
    """

    def __init__(self, model: BlindDetailDenoiser, unit: float, *, gray: bool, dtype: torch.dtype) -> None:
        network: Any = model.network
        size = model.std / unit
        inputs, outputs = network.config["in_channels"], network.config["out_channels"]
        input_scale = torch.ones(inputs)
        input_scale[inputs - outputs :] = size / 2
        self.network = FusedNetwork(
            network,
            torch.zeros(1),
            gray=gray,
            dtype=dtype,
            input_scale=input_scale,
            output_scale=torch.full((outputs,), -2 / size),
        )

    def __call__(self, noisy: Tensor, coarse: Tensor, noisy_coarse: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Denoised details (B, 3C, h, w), in the unit of `noisy`, and the coarse image (B, C, h, w) as it is."""
        return self.network(torch.cat([to_pixels(coarse), noisy], dim=1)).add_(noisy), coarse
