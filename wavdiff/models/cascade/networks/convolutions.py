"""How the convolutions of a chain are computed: plainly, by oneDNN with what follows fused in, or by Winograd.

Winograd's minimal filtering (Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016) makes 6x6
values of a 3x3 convolution with 64 multiplications instead of 324, and rounds about ten times as coarsely. torch has it
in NNPACK, for float32 on CPUs with AVX2. There it is the faster one for wide layers; on CPUs with AVX-512 oneDNN's
direct convolutions keep up with it, and in bfloat16 they are faster still.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from wavdiff.system.devices import takes_winograd

Layer = tuple[Tensor, Tensor]
"""Weight (O, I, k, k), k odd, and bias (O,)."""
LEAST_WIDTH = 64
"""Channels into and out of a layer from which Winograd is the faster one."""
LEAST_PIXELS = 40 * 40
"""Of an image, from which it is."""


class Convolutions:
    """Convolutions that keep the size, by torch's own operators, on any device.

    Args:
        layers: of which call `index` computes one.
        dtype: torch.float32 or torch.bfloat16, of inputs, weights and results.

    Attributes:
        memory_format: of inputs and results.
    """

    memory_format = torch.channels_last

    def __init__(self, layers: list[Layer], dtype: torch.dtype) -> None:
        self.layers = [
            (weight.to(dtype).contiguous(memory_format=self.memory_format), bias.to(dtype)) for weight, bias in layers
        ]

    def __call__(self, index: int, x: Tensor, *, relu: bool = False, total: Tensor | None = None) -> Tensor:
        """A layer of x (B, I, H, W), with a ReLU behind it, or added to `total` (B, O, H, W), which is written over."""
        result = self._convolve(index, x)
        if total is not None:
            return total.add_(result)
        return functional.relu_(result) if relu else result

    def _convolve(self, index: int, x: Tensor) -> Tensor:
        weight, bias = self.layers[index]
        return functional.conv2d(x, weight, bias, padding=_padding(weight))


class FusedConvolutions(Convolutions):
    """By oneDNN, on a CPU, which computes ReLU and sum while it writes the result."""

    def __init__(self, layers: list[Layer], dtype: torch.dtype) -> None:
        super().__init__(layers, dtype)
        self._packed: list[Any] = []

    @staticmethod
    def available() -> bool:
        """Whether this build of torch has them (its compiler emits them)."""
        names = ("_reorder_convolution_weight", "_convolution_pointwise", "_convolution_pointwise_")
        return bool(torch.backends.mkldnn.is_available()) and all(hasattr(torch.ops.mkldnn, name) for name in names)

    def __call__(self, index: int, x: Tensor, *, relu: bool = False, total: Tensor | None = None) -> Tensor:
        """As of every `Convolutions`."""
        operators = torch.ops.mkldnn
        if not self._packed:  # oneDNN's own layout, once for all tiles
            batch, _, height, width = x.shape
            self._packed = [
                operators._reorder_convolution_weight(
                    weight, [_padding(weight)] * 2, [1, 1], [1, 1], 1, [batch, weight.shape[1], height, width]
                )
                for weight, _ in self.layers
            ]
        weight, bias = self.layers[index]
        around = (self._packed[index], bias, [_padding(weight)] * 2, [1, 1], [1, 1], 1)
        if total is None:
            result: Tensor = operators._convolution_pointwise(x, *around, "relu" if relu else "none", [], "")
            return result
        operators._convolution_pointwise_(total, x, *around, "add", 1.0, None, [], None)
        return total


class WinogradConvolutions(Convolutions):
    """3x3 convolutions of wide layers by NNPACK, image by image: of several at once it rounds in another way."""

    memory_format = torch.contiguous_format

    @staticmethod
    def worthwhile(layers: list[Layer], dtype: torch.dtype, device: torch.device) -> bool:
        """Whether a chain is faster so, or is to be computed so (see `devices.takes_winograd`)."""
        return dtype == torch.float32 and takes_winograd(device) and any(_is_wide(weight) for weight, _ in layers)

    def _convolve(self, index: int, x: Tensor) -> Tensor:
        weight, bias = self.layers[index]
        if not _is_wide(weight):
            return super()._convolve(index, x).contiguous()
        images = [torch._nnpack_spatial_convolution(image, weight, bias, 1) for image in x.split(1)]
        return images[0] if len(images) == 1 else torch.cat(images)


def _padding(weight: Tensor) -> int:
    """That keeps the size."""
    return weight.shape[-1] // 2


def _is_wide(weight: Tensor) -> bool:
    return weight.shape[-1] == 3 and min(weight.shape[:2]) >= LEAST_WIDTH
