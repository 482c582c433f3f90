"""Start a network from a trained one that is as large or smaller, so that it computes the same function at first.

A wider network gets the trained channels first and fresh ones behind them: a fresh channel reads everything, but
nothing reads it yet, so the output is that of the trained network while gradients reach the new weights from the first
step on. A deeper one gets blocks that add zero behind the trained ones; a 1x1 layer made 3x3 gets a ring of zeros.

Source: function-preserving growth as in Chen, Goodfellow, Shlens, "Net2Net" (ICLR 2016), with zeros instead of copies.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from wavdiff.models.cascade.networks import LocalBlock, LocalNetwork, Modulation
from wavdiff.system.errors import WavdiffError


def start_from(network: nn.Module, trained: nn.Module) -> None:
    """Give `network` the weights of `trained`.

    Args:
        network: fresh; a local network may be wider, deeper and of a larger field than `trained`.
        trained: a network of the same class, inputs and outputs.

    Raises:
        WavdiffError: `trained` does not fit into `network`; the message names the setting and both values.
    """
    if not isinstance(network, LocalNetwork) or not isinstance(trained, LocalNetwork):
        _same_settings(network, trained)
        network.load_state_dict(trained.state_dict())
        return
    ours, theirs = _settings(network), _settings(trained)
    for name in ("in_channels", "out_channels", "levels", "activation", "preactivated"):
        _require_equal(name, ours[name], theirs[name])
    for name in ("width", "depth", "receptive_field"):
        if ours[name] < theirs[name]:
            raise WavdiffError(f"its {name} is {theirs[name]}, this network's is only {ours[name]}")
    with torch.no_grad():
        network.embedding.load_state_dict(trained.embedding.state_dict())
        _grow(network.stem, trained.stem)
        old_blocks = cast("list[LocalBlock]", list(trained.blocks))
        for block, old in zip(cast("list[LocalBlock]", list(network.blocks)), old_blocks, strict=False):
            _grow(block.first, old.first)
            _grow_modulation(block.modulation, old.modulation)
            _grow(block.second, old.second)
        if network.modulation is not None and trained.modulation is not None:
            _grow_modulation(network.modulation, trained.modulation)
        _grow(network.head, trained.head)


def _settings(network: nn.Module) -> dict[str, Any]:
    return dict(cast(Any, network).config)


def _same_settings(network: nn.Module, trained: nn.Module) -> None:
    if type(network) is not type(trained):
        raise WavdiffError(f"it is a {type(trained).__name__}, this one a {type(network).__name__}")
    ours, theirs = _settings(network), _settings(trained)
    for name in ours:
        if name not in ("dropout",) and not name.startswith("_"):
            _require_equal(name, ours[name], theirs.get(name))


def _require_equal(name: str, ours: object, theirs: object) -> None:
    if ours != theirs:
        raise WavdiffError(f"its {name} is {theirs!r}, this network's is {ours!r}")


def _grow(layer: nn.Conv2d, old: nn.Conv2d) -> None:
    """Put the kernels of `old` first; outputs of the old channels read no new channel."""
    weight, trained = layer.weight, old.weight
    outputs, inputs = trained.shape[:2]
    ring = (weight.shape[-1] - trained.shape[-1]) // 2
    if ring < 0:
        raise WavdiffError(
            f"one of its layers is {trained.shape[-1]}x{trained.shape[-1]} where this network has "
            f"{weight.shape[-1]}x{weight.shape[-1]}: choose depth and receptive_field so that no layer shrinks"
        )
    weight[:outputs, inputs:] = 0
    weight[:outputs, :inputs] = nn.functional.pad(trained, (ring, ring, ring, ring))
    if layer.bias is not None and old.bias is not None:
        layer.bias[:outputs] = old.bias


def _grow_modulation(modulation: Modulation, old: Modulation) -> None:
    """Scales and shifts of the old channels; those of new channels stay the identity."""
    width, trained = modulation.linear.out_features // 2, old.linear.out_features // 2
    for ours, theirs in ((modulation.linear.weight, old.linear.weight), (modulation.linear.bias, old.linear.bias)):
        halves: tuple[Tensor, Tensor] = (theirs[:trained], theirs[trained:])
        ours[:trained], ours[width : width + trained] = halves
