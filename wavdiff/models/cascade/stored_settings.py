"""What `cascade/config.json` of a model folder says, checked before any network is made: it may be anybody's."""

from __future__ import annotations

import inspect
from typing import Any

from wavdiff.models.cascade.config import MOST_LEVELS, model_from_mapping
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.cascade.networks import network_class
from wavdiff.models.cascade.verbs import check_range
from wavdiff.models.wavelets import check_wavelet
from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import shown


def check_settings(settings: Any) -> None:
    """Check what `cascade/config.json` says before any network is made: types, ranges, and how large it would be."""
    if not isinstance(settings, dict):
        raise WavdiffError("does not hold the settings of a cascade")
    known = inspect.signature(WaveletCascade.__init__).parameters
    given = {name: value for name, value in settings.items() if not name.startswith("_")}
    for name in given:
        if name not in known:
            raise WavdiffError(f"a cascade has no setting {shown(name)}")
    for name, parameter in known.items():
        if name != "self" and parameter.default is parameter.empty and name not in given:
            raise WavdiffError(f"the setting {name} is missing")
    kind = settings.get("_class_name", "WaveletCascade")
    if kind != "WaveletCascade":
        raise WavdiffError(f"_class_name must be 'WaveletCascade', got {shown(kind)}")
    networks, stds = given["detail_networks"], given["detail_stds"]
    if not isinstance(networks, list) or not isinstance(stds, list) or not len(networks) == len(stds) <= MOST_LEVELS:
        raise WavdiffError(f"detail_networks and detail_stds must be equally long lists, of at most {MOST_LEVELS}")
    for name, value in (("lowpass_std", given["lowpass_std"]), *(("detail_stds", value) for value in stds)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
            raise WavdiffError(f"{name} must be a positive number, got {shown(value)}")
    check_range(given.get("lowpass_range"), "lowpass_range")
    complete = [_complete(network) for network in (given["lowpass_network"], *networks)]
    mapping = {
        **{name: given[name] for name in ("image_size", "channels", "wavelet")},
        "conditioning_augmentation": given.get("conditioning_augmentation", True),
        "ladders": given.get("ladders") or {},
        "levels": len(networks),
        "lowpass": complete[0],
        "scale_networks": {str(scale): network for scale, network in enumerate(complete[1:])},
    }
    try:
        model_from_mapping(mapping)
        check_wavelet(given["wavelet"])
    except WavdiffError as error:
        raise WavdiffError(str(error).removeprefix("configuration: ")) from error


def _complete(network: Any) -> dict[str, Any]:
    """The settings of a network with all its defaults; only those that its kind takes."""
    if not isinstance(network, dict):
        raise WavdiffError(f"a network's settings must be a mapping, got {shown(network)}")
    kind = network.get("kind")
    found = network_class(kind)
    known = inspect.signature(found.__init__).parameters
    defaults = {"kind": kind, **{name: known[name].default for name in found.settings}}
    # Folders of version 0.1 give global networks a receptive field as well.
    unknown = next((name for name in network if name not in (*defaults, "receptive_field")), None)
    if unknown is not None:
        raise WavdiffError(f"a {kind} network has no setting {shown(unknown)}")
    return {**defaults, **network}
