"""What networks are made of: the embedding of noise levels, what it does to a layer, and where 3x3 layers are."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from wavdiff.system.errors import WavdiffError

EMBEDDING = 128
FREQUENCIES = 16
ACTIVATIONS = {"silu": functional.silu, "relu": functional.relu}


class Chain(NamedTuple):
    """A network at fixed noise levels as a chain of convolutions: (weight, bias) of each, first and last linear.

    Where `residual`, those between come in pairs x + conv(relu(conv(x))); else each is followed by a ReLU.
    """

    layers: list[tuple[Tensor, Tensor]]
    residual: bool


def channels_last(x: Tensor) -> Tensor:
    """x in the one memory layout that networks compute in: another rounds differently, and the model's would decide.

    `contiguous` does not do it: a tensor of one channel, or of one pixel, has that layout already by its shape, while
    convolutions go by its strides.
    """
    _, channels, height, width = x.shape
    if x.stride() == (channels * height * width, 1, channels * width, channels):
        return x
    return torch.empty_like(x, memory_format=torch.channels_last).copy_(x)


class Convolution(nn.Conv2d):
    """A convolution that computes in one memory layout, whatever those of its input and weights."""

    def forward(self, input: Tensor) -> Tensor:
        """As `nn.Conv2d`."""
        return self._conv_forward(channels_last(input), channels_last(self.weight), self.bias)


class NoiseEmbedding(nn.Module):
    """Features (B, EMBEDDING) of noise levels (B, L): sines and cosines of log(level) / 4 and a two-layer network."""

    frequencies: Tensor

    def __init__(self, levels: int) -> None:
        super().__init__()
        frequencies = torch.logspace(-1, 3, FREQUENCIES, base=2, device="cpu")  # on "meta" it would import a compiler
        self.register_buffer("frequencies", frequencies.to(torch.get_default_device()), persistent=False)
        self.layers = nn.Sequential(
            nn.Linear(levels * (2 * FREQUENCIES + 1), EMBEDDING), nn.SiLU(), nn.Linear(EMBEDDING, EMBEDDING), nn.SiLU()
        )

    def forward(self, levels: Tensor) -> Tensor:
        """Features (B, EMBEDDING) of noise levels (B, L)."""
        # A level of zero ("no noise at all") is told from small levels by sitting at the bottom of the log scale.
        position = levels.float().clamp(min=1e-3).log() / 4
        phase = math.pi * position[..., None] * self.frequencies
        features = torch.cat([position[..., None], phase.sin(), phase.cos()], dim=-1)
        weight = self.get_parameter("layers.0.weight")
        embedded: Tensor = self.layers(features.flatten(1).to(weight.dtype))
        return embedded


class Modulation(nn.Module):
    """Scale and shift every channel of (B, C, H, W) by functions of the noise embedding; starts as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(EMBEDDING, 2 * channels)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """x (B, C, H, W) scaled and shifted by functions of the embedding (B, EMBEDDING)."""
        scale, shift = self.linear(embedding)[..., None, None].to(x.dtype).chunk(2, dim=1)
        return torch.addcmul(shift, x, 1 + scale)


def convolution(inputs: int, outputs: int, kernel: int, *, zero: bool = False) -> Convolution:
    """A convolution that keeps the size, initialised for ReLU, or with zeros."""
    layer = Convolution(inputs, outputs, kernel, padding=kernel // 2)
    if zero:
        nn.init.zeros_(layer.weight)
    elif not layer.weight.is_meta:  # where it would import a compiler, for nothing
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def kernel_sizes(depth: int, receptive_field: int) -> list[int]:
    """Kernel sizes (3 or 1) of `depth` layers whose stack has the receptive field, the 3x3 layers evenly placed.

    Raises:
        WavdiffError: the field is even or below 3, or needs more 3x3 layers than `depth`.
    """
    threes = (receptive_field - 1) // 2
    if receptive_field < 3 or receptive_field % 2 == 0:
        raise WavdiffError(f"receptive_field must be odd and at least 3, got {receptive_field}")
    if threes > depth:
        raise WavdiffError(f"receptive_field {receptive_field} needs {threes} 3x3 layers, but depth is {depth}")
    if threes == 1:
        return [3] + [1] * (depth - 1)
    placed = {round(index * (depth - 1) / (threes - 1)) for index in range(threes)}
    return [3 if layer in placed else 1 for layer in range(depth)]
