"""A local or bias-free network at fixed noise levels, as a bare chain of convolutions.

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

from wavdiff.models.cascade.networks.bias_free import BiasFreeNetwork
from wavdiff.models.cascade.networks.local import LocalBlock, LocalNetwork


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
        network: a trained local or bias-free network.
        levels: its noise-level inputs, (L,), as the network is given them.
        gray: fold three equal channels into one, so that it maps (B, in / 3, H, W) to (B, out / 3, H, W).
        dtype: torch.bfloat16 or torch.float32, of the convolutions.
        input_scale, output_scale: factors of every input and output channel, (in,) and (out,), folded in as well.
    """

    def __init__(
        self,
        network: LocalNetwork | BiasFreeNetwork,
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
        self.residual = isinstance(network, LocalNetwork)
        self.scales = input_scale, output_scale
        self.gray = gray
        self.levels = levels.to(parameter.device)[None]
        if isinstance(network, LocalNetwork) and (
            network.config["preactivated"] or network.config["activation"] != "relu"
        ):
            self.whole = network
            return
        with torch.no_grad():
            layers = self._bare(network)
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

    def _bare(self, network: LocalNetwork | BiasFreeNetwork) -> list[tuple[Tensor, Tensor]]:
        """(weight, bias) of every convolution, with all that is constant at these noise levels in them."""
        if isinstance(network, BiasFreeNetwork):
            return [(weight, weight.new_zeros(weight.shape[0])) for weight, _ in network.folded()]
        embedding = network.embedding(self.levels.float())
        layers = [_fold(network.stem)]
        for block in (cast(LocalBlock, module) for module in network.blocks):
            scale, shift = block.modulation.linear(embedding)[0].chunk(2)
            layers += [_fold(block.first, scale, shift), _fold(block.second)]
        return [*layers, _fold(network.head)]

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
        if not self.residual:
            for index in range(1, len(self.layers) - 1):
                hidden = functional.relu_(convolve(hidden, index))
            return convolve(hidden, len(self.layers) - 1)
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
        for index in range(1, last) if not self.residual else ():
            hidden = operators._convolution_pointwise(hidden, weights[index], *around(index), "relu", [], "")
        for index in range(1, last, 2) if self.residual else ():
            inner = operators._convolution_pointwise(hidden, weights[index], *around(index), "relu", [], "")
            # hidden += convolution(inner), while it is written
            operators._convolution_pointwise_(
                hidden, inner, weights[index + 1], *around(index + 1), "add", 1.0, None, [], None
            )
        result: Tensor = operators._convolution_pointwise(hidden, weights[last], *around(last), "none", [], "")
        return result
