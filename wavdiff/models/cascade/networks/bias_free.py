"""Bias-free networks, which are told no noise level.

Convolutions, a normalisation that only divides, and ReLU, so that f(a x) = a f(x) for a > 0 (Mohan, Kadkhodaie,
Simoncelli, Fernandez-Granda, "Robust and interpretable blind image denoising via bias-free convolutional neural
networks", ICLR 2020, arXiv 1906.05478). This is the network of Kadkhodaie, Guth, Mallat and Simoncelli (ICLR 2023): the
first and the last layer are linear; a layer between them is a convolution, divided by the standard deviation of its
channel (over the batch in training, a running one else), times a factor per channel, and a ReLU.
"""

from __future__ import annotations

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from torch import Tensor, nn
from torch.nn import functional

from wavdiff.models.cascade.networks.layers import Chain, Convolution, channels_last, kernel_sizes
from wavdiff.system.errors import WavdiffError

MOMENTUM = 0.1
"""Weight of a batch in the running standard deviations."""
VARIANCE_FLOOR = 1e-5


def bias_free_kernels(depth: int, receptive_field: int) -> list[int]:
    """Kernel sizes (3 or 1) of the published networks: a hidden layer is 3x3 if its number is a multiple of a spacing.

    The spacing of n hidden 3x3 layers is (depth - 1) / (n + 1/2), rounded; where that does not give n of them, they are
    placed evenly, as in a local network.

    Raises:
        WavdiffError: depth is below 2, or as `kernel_sizes`.
    """
    if depth < 2:
        raise WavdiffError(f"depth must be at least 2, got {depth}")
    even = kernel_sizes(depth, receptive_field)
    inner = (receptive_field - 1) // 2 - 2
    if inner < 1:
        return even
    spacing = round((depth - 1) / (inner + 0.5))
    published = [3 if layer in (0, depth - 1) or layer % spacing == 0 else 1 for layer in range(depth)]
    return published if published.count(3) == inner + 2 else even


class ChannelScale(nn.Module):
    """Divide every channel by its standard deviation, times a learned factor; nothing is subtracted or added.

    In training the standard deviation is that of the batch, and a running one follows it; else it is the running one.
    """

    running_sd: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels))
        self.register_buffer("running_sd", torch.ones(channels))

    def factor(self) -> Tensor:
        """What a channel is multiplied by outside training, (channels,)."""
        return self.gamma / self.running_sd

    def forward(self, x: Tensor) -> Tensor:
        """x (B, channels, H, W), in training; sees the whole batch."""
        sd = (x.float().var(dim=(0, 2, 3), unbiased=False) + VARIANCE_FLOOR).sqrt()
        with torch.no_grad():
            following = torch.lerp(self.running_sd, sd, MOMENTUM)
            self.running_sd.copy_(torch.where(following.isfinite(), following, self.running_sd))
        return x * (self.gamma / sd).to(x.dtype)[:, None, None]


class BiasFreeNetwork(ModelMixin, ConfigMixin):
    """A stack of convolutions without any bias: homogeneous, and blind to the noise level.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        width: channels of every hidden layer.
        depth: number of convolutions, first and last included; at least 2.
        receptive_field: side r of the r x r inputs that one output depends on; odd.
    """

    settings = ("width", "depth", "receptive_field")
    blind = True

    @register_to_config
    def __init__(
        self, in_channels: int, out_channels: int, width: int = 64, depth: int = 21, receptive_field: int = 13
    ) -> None:
        super().__init__()
        self.receptive_field = receptive_field
        kernels = bias_free_kernels(depth, receptive_field)
        sizes = [in_channels, *[width] * (depth - 1), out_channels]
        self.convolutions = nn.ModuleList(
            Convolution(inputs, outputs, kernel, padding=kernel // 2, bias=False)
            for inputs, outputs, kernel in zip(sizes[:-1], sizes[1:], kernels, strict=True)
        )
        for layer in self.convolutions[:-1]:
            nn.init.kaiming_normal_(layer.get_parameter("weight"), nonlinearity="relu")
        nn.init.zeros_(self.convolutions[-1].get_parameter("weight"))
        self.scales = nn.ModuleList(ChannelScale(width) for _ in range(depth - 2))

    def folded(self) -> list[Tensor]:
        """The weight of every layer, with the factors of the channels in it."""
        result: list[Tensor] = []
        for index, layer in enumerate(self.convolutions):
            weight: Tensor = layer.get_parameter("weight")
            if 0 < index < len(self.convolutions) - 1:
                scale = self.scales[index - 1]
                assert isinstance(scale, ChannelScale)
                weight = weight * scale.factor()[:, None, None, None]
            result.append(weight)
        return result

    def bare(self, levels: Tensor | None = None) -> Chain:
        """The network outside training."""
        return Chain([(weight, weight.new_zeros(len(weight))) for weight in self.folded()], residual=False)

    def forward(self, x: Tensor, levels: Tensor | None = None) -> Tensor:
        """The noise (B, out_channels, H, W) in x (B, in_channels, H, W); `levels` are not looked at."""
        if not self.training:
            layers = self.folded()
            for index, weight in enumerate(layers):
                x = functional.conv2d(channels_last(x), channels_last(weight), padding=weight.shape[-1] // 2)
                if 0 < index < len(layers) - 1:
                    x = functional.relu(x)
            return x
        x = self.convolutions[0](x)
        for layer, scale in zip(self.convolutions[1:-1], self.scales, strict=True):
            x = functional.relu(scale(layer(x)))
        result: Tensor = self.convolutions[-1](x)
        return result
