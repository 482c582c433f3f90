"""The kinds of networks: one row each; how one is made, and how large it would be.

A network maps (B, in, H, W) and noise levels to (B, out, H, W). What the rest of the package asks of it are facts of
its class: `settings`, the names of a configuration that it takes; `blind`, whether it finds the noise level itself and
returns the noise instead of the EDM output; `receptive_field`, the side r of the r x r inputs that one output depends
on, or None for the whole image; and `bare(levels)`, the network at fixed noise levels as a chain of convolutions, or
None where it is none. To add a kind, write such a class and name it here.
"""

from __future__ import annotations

from pkgutil import resolve_name
from typing import Any

import torch
from torch import nn

from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import shown

NETWORKS = {
    "local": "wavdiff.models.cascade.networks.local:LocalNetwork",
    "global": "wavdiff.models.cascade.networks.unet:GlobalNetwork",
    "bias-free": "wavdiff.models.cascade.networks.bias_free:BiasFreeNetwork",
}
"""Kind, as configurations name it, to the place of its class."""


def network_class(kind: object) -> Any:
    """The class of a kind.

    Raises:
        WavdiffError: no such kind.
    """
    if not isinstance(kind, str) or kind not in NETWORKS:
        raise WavdiffError(f"network kind must be one of {', '.join(NETWORKS)}, got {shown(kind)}")
    return resolve_name(NETWORKS[kind])


def build_network(settings: dict[str, Any], channels: int, *, details: bool) -> nn.Module:
    """A network from `{"kind": ..., ...}` for low-pass images or details of images of `channels`.

    A detail network reads the noisy details, the coarse image and what is known of its noise, and returns the details
    and a correction of the coarse image; a blind one has neither of the latter.
    """
    settings = dict(settings)
    kind = network_class(settings.pop("kind"))
    shape = {"in_channels": channels, "out_channels": channels}
    if details and kind.blind:
        shape = {"in_channels": 4 * channels, "out_channels": 3 * channels}
    elif details:
        shape = {"in_channels": 5 * channels, "out_channels": 4 * channels}
    if not kind.blind:
        shape["levels"] = 1 + details
    if getattr(kind, "receptive_field", 0) is None:
        settings.pop("receptive_field", None)  # folders of version 0.1 have one
    network: nn.Module = kind(**settings, **shape)
    return network


def count_parameters(settings: dict[str, Any], channels: int, *, details: bool) -> int:
    """Parameters of the network that `build_network` would make; no memory is given to them."""
    with torch.device("meta"):
        network = build_network(settings, channels, details=details)
    return sum(parameter.numel() for parameter in network.parameters())
