"""The global network, for small low-pass images.

A small U-Net (Ronneberger et al. 2015) with self-attention at its lowest resolution: every output sees the whole
low-pass image, whatever its size.
"""

from __future__ import annotations

from typing import cast

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from torch import Tensor, nn
from torch.nn import functional

from wavdiff.models.cascade.networks.layers import Chain, Convolution, Modulation, NoiseEmbedding, convolution
from wavdiff.models.wavelets import pad_to_multiple
from wavdiff.system.errors import WavdiffError

GROUPS = 8


def lower_width(width: int, growth: float) -> int:
    """Channels of a global network at its lower resolutions."""
    return int(width * growth) // GROUPS * GROUPS


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
        self.first = convolution(inputs, outputs, 3)
        self.second_norm = GroupNorm(8, outputs)
        self.modulation = Modulation(outputs)
        self.dropout = nn.Dropout(dropout)
        self.second = convolution(outputs, outputs, 3, zero=True)
        self.shortcut = nn.Identity() if inputs == outputs else convolution(inputs, outputs, 1)

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
        self.project = Convolution(channels, 3 * channels, 1)
        self.output = convolution(channels, channels, 1, zero=True)

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

    settings = ("width", "depth", "stages", "growth", "dropout")
    blind = False
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
        self.stem = convolution(in_channels, width, 3)
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        current = width
        for channels in widths:
            sizes = [current] + [channels] * depth
            self.down.append(
                nn.ModuleList(GlobalBlock(a, b, dropout) for a, b in zip(sizes[:-1], sizes[1:], strict=True))
            )
            current = channels
            self.shrink.append(Convolution(current, current, 2, stride=2))
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
        self.head = convolution(current, out_channels, 3, zero=True)

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

    def bare(self, levels: Tensor) -> Chain | None:
        """None: this is no chain of convolutions."""
        return None
