"""A network at fixed noise levels, as a bare chain of convolutions.

At inference all pixels of a picture share their noise levels, so the modulation of a block is one scale and one shift
per channel, and both fold into the convolution before it:

    (1 + a) (w * x + b) + s  =  ((1 + a) w) * x + ((1 + a) b + s).

What is left of a network whose blocks are not preactivated is convolution, ReLU, convolution, sum (`convolutions`).

A gray picture given to an RGB network as three equal channels, and averaged over the three of the answer, folds too:
the first layer's weights are summed over the equal channels, the last layer's are averaged. The result is gray
exactly, and costs less than a colour picture.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from wavdiff.models.cascade.networks.convolutions import (
    LEAST_PIXELS,
    Convolutions,
    FusedConvolutions,
    WinogradConvolutions,
)


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
            fused = parameter.device.type == "cpu" and FusedConvolutions.available()
            self.direct = (FusedConvolutions if fused else Convolutions)(layers, dtype)
            self.winograd = None
            if WinogradConvolutions.worthwhile(layers, dtype, parameter.device):
                self.winograd = WinogradConvolutions(layers, dtype)

    def convolutions(self, height: int, width: int) -> Convolutions:
        """How images of a size are computed."""
        return self.winograd if self.winograd is not None and height * width >= LEAST_PIXELS else self.direct

    def memory_format(self, height: int, width: int) -> torch.memory_format:
        """That in which inputs of a size need not be copied."""
        return torch.channels_last if self.whole is not None else self.convolutions(height, width).memory_format

    def forward(self, x: Tensor, levels: Tensor | None = None) -> Tensor:
        """Raw output (B, out, H, W) float32 for x (B, in, H, W)."""
        if self.whole is not None:
            return self._call_whole(self.whole, x)
        convolve = self.convolutions(*x.shape[-2:])
        last = len(convolve.layers) - 1
        hidden = convolve(0, x.to(self.dtype).contiguous(memory_format=convolve.memory_format))
        if self.residual:
            for index in range(1, last, 2):
                hidden = convolve(index + 1, convolve(index, hidden, relu=True), total=hidden)
        else:
            for index in range(1, last):
                hidden = convolve(index, hidden, relu=True)
        return convolve(last, hidden).to(torch.float32, memory_format=torch.contiguous_format)

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
