"""How large a network would be, without making it."""

from __future__ import annotations

from typing import Any

from torch import nn

from wavdiff.models.cascade.networks.bias_free import BiasFreeNetwork, bias_free_kernels
from wavdiff.models.cascade.networks.layers import EMBEDDING, FREQUENCIES, kernel_sizes
from wavdiff.models.cascade.networks.local import LocalNetwork
from wavdiff.models.cascade.networks.unet import GlobalNetwork, lower_width
from wavdiff.system.errors import WavdiffError


def build_network(settings: dict[str, Any], **shape: int) -> nn.Module:
    """A network from `{"kind": "local" | "global" | "bias-free", ...}` and its input and output channels."""
    settings = dict(settings)
    kind = settings.pop("kind")
    if kind == "local":
        return LocalNetwork(**settings, **shape)
    if kind == "bias-free":
        return BiasFreeNetwork(**settings, **{name: size for name, size in shape.items() if name != "levels"})
    if kind == "global":
        settings.pop("receptive_field", None)
        return GlobalNetwork(**settings, **shape)
    raise WavdiffError(f"network kind must be 'local', 'global' or 'bias-free', got {kind!r}")


def detail_shape(kind: str, channels: int) -> tuple[int, int]:
    """Input and output channels of a detail network for images of `channels`.

    In: the noisy details, the coarse image, and what is known of its noise; out: details and a correction of the coarse
    image. A bias-free network has neither of the latter.
    """
    return (4 * channels, 3 * channels) if kind == "bias-free" else (5 * channels, 4 * channels)


def count_parameters(settings: dict[str, Any], in_channels: int, out_channels: int, levels: int) -> int:
    """Parameters that a network would have, without making it.

    Args:
        settings: `{"kind": "local" | "global" | "bias-free", ...}` with all arguments that decide the size.
        in_channels, out_channels, levels: of the network.
    """
    width, depth = settings["width"], settings["depth"]
    if settings["kind"] == "bias-free":
        kernels = bias_free_kernels(depth, settings["receptive_field"])
        sizes = [in_channels, *[width] * (depth - 1), out_channels]
        return sum(a * b * kernel**2 for a, b, kernel in zip(sizes[:-1], sizes[1:], kernels, strict=True)) + width * (
            depth - 2
        )

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
