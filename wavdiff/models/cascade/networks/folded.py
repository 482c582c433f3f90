"""A network at fixed noise levels, as a bare chain of convolutions.

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

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def _has_fused_operators() -> bool:
    """Whether this build of torch has oneDNN's convolutions with fused ReLU and sum (those that its compiler emits)."""
    names = ("_reorder_convolution_weight", "_convolution_pointwise", "_convolution_pointwise_")
    return bool(torch.backends.mkldnn.is_available()) and all(hasattr(torch.ops.mkldnn, name) for name in names)


class FoldedNetwork(nn.Module):
    """`network` at fixed noise levels; same call, but the levels given to it are not looked at.

    Args:
        network: a trained network. Where its `bare` is None, it is called as it is.
        levels: its noise-level inputs, (L,), as the network is given them.
        gray: fold three equal channels into one, so that it maps (B, in / 3, H, W) to (B, out / 3, H, W).
        dtype: torch.bfloat16 or torch.float32, of the convolutions.
        input_scale, output_scale: factors of every input and output channel, (in,) and (out,), folded in as well.
    """

    def __init__(
        self,
        network: Any,
        levels: Tensor,
        *,
        gray: bool = False,
        dtype: torch.dtype,
        input_scale: Tensor | None = None,
        output_scale: Tensor | None = None,
    ) -> None:
        super().__init__()
        parameter = next(network.parameters())
        self.dtype, self.gray, self.scales = dtype, gray, (input_scale, output_scale)
        self.levels = levels.to(parameter.device)[None]
        self.fused = parameter.device.type == "cpu" and _has_fused_operators()
        self.packed: list[Any] | None = None
        with torch.no_grad():
            chain = network.bare(self.levels)
            self.whole: nn.Module | None = network if chain is None else None
            if chain is None:
                return
            self.residual = chain.residual
            layers = list(chain.layers)
            (first, first_bias), (last, last_bias) = layers[0], layers[-1]
            if input_scale is not None:
                first = first * input_scale.to(first)[None, :, None, None]
            if output_scale is not None:
                scale = output_scale.to(last)
                last, last_bias = last * scale[:, None, None, None], last_bias * scale
            if gray:
                first = first.unflatten(1, (-1, 3)).sum(dim=2)
                last, last_bias = last.unflatten(0, (-1, 3)).mean(dim=1), last_bias.unflatten(0, (-1, 3)).mean(dim=1)
            layers[0], layers[-1] = (first, first_bias), (last, last_bias)
            self.layers = [
                (weight.to(dtype).contiguous(memory_format=torch.channels_last), bias.to(dtype), weight.shape[-1] // 2)
                for weight, bias in layers
            ]

    def forward(self, x: Tensor, levels: Tensor | None = None) -> Tensor:
        """Raw output (B, out, H, W) float32 for x (B, in, H, W)."""
        if self.whole is not None:
            return self._call_whole(self.whole, x)
        hidden = x.to(self.dtype).contiguous(memory_format=torch.channels_last)
        convolve = self._fused_convolution(hidden) if self.fused else self._plain_convolution
        last = len(self.layers) - 1
        hidden = convolve(hidden, 0, "none")
        if self.residual:
            for index in range(1, last, 2):
                hidden = convolve(convolve(hidden, index, "relu"), index + 1, "add", hidden)
        else:
            for index in range(1, last):
                hidden = convolve(hidden, index, "relu")
        return convolve(hidden, last, "none").to(torch.float32, memory_format=torch.contiguous_format)

    def _call_whole(self, network: nn.Module, x: Tensor) -> Tensor:
        levels = self.levels.expand(x.shape[0], -1)
        given = x.repeat_interleave(3, dim=1) if self.gray else x
        before, after = (None if s is None else s.to(x)[None, :, None, None] for s in self.scales)
        if before is not None:
            given = given * before
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            output: Tensor = network(given, levels).to(torch.float32)
        if after is not None:
            output = output * after
        return output.unflatten(1, (-1, 3)).mean(dim=2) if self.gray else output

    def _plain_convolution(self, x: Tensor, index: int, end: str, total: Tensor | None = None) -> Tensor:
        """Convolution `index`, then ReLU ("relu") or a sum with `total` ("add")."""
        weight, bias, padding = self.layers[index]
        result = functional.conv2d(x, weight, bias, padding=padding)
        if total is not None:
            return total + result
        return functional.relu_(result) if end == "relu" else result

    def _fused_convolution(self, like: Tensor) -> Callable[..., Tensor]:
        """As `_plain_convolution`, in one pass of oneDNN; `total` is written over."""
        operators = torch.ops.mkldnn
        if self.packed is None:  # oneDNN's own layout, once for all tiles
            self.packed = [
                operators._reorder_convolution_weight(
                    weight, [padding] * 2, [1, 1], [1, 1], 1, [like.shape[0], weight.shape[1], *like.shape[-2:]]
                )
                for weight, _, padding in self.layers
            ]
        packed = self.packed

        def convolve(x: Tensor, index: int, end: str, total: Tensor | None = None) -> Tensor:
            _, bias, padding = self.layers[index]
            around = (packed[index], bias, [padding] * 2, [1, 1], [1, 1], 1)
            if total is None:
                result: Tensor = operators._convolution_pointwise(x, *around, end, [], "")
                return result
            operators._convolution_pointwise_(total, x, *around, end, 1.0, None, [], None)
            return total

        return convolve
