"""What is drawn depends on weights and seed: not on how tensors lie in memory, nor on what is drawn beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from blind_models import settings

import wavdiff
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.cascade.saved import load_cascade, save_model

LOCAL = {"kind": "local", "width": 16, "depth": 4, "receptive_field": 7}
KINDS = {
    "global and preactivated": ({"kind": "global", "width": 16, "depth": 1, "stages": 2}, LOCAL),
    "local": (LOCAL, {**LOCAL, "activation": "relu", "preactivated": False}),
    "bias-free": (settings(), settings(depth=7, receptive_field=13)),
}


def made(kind: str, channels: int) -> WaveletCascade:
    low, details = KINDS[kind]
    torch.manual_seed(0)
    ladders = {"lowpass": {"steps": 5, "solver": "sde-dpm"}, "details": {"steps": 4}}
    cascade = WaveletCascade((16, 24), channels, "haar", low, [details] * 2, 0.5, [0.1, 0.15], ladders=ladders)
    with torch.no_grad():
        for parameter in cascade.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return cascade.eval()


@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_neither_layout_nor_saving_changes_what_is_drawn(
    kind: str, channels: int, autocast: bool, tmp_path: Path
) -> None:
    cascade = made(kind, channels)
    cascade.autocast = autocast
    picture = torch.rand(channels, 11, 14, generator=torch.Generator().manual_seed(1)) * 2 - 1

    def results(model: WaveletCascade) -> list[torch.Tensor]:
        return [
            wavdiff.sample(model, n=2, seed=7),
            wavdiff.denoise(picture, 0.2, model=model),
            wavdiff.denoise(picture, 0.2, model=model, mode="sample", steps=2),
            wavdiff.upscale(picture, 2, model=model),
            model.denoise(picture[None], torch.tensor([0.4])).mean,
        ]

    expected = results(cascade)
    save_model(cascade, tmp_path, "# a card")
    loaded = load_cascade(tmp_path)
    loaded.autocast = autocast
    assert not any(tensor.data_ptr() % 64 for tensor in loaded.state_dict().values())
    for model in (loaded, *(cascade.to(memory_format=f) for f in (torch.channels_last, torch.contiguous_format))):
        for one, other in zip(results(model), expected, strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_the_same_for_every_batch_size(kind: str, channels: int) -> None:
    cascade = made(kind, channels)
    images = wavdiff.sample(cascade, n=5, seed=3)
    for batch_size in (1, 2, 5, 64):
        assert torch.equal(wavdiff.sample(cascade, n=5, seed=3, batch_size=batch_size), images)
    for k in range(5):
        assert torch.equal(wavdiff.sample(cascade, n=1, seed=3 + k)[0], images[k])
