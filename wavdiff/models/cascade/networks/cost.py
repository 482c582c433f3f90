"""Multiply-adds of a network."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn


def count_multiply_adds(network: nn.Module, size: tuple[int, int]) -> float:
    """Multiply-adds of the convolutions of one call on one input of `size` (h, w)."""
    counted = 0.0
    network = copy.deepcopy(network).to("meta")  # shapes alone: no size of images costs time or memory
    given: Any = network
    if given.blind:
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
        levels = parameter.new_ones(1, given.config.get("levels", 1))
        network(parameter.new_zeros(1, given.config["in_channels"], *size), levels)
    return counted
