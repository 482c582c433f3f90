"""Multiply-adds of a network."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from wavdiff.models.cascade.networks import BiasFreeNetwork


def count_multiply_adds(network: nn.Module, size: tuple[int, int]) -> float:
    """Multiply-adds of the convolutions of one call on one input of `size` (h, w)."""
    counted = 0.0
    hooks = []
    network = copy.deepcopy(network).to("meta")  # shapes alone: no size of images costs time or memory
    if isinstance(network, BiasFreeNetwork):
        network.train()  # else it calls no layer, but convolves with their folded weights

    def count(module: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal counted
        assert isinstance(module, nn.Conv2d)
        counted += module.weight.numel() * output.shape[-2] * output.shape[-1]

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(count))
    config: Any = network.config
    parameter = next(network.parameters())
    with torch.no_grad():
        network(parameter.new_zeros(1, config["in_channels"], *size), parameter.new_ones(1, config.get("levels", 1)))
    for hook in hooks:
        hook.remove()
    return counted
