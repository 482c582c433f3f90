"""The two networks: one local, for the details of a scale, and one global, for the small low-pass image.

Both map a noisy input and its noise levels to the raw output F of the EDM preconditioning (see `denoiser`). A noise
level enters as a scale and a shift per channel and block, the same at every position.

`LocalNetwork` is a plain stack of convolutions and pointwise functions: no normalisation, attention or statistics of
the image, so that one output depends on exactly `receptive_field` x `receptive_field` inputs, and tiles can be computed
apart. Its receptive field is set by how many of its layers are 3x3, the rest being 1x1 (as in Kadkhodaie et al., ICLR
2023).

`GlobalNetwork` is a small U-Net (Ronneberger et al. 2015) with self-attention at its lowest resolution: every output
sees the whole low-pass image, whatever its size.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from torch import Tensor, nn
from torch.nn import functional

from wavdiff.errors import WavdiffError
from wavdiff.wavelets import pad_to_multiple

EMBEDDING = 128
FREQUENCIES = 16
GROUPS = 8


def count_parameters(settings: dict[str, Any], in_channels: int, out_channels: int, levels: int) -> int:
    """Parameters that a network would have, without making it.

    Args:
        settings: `{"kind": "local" | "global", ...}` with all arguments that decide the size.
        in_channels, out_channels, levels: of the network.
    """
    width, depth = settings["width"], settings["depth"]

    def convolution(inputs: int, outputs: int, kernel: int) -> int:
        return inputs * outputs * kernel**2 + outputs

    embedding = convolution(levels * (2 * FREQUENCIES + 1), EMBEDDING, 1) + convolution(EMBEDDING, EMBEDDING, 1)
    if settings["kind"] == "local":
        kernels = kernel_sizes(depth, settings["receptive_field"])
        modulations = (depth - 2) // 2 + bool(settings["preactivated"])
        inner = sum(convolution(width, width, kernel) for kernel in kernels[1:-1])
        ends = convolution(in_channels, width, kernels[0]) + convolution(width, out_channels, kernels[-1])
        return embedding + inner + ends + modulations * convolution(EMBEDDING, 2 * width, 1)

    def block(inputs: int, outputs: int) -> int:
        norms = 2 * inputs + 2 * outputs + convolution(EMBEDDING, 2 * outputs, 1)
        shortcut = convolution(inputs, outputs, 1) if inputs != outputs else 0
        return norms + convolution(inputs, outputs, 3) + convolution(outputs, outputs, 3) + shortcut

    widths = [width] + [lower_width(width, settings["growth"])] * (settings["stages"] - 1)
    total, current = embedding + convolution(in_channels, width, 3), width
    for stage, channels in enumerate(widths):
        total += block(current, channels) + (depth - 1) * block(channels, channels)
        current = channels
        total += convolution(current, current, 2) if stage < len(widths) - 1 else 0
    total += 2 * current + convolution(current, 3 * current, 1) + convolution(current, current, 1)
    total += block(current, current)
    for channels in reversed(widths):
        total += block(current + channels, channels) + (depth - 1) * block(channels, channels)
        current = channels
    return total + 2 * current + convolution(current, out_channels, 3)


def lower_width(width: int, growth: float) -> int:
    """Channels of a global network at its lower resolutions."""
    return int(width * growth) // GROUPS * GROUPS


class NoiseEmbedding(nn.Module):
    """Features (B, EMBEDDING) of noise levels (B, L): sines and cosines of log(level) / 4 and a two-layer network."""

    frequencies: Tensor

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.logspace(-1, 3, FREQUENCIES, base=2), persistent=False)
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


def _convolution(inputs: int, outputs: int, kernel: int, *, zero: bool = False) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
    if zero:
        nn.init.zeros_(layer.weight)
    else:
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


ACTIVATIONS = {"silu": functional.silu, "relu": functional.relu}


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
        self.first = _convolution(width, width, kernels[0])
        self.modulation = Modulation(width)
        self.dropout = nn.Dropout(dropout)
        self.second = _convolution(width, width, kernels[1], zero=True)

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
        self.stem = _convolution(in_channels, width, kernels[0])
        pairs = [(kernels[layer], kernels[layer + 1]) for layer in range(1, depth - 1, 2)]
        self.blocks = nn.ModuleList(LocalBlock(width, pair, dropout, activation, preactivated) for pair in pairs)
        self.modulation = Modulation(width) if preactivated else None
        self.activation = ACTIVATIONS[activation]
        self.head = _convolution(width, out_channels, kernels[-1], zero=True)

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


class GroupNorm(nn.GroupNorm):
    """nn.GroupNorm that also takes a single pixel of a single image, where groups of one channel become their bias."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalised x, (B, C, H, W)."""
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class GlobalBlock(nn.Module):
    """Residual block with group normalisation, for the global network only."""

    def __init__(self, inputs: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.first_norm = GroupNorm(8, inputs)
        self.first = _convolution(inputs, outputs, 3)
        self.second_norm = GroupNorm(8, outputs)
        self.modulation = Modulation(outputs)
        self.dropout = nn.Dropout(dropout)
        self.second = _convolution(outputs, outputs, 3, zero=True)
        self.shortcut = nn.Identity() if inputs == outputs else _convolution(inputs, outputs, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Hidden state (B, outputs, H, W) from one (B, inputs, H, W) and the embedding (B, EMBEDDING)."""
        hidden = self.first(functional.silu(self.first_norm(x)))
        hidden = self.modulation(self.second_norm(hidden), embedding)
        shortcut: Tensor = self.shortcut(x)
        return shortcut + self.second(self.dropout(functional.silu(hidden)))


class SelfAttention(nn.Module):
    """Residual multi-head self-attention over all positions of (B, C, H, W)."""

    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = GroupNorm(8, channels)
        self.project = nn.Conv2d(channels, 3 * channels, 1)
        self.output = _convolution(channels, channels, 1, zero=True)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) plus what attention over its positions adds."""
        batch, channels, height, width = x.shape
        joint = self.project(self.norm(x)).reshape(batch, 3, self.heads, channels // self.heads, height * width)
        query, key, value = (part.transpose(-1, -2).contiguous() for part in joint.unbind(1))
        attended = functional.scaled_dot_product_attention(query, key, value)
        return x + self.output(attended.transpose(-1, -2).reshape(batch, channels, height, width))


class GlobalNetwork(ModelMixin, ConfigMixin):
    """A small U-Net whose every output sees the whole input, conditioned on noise levels.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        width: channels at full resolution; must be a multiple of 8.
        depth: residual blocks per resolution, down and up.
        stages: number of resolutions; each halves the side. Inputs of other sizes are padded inside and cropped back.
        growth: channels at the lower resolutions as a multiple of `width`.
        levels: number of noise-level inputs.
        dropout: probability, inside the residual blocks, in training only.
    """

    receptive_field = None  # the whole image

    @register_to_config
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        width: int = 64,
        depth: int = 2,
        stages: int = 2,
        growth: float = 1.5,
        levels: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if width % 8 or width < 8:
            raise WavdiffError(f"width of a global network must be a multiple of 8, got {width}")
        if stages > 1 and lower_width(width, growth) < GROUPS:
            raise WavdiffError(f"width * growth of a global network must be at least {GROUPS}, got {width} * {growth}")
        widths = [width] + [lower_width(width, growth)] * (stages - 1)
        self.stages = stages
        self.embedding = NoiseEmbedding(levels)
        self.stem = _convolution(in_channels, width, 3)
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        current = width
        for channels in widths:
            sizes = [current] + [channels] * depth
            self.down.append(
                nn.ModuleList(GlobalBlock(a, b, dropout) for a, b in zip(sizes[:-1], sizes[1:], strict=True))
            )
            current = channels
            self.shrink.append(nn.Conv2d(current, current, 2, stride=2))
        self.shrink = self.shrink[: stages - 1]
        self.attention = SelfAttention(current)
        self.middle = GlobalBlock(current, current, dropout)
        self.up = nn.ModuleList()
        for channels in reversed(widths):
            sizes = [current + channels] + [channels] * depth
            self.up.append(
                nn.ModuleList(GlobalBlock(a, b, dropout) for a, b in zip(sizes[:-1], sizes[1:], strict=True))
            )
            current = channels
        self.norm = GroupNorm(8, current)
        self.head = _convolution(current, out_channels, 3, zero=True)

    def forward(self, x: Tensor, levels: Tensor) -> Tensor:
        """Raw output (B, out_channels, H, W) for x (B, in_channels, H, W) and noise levels (B, L) or (B,)."""
        height, width = x.shape[-2:]
        embedding = self.embedding(levels.reshape(x.shape[0], -1))
        hidden = self.stem(pad_to_multiple(x, 2 ** (self.stages - 1)))
        skips = []
        for stage, blocks in enumerate(self.down):
            for block in cast(nn.ModuleList, blocks):
                hidden = block(hidden, embedding)
            skips.append(hidden)
            if stage < self.stages - 1:
                hidden = self.shrink[stage](hidden)
        hidden = self.middle(self.attention(hidden), embedding)
        for stage, blocks in enumerate(self.up):
            if stage:
                hidden = functional.interpolate(hidden, scale_factor=2.0, mode="nearest")
            hidden = torch.cat([hidden, skips.pop()], dim=1)
            for block in cast(nn.ModuleList, blocks):
                hidden = block(hidden, embedding)
        output: Tensor = self.head(functional.silu(self.norm(hidden)))
        return output[..., :height, :width]
