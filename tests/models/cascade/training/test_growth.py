"""A network that starts from a smaller trained one computes the same function, and all of it can learn."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_training import tiny

from wavdiff.models.cascade.networks import GlobalNetwork, LocalNetwork
from wavdiff.models.cascade.training.growth import start_from
from wavdiff.system.errors import WavdiffError
from wavdiff.training.checkpoints import list_checkpoints, load_checkpoint
from wavdiff.training.trainer import Trainer


def trained_network(preactivated: bool, width: int = 8, depth: int = 6, receptive_field: int = 9) -> LocalNetwork:
    """A local network without a zero in it."""
    network = LocalNetwork(
        3, 4, width, depth, receptive_field, levels=2, activation="relu", preactivated=preactivated
    ).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return network


@pytest.mark.parametrize("preactivated", [False, True])
@pytest.mark.parametrize(
    "width, depth, receptive_field", [(8, 6, 9), (11, 6, 9), (8, 10, 21), (8, 6, 13), (16, 12, 25)]
)
def test_the_grown_network_computes_the_same(preactivated: bool, width: int, depth: int, receptive_field: int) -> None:
    torch.manual_seed(0)
    small = trained_network(preactivated)
    large = LocalNetwork(
        3, 4, width, depth, receptive_field, levels=2, activation="relu", preactivated=preactivated
    ).double()
    start_from(large, small)
    x = torch.randn(2, 3, 20, 17, dtype=torch.float64)
    levels = torch.rand(2, 2, dtype=torch.float64)
    assert torch.allclose(large(x, levels), small(x, levels), atol=1e-12)


def test_every_new_weight_learns_within_two_steps() -> None:
    torch.manual_seed(0)
    large = LocalNetwork(3, 4, 12, 8, 17, levels=2, activation="relu", preactivated=False).double()
    start_from(large, trained_network(False))
    before = {name: value.clone() for name, value in large.named_parameters()}
    optimizer = torch.optim.SGD(large.parameters(), lr=1e-3)
    x, levels = torch.randn(2, 3, 16, 16, dtype=torch.float64), torch.rand(2, 2, dtype=torch.float64)
    for _ in range(3):
        optimizer.zero_grad()
        large(x, levels).square().mean().backward()
        optimizer.step()
    for name, value in large.named_parameters():
        if name.endswith("weight") and value.ndim == 4:
            changed = (value != before[name]).flatten(1).any(dim=1)
            assert changed.float().mean() > 0.7, name


@pytest.mark.parametrize(
    "network, what",
    [
        (LocalNetwork(3, 4, 6, 6, 9, levels=2, activation="relu", preactivated=False), "width is 8"),
        (LocalNetwork(3, 4, 8, 4, 9, levels=2, activation="relu", preactivated=False), "depth is 6"),
        (LocalNetwork(3, 4, 8, 6, 7, levels=2, activation="relu", preactivated=False), "receptive_field is 9"),
        (LocalNetwork(5, 4, 8, 6, 9, levels=2, activation="relu", preactivated=False), "in_channels is 3"),
        (LocalNetwork(3, 4, 8, 6, 9, levels=2, preactivated=False), "activation is 'relu'"),
        (LocalNetwork(3, 4, 8, 16, 13, levels=2, activation="relu", preactivated=False), "no layer shrinks"),
        (GlobalNetwork(3, 4, 8, levels=2), "it is a LocalNetwork"),
    ],
)
def test_networks_that_do_not_fit_are_refused(network: torch.nn.Module, what: str) -> None:
    with pytest.raises(WavdiffError, match=what):
        start_from(network, trained_network(False))


def test_a_run_starts_from_a_model_and_keeps_its_standardisation(pictures: Path, tmp_path: Path) -> None:
    first = Trainer(tiny(pictures, "training.steps=4"), tmp_path / "first").run()
    wider = tiny(pictures, "training.steps=1", "model.details.width=16", f"training.init={first}")
    wider_run = Trainer(wider, tmp_path / "second")
    old = load_file(first / "cascade" / "diffusion_pytorch_model.safetensors")
    new = wider_run.model.state_dict()
    name = "details.0.network.stem.weight"
    assert torch.equal(new[name][: old[name].shape[0]], old[name]) and new[name].shape[0] == 16
    assert wider_run.folder.measured["lowpass_std"] == pytest.approx(wider_run.model.lowpass.std)
    wider_run.run()
    weights = load_checkpoint(list_checkpoints(tmp_path / "second" / "checkpoints")[-1]).weights
    resumed = Trainer(wider, tmp_path / "second").model.state_dict()
    assert all(torch.equal(resumed[key], value) for key, value in weights.items())


def test_a_model_of_another_kind_is_named(pictures: Path, tmp_path: Path) -> None:
    first = Trainer(tiny(pictures, "training.steps=1"), tmp_path / "first").run()
    for override, what in (("model.levels=1", "levels is 2"), ("model.details.width=4", "network of scale 1 does not")):
        with pytest.raises(WavdiffError, match=f"training.init .*{what}"):
            Trainer(tiny(pictures, override, f"training.init={first}"), tmp_path / override)
