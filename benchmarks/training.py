"""One training step, as published and as this project takes it, on the same machine in the same run.

The network has the size of the paper's (Kadkhodaie et al. 2023): 21 layers of 64 channels without bias, batches of 32
at 40x40, four inputs (low-pass image and noisy details) and three outputs; all layers are 3x3, or six of them with
`--receptive-field 13`, the others 1x1. A step is forward, backward, AdamW and the moving average of the weights.

    as published     float32, contiguous memory, default AdamW, the average taken parameter by parameter
    as trained here  bfloat16 autocast, channels-last memory, fused AdamW, the average over all parameters at once

Both are timed in turn, so that a busy machine slows both, and the medians are printed.

    python benchmarks/training.py --threads 2
    python benchmarks/training.py --network wavdiff
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

CHANNELS, DEPTH, BATCH, SIDE = 64, 21, 32, 40
INPUTS, OUTPUTS = 4, 3
EMA_DECAY = 0.999


class PlainStack(nn.Module):
    """A stack of convolutions and ReLUs: x (B, 4, H, W) to (B, 3, H, W); the noise level is not used."""

    def __init__(self, receptive_field: int) -> None:
        super().__init__()
        threes = (receptive_field - 1) // 2
        layers: list[nn.Module] = []
        for index in range(DEPTH):
            inputs = INPUTS if index == 0 else CHANNELS
            outputs = OUTPUTS if index == DEPTH - 1 else CHANNELS
            kernel = 3 if index < threes else 1
            layers += [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), nn.ReLU(inplace=True)]
        layers.pop()
        self.layers = nn.Sequential(*layers)
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def forward(self, x: Tensor, levels: Tensor) -> Tensor:
        """Return (B, 3, H, W) for x (B, 4, H, W)."""
        output: Tensor = self.layers(x)
        return output


def build_network(name: str, receptive_field: int) -> nn.Module:
    """Return the plain stack, or this project's local network of the same width and receptive field."""
    if name == "plain":
        return PlainStack(receptive_field)
    from wavdiff.networks import LocalNetwork

    # The depth of a LocalNetwork is even: one 1x1 layer more than the paper's.
    network: nn.Module = LocalNetwork(
        INPUTS, OUTPUTS, width=CHANNELS, depth=DEPTH + 1, receptive_field=receptive_field, levels=1
    )
    return network


def prepare_step(network: nn.Module, *, fast: bool) -> Callable[[], float]:
    """Return a function that takes one training step and returns its seconds."""
    parameters: list[Tensor] = list(network.parameters())
    layout = torch.channels_last if fast else torch.contiguous_format
    network.to(memory_format=layout)  # type: ignore[call-overload]
    average = [parameter.detach().clone() for parameter in parameters]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True) if fast else torch.optim.AdamW(parameters, lr=1e-4)
    x = torch.randn(BATCH, INPUTS, SIDE, SIDE).contiguous(memory_format=layout)
    target = torch.randn(BATCH, OUTPUTS, SIDE, SIDE).contiguous(memory_format=layout)
    levels = torch.rand(BATCH, 1)

    def step() -> float:
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            output = network(x, levels)
        (output.float() - target).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            if fast:
                torch._foreach_lerp_(average, parameters, 1.0 - EMA_DECAY)
            else:
                for mean, parameter in zip(average, parameters, strict=True):
                    mean.lerp_(parameter, 1.0 - EMA_DECAY)
        return time.perf_counter() - start

    return step


def main() -> None:
    """Time both ways in turn and print the medians."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--network", choices=("plain", "wavdiff"), default="plain")
    parser.add_argument("--n", type=int, default=7, help="timed steps of each kind")
    parser.add_argument("--threads", type=int, default=0, help="processor threads; 0 leaves it to torch")
    parser.add_argument(
        "--receptive-field", type=int, default=2 * DEPTH + 1, help="43: all layers 3x3; 13: six of them"
    )
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    steps = {
        name: prepare_step(build_network(options.network, options.receptive_field), fast=name == "fast")
        for name in ("plain", "fast")
    }
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(options.n + 1):
        for name, step in steps.items():
            taken = step()
            if repeat:  # the first step of each compiles kernels and allocates
                seconds[name].append(taken)
    plain, fast = statistics.median(seconds["plain"]), statistics.median(seconds["fast"])
    field = options.receptive_field
    count = sum(parameter.numel() for parameter in build_network(options.network, field).parameters())
    print(f"network {options.network}, {field}x{field}: {count:,} parameters, batch {BATCH} at {SIDE}x{SIDE}")
    print(f"{torch.get_num_threads()} threads, bfloat16 in hardware: {torch.cpu._is_avx512_bf16_supported()}")
    print(f"float32, contiguous            {plain:.3f} s per step (least {min(seconds['plain']):.3f})")
    print(f"bfloat16, channels-last, fused {fast:.3f} s per step (least {min(seconds['fast']):.3f})")
    print(f"ratio                          {plain / fast:.2f}")


if __name__ == "__main__":
    main()
