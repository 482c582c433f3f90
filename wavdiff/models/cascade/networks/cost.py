"""Multiply-adds of a network."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn


def count_multiply_adds(network: nn.Module, size: tuple[int, int]) -> float:
    """Multiply-adds of the convolutions of one call on one input of `size` (h, w)."""
    given: Any = network
    settings = {name: value for name, value in given.config.items() if not name.startswith("_")}
    kind: Any = type(network)
    return _count(kind, tuple(sorted(settings.items())), size)


@functools.lru_cache(maxsize=64)
def _count(kind: Any, settings: tuple[tuple[str, Any], ...], size: tuple[int, int]) -> float:
    """As `count_multiply_adds`, of a network made anew without memory: no size of images costs time."""
    counted = 0.0
    with torch.device("meta"):
        network = kind(**dict(settings))
    if kind.blind:
        network.train()  # else it calls no layer, but convolves with their folded weights

    def count(module: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal counted
        assert isinstance(module, nn.Conv2d)
        counted += module.weight.numel() * output.shape[-2] * output.shape[-1]

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    parameter = next(network.parameters())
    with torch.no_grad():
        levels = parameter.new_ones(1, network.config.get("levels", 1))
        network(parameter.new_zeros(1, network.config["in_channels"], *size), levels)
    return counted
