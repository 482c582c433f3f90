"""A local network at fixed noise levels, as a bare chain of convolutions.

At inference all pixels of a picture share their noise levels, so the modulation of a block is one scale and one shift
per channel, and both fold into the convolution before it:

    (1 + a) (w * x + b) + s  =  ((1 + a) w) * x + ((1 + a) b + s).

What is left of a network whose blocks are not preactivated is convolution, ReLU, convolution, sum: oneDNN computes ReLU
and sum while it writes the convolution's result, so that the whole network runs at the speed of its convolutions.

A gray picture given to an RGB network as three equal channels, and averaged over the three of the answer, folds too:
the first layer's weights are summed over the equal channels, the last layer's are averaged. The result is gray
exactly, and costs less than a colour picture.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from wavdiff.denoiser import RESIDUAL_FLOOR, DetailDenoiser, LowpassDenoiser
from wavdiff.networks import LocalBlock, LocalNetwork
from wavdiff.noise import preconditioning


def _fold(convolution: nn.Conv2d, scale: Tensor | None = None, shift: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Weight and bias of `convolution` followed by a scale and a shift per channel."""
    weight = convolution.weight
    bias = convolution.bias if convolution.bias is not None else weight.new_zeros(weight.shape[0])
    if scale is None or shift is None:
        return weight, bias
    return weight * (1 + scale)[:, None, None, None], bias * (1 + scale) + shift


def _has_fused_operators() -> bool:
    """Whether this build of torch has oneDNN's convolutions with fused ReLU and sum (those that its compiler emits)."""
    names = ("_reorder_convolution_weight", "_convolution_pointwise", "_convolution_pointwise_")
    return bool(torch.backends.mkldnn.is_available()) and all(hasattr(torch.ops.mkldnn, name) for name in names)


class FusedNetwork(nn.Module):
    """`network` at fixed noise levels; same call, but the levels given to it are not looked at.

    Args:
        network: a trained local network.
        levels: its noise-level inputs, (L,), as the network is given them.
        gray: fold three equal channels into one, so that it maps (B, in / 3, H, W) to (B, out / 3, H, W).
        dtype: torch.bfloat16 or torch.float32, of the convolutions.
        input_scale, output_scale: factors of every input and output channel, (in,) and (out,), folded in as well.
    """

    def __init__(
        self,
        network: LocalNetwork,
        levels: Tensor,
        *,
        gray: bool = False,
        dtype: torch.dtype,
        input_scale: Tensor | None = None,
        output_scale: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.dtype = dtype
        parameter = next(network.parameters())
        self.on_cpu = parameter.device.type == "cpu" and _has_fused_operators()
        self.whole: LocalNetwork | None = None
        self.scales = input_scale, output_scale
        self.gray = gray
        self.levels = levels.to(parameter.device)[None]
        if network.config["preactivated"] or network.config["activation"] != "relu":
            self.whole = network
            return
        with torch.no_grad():
            embedding = network.embedding(self.levels.float())
            layers = [_fold(network.stem)]
            for block in (cast(LocalBlock, module) for module in network.blocks):
                scale, shift = block.modulation.linear(embedding)[0].chunk(2)
                layers += [_fold(block.first, scale, shift), _fold(block.second)]
            layers.append(_fold(network.head))
            if input_scale is not None:
                weight, bias = layers[0]
                layers[0] = (weight * input_scale.to(weight)[None, :, None, None], bias)
            if output_scale is not None:
                weight, bias = layers[-1]
                scale = output_scale.to(weight)
                layers[-1] = (weight * scale[:, None, None, None], bias * scale)
            if gray:
                weight, bias = layers[0]
                layers[0] = (weight.unflatten(1, (-1, 3)).sum(dim=2), bias)
                weight, bias = layers[-1]
                layers[-1] = (weight.unflatten(0, (-1, 3)).mean(dim=1), bias.unflatten(0, (-1, 3)).mean(dim=1))
            self.layers = [
                (weight.to(dtype).contiguous(memory_format=torch.channels_last), bias.to(dtype), weight.shape[-1] // 2)
                for weight, bias in layers
            ]
        self.packed: list[Any] | None = None

    def forward(self, x: Tensor, levels: Tensor | None = None) -> Tensor:
        """Raw output (B, out, H, W) float32 for x (B, in, H, W)."""
        if self.whole is not None:
            return self._call_whole(self.whole, x)
        hidden = x.to(self.dtype).contiguous(memory_format=torch.channels_last)
        run = self._run_fused if self.on_cpu else self._run_plain
        return run(hidden).to(torch.float32, memory_format=torch.contiguous_format)

    def _call_whole(self, network: Any, x: Tensor) -> Tensor:
        levels = self.levels.expand(x.shape[0], -1)
        given = x.repeat_interleave(3, dim=1) if self.gray else x
        before, after = (None if s is None else s.to(x)[None, :, None, None] for s in self.scales)
        if before is not None:
            given = given * before
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            output: Tensor = network(given.contiguous(memory_format=torch.channels_last), levels).to(torch.float32)
        if after is not None:
            output = output * after
        return output.unflatten(1, (-1, 3)).mean(dim=2) if self.gray else output

    def _run_plain(self, hidden: Tensor) -> Tensor:
        def convolve(x: Tensor, index: int) -> Tensor:
            weight, bias, padding = self.layers[index]
            return functional.conv2d(x, weight, bias, padding=padding)

        hidden = convolve(hidden, 0)
        for index in range(1, len(self.layers) - 1, 2):
            hidden = hidden + convolve(functional.relu_(convolve(hidden, index)), index + 1)
        return convolve(hidden, len(self.layers) - 1)

    def _run_fused(self, hidden: Tensor) -> Tensor:
        operators = torch.ops.mkldnn
        if self.packed is None:  # oneDNN's own layout, once for all tiles
            self.packed = []
            for weight, _, padding in self.layers:
                shape = [hidden.shape[0], weight.shape[1], *hidden.shape[-2:]]
                self.packed.append(
                    operators._reorder_convolution_weight(weight, [padding] * 2, [1, 1], [1, 1], 1, shape)
                )

        def around(index: int) -> tuple[Any, ...]:
            padding = self.layers[index][2]
            return self.layers[index][1], [padding] * 2, [1, 1], [1, 1], 1

        weights = self.packed
        last = len(self.layers) - 1
        hidden = operators._convolution_pointwise(hidden, weights[0], *around(0), "none", [], "")
        for index in range(1, last, 2):
            inner = operators._convolution_pointwise(hidden, weights[index], *around(index), "relu", [], "")
            # hidden += convolution(inner), while it is written
            operators._convolution_pointwise_(
                hidden, inner, weights[index + 1], *around(index + 1), "add", 1.0, None, [], None
            )
        result: Tensor = operators._convolution_pointwise(hidden, weights[last], *around(last), "none", [], "")
        return result


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
