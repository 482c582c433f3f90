"""A kind of network is one file and one row: from there it is configured, counted, trained, saved, loaded and tiled."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY
from test_tiling import rounding, walked

from wavdiff import api
from wavdiff.models.cascade.config import model_from_mapping
from wavdiff.models.cascade.networks import NETWORKS, build_network, count_parameters, network_class
from wavdiff.models.cascade.saved import load_cascade
from wavdiff.system.errors import WavdiffError

FILE = '''
"""A network of one dilated convolution."""

from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from torch import nn

from wavdiff.models.cascade.networks.layers import Modulation, NoiseEmbedding, channels_last


class DilatedNetwork(ModelMixin, ConfigMixin):
    settings = ("width", "receptive_field")
    blind = False

    @register_to_config
    def __init__(self, in_channels, out_channels, width=8, receptive_field=5, levels=1):
        super().__init__()
        self.receptive_field = receptive_field
        step = receptive_field // 2
        self.embedding = NoiseEmbedding(levels)
        self.stem = nn.Conv2d(in_channels, width, 3, padding=step, dilation=step)
        self.modulation = Modulation(width)
        self.head = nn.Conv2d(width, out_channels, 1)
        nn.init.zeros_(self.head.weight)

    def forward(self, x, levels):
        embedding = self.embedding(levels.reshape(x.shape[0], -1))
        return self.head(nn.functional.silu(self.modulation(self.stem(channels_last(x)), embedding)))

    def bare(self, levels):
        return None
'''
DILATED: dict[str, Any] = {"kind": "dilated", "width": 12, "receptive_field": 9}


@pytest.fixture
def dilated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type]:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "dilated_network.py").write_text(FILE)
    monkeypatch.syspath_prepend(tmp_path / "code")
    monkeypatch.setitem(NETWORKS, "dilated", "dilated_network:DilatedNetwork")
    yield importlib.import_module("dilated_network").DilatedNetwork
    monkeypatch.delitem(__import__("sys").modules, "dilated_network")


def test_one_file_and_one_row_add_a_kind(dilated: type, pictures: Path, tmp_path: Path) -> None:
    mapping = copy.deepcopy(TINY)
    low = {"kind": "local", "width": 8, "depth": 4, "receptive_field": 7}
    mapping["model"] |= {"lowpass": low, "details": DILATED}
    mapping["training"] |= {"steps": 2}
    folder = api.train(mapping, tmp_path / "run", str(pictures))
    cascade = load_cascade(folder)
    assert [type(denoiser.network).__name__ for denoiser in cascade.details] == ["DilatedNetwork"] * 2
    assert cascade.config["detail_networks"] == [DILATED] * 2
    assert all(bool(denoiser.network.head.weight.any()) for denoiser in cascade.details)  # it has learned
    trained = api.sample(cascade, n=2, seed=3)
    assert torch.equal(api.sample(api.load(tmp_path / "run"), n=2, seed=3), trained)
    counted = model_from_mapping(mapping["model"]).count_parameters()
    assert counted == sum(parameter.numel() for parameter in cascade.parameters())
    assert cascade.multiply_adds_per_pixel() > 0

    torch.manual_seed(0)
    for parameter in cascade.parameters():  # so large that a missing part of a halo would show
        torch.nn.init.normal_(parameter, std=0.1)
    image = torch.rand(1, 45, 38, generator=torch.Generator().manual_seed(0)) * 2 - 1
    whole, tiled = (walked("denoise", image, cascade, tile_pixels=pixels) for pixels in (10**9, 221))
    assert float((tiled - whole).abs().max()) <= rounding(cascade, whole)
    for network in (cascade.details[0].network, cascade.details[1].network):
        network.receptive_field -= 2
    short = walked("denoise", image, cascade, tile_pixels=221)
    assert float((short - whole).abs().max()) > 1e-3


def test_parameters_are_counted_without_making_a_network(dilated: type) -> None:
    for details in (False, True):
        made = build_network(DILATED, 3, details=details)
        assert isinstance(made, dilated)
        assert count_parameters(DILATED, 3, details=details) == sum(p.numel() for p in made.parameters())


def test_kinds_without_a_row_are_refused() -> None:
    for kind in ("dilated", None, 3, ["local"]):
        with pytest.raises(WavdiffError, match="network kind must be one of local, global, bias-free, got"):
            network_class(kind)
