"""The local network, for the details of a scale and for low-pass images of any size.

A plain stack of convolutions and pointwise functions: no normalisation, attention or statistics of the image, so that
one output depends on exactly `receptive_field` x `receptive_field` inputs, and tiles can be computed apart. Its
receptive field is set by how many of its layers are 3x3, the rest being 1x1 (as in Kadkhodaie et al., ICLR 2023).
"""

from __future__ import annotations

from typing import cast

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from torch import Tensor, nn

from wavdiff.models.cascade.networks.layers import (
    ACTIVATIONS,
    Chain,
    Modulation,
    NoiseEmbedding,
    convolution,
    kernel_sizes,
)
from wavdiff.system.errors import WavdiffError


class LocalBlock(nn.Module):
    """x + conv(act(modulate(conv(x)))), with another activation before the first convolution if `preactivated`."""

    def __init__(
        self,
        width: int,
        kernels: tuple[int, int],
        dropout: float,
        activation: str = "silu",
        preactivated: bool = True,
    ) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.preactivated = preactivated
        self.first = convolution(width, width, kernels[0])
        self.modulation = Modulation(width)
        self.dropout = nn.Dropout(dropout)
        self.second = convolution(width, width, kernels[1], zero=True)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Hidden state (B, width, H, W) from one of the same shape and the embedding (B, EMBEDDING)."""
        hidden = self.modulation(self.first(self.activation(x) if self.preactivated else x), embedding)
        return x + self.second(self.dropout(self.activation(hidden)))


class LocalNetwork(ModelMixin, ConfigMixin):
    """A convolutional network with a declared receptive field, conditioned on noise levels.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        width: channels of every hidden layer.
        depth: number of convolutions, first and last included; even and at least 2.
        receptive_field: side r of the r x r inputs that one output depends on; odd.
        levels: number of noise-level inputs.
        dropout: probability, inside the residual blocks, in training only.
        activation: "silu" or "relu".
        preactivated: whether blocks and the head begin with an activation. Without, one activation serves two
            convolutions (as in Lim et al., "EDSR", 2017), and at inference every activation and sum can be fused into a
            convolution.
    """

    settings = ("width", "depth", "receptive_field", "dropout", "activation", "preactivated")
    blind = False

    @register_to_config
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        width: int = 64,
        depth: int = 10,
        receptive_field: int = 13,
        levels: int = 1,
        dropout: float = 0.0,
        activation: str = "silu",
        preactivated: bool = True,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise WavdiffError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
        if depth < 2 or depth % 2:
            raise WavdiffError(f"depth must be even and at least 2, got {depth}")
        kernels = kernel_sizes(depth, receptive_field)
        self.receptive_field = receptive_field
        self.embedding = NoiseEmbedding(levels)
        self.stem = convolution(in_channels, width, kernels[0])
        pairs = [(kernels[layer], kernels[layer + 1]) for layer in range(1, depth - 1, 2)]
        self.blocks = nn.ModuleList(LocalBlock(width, pair, dropout, activation, preactivated) for pair in pairs)
        self.modulation = Modulation(width) if preactivated else None
        self.activation = ACTIVATIONS[activation]
        self.head = convolution(width, out_channels, kernels[-1], zero=True)

    def forward(self, x: Tensor, levels: Tensor) -> Tensor:
        """Raw output (B, out_channels, H, W) for x (B, in_channels, H, W) and noise levels (B, L) or (B,)."""
        embedding = self.embedding(levels.reshape(x.shape[0], -1))
        hidden = self.stem(x)
        for block in self.blocks:
            hidden = block(hidden, embedding)
        if self.modulation is not None:
            hidden = self.activation(self.modulation(hidden, embedding))
        output: Tensor = self.head(hidden)
        return output

    def bare(self, levels: Tensor) -> Chain | None:
        """The network at noise levels (1, L); None where its blocks begin with an activation or use another one."""
        if self.modulation is not None or self.config["activation"] != "relu":
            return None
        embedding = self.embedding(levels.float())
        layers = [_folded(self.stem)]
        for block in (cast(LocalBlock, module) for module in self.blocks):
            layers += [_folded(block.first, *block.modulation.linear(embedding)[0].chunk(2)), _folded(block.second)]
        return Chain([*layers, _folded(self.head)], residual=True)


def _folded(layer: nn.Conv2d, scale: Tensor | None = None, shift: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution followed by a scale and a shift per channel."""
    bias = torch.zeros_like(layer.weight[:, 0, 0, 0]) if layer.bias is None else layer.bias
    if scale is None or shift is None:
        return layer.weight, bias
    return layer.weight * (1 + scale)[:, None, None, None], bias * (1 + scale) + shift
