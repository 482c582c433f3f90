"""Truths of the networks: the receptive field is the declared one, tiles equal the whole, the global one sees all."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from wavdiff.models.cascade.networks import GlobalNetwork, LocalNetwork, Modulation, NoiseEmbedding, kernel_sizes
from wavdiff.models.cascade.networks.layers import Convolution
from wavdiff.system.errors import WavdiffError

FIELDS = [3, 5, 9, 13, 23, 43]
LOCAL_LAYERS = (Convolution, nn.Linear, nn.SiLU, nn.Dropout)


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    """`network` in float64 with every weight, bias and modulation random and non-zero."""
    generator = torch.Generator().manual_seed(seed)
    network = network.double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 4
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / fan_in**0.5)
    return network


def local(field: int, *, levels: int = 1) -> nn.Module:
    depth = max(6, (field - 1) // 2 + (field - 1) // 2 % 2)
    return randomised(LocalNetwork(2, 3, width=6, depth=depth, receptive_field=field, levels=levels))


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


LEVEL = torch.tensor([0.7], dtype=torch.float64)


@pytest.mark.parametrize("field", FIELDS)
@torch.no_grad()
def test_one_input_moves_exactly_the_declared_field(field: int) -> None:
    network = local(field)
    side = field + 8
    centre, radius = side // 2, (field - 1) // 2
    x = noise(1, 2, side, side)
    changed = x.clone()
    changed[0, :, centre, centre] += 1e8  # so that the field's corners rise above rounding
    # Summed over channels: a position moves if any channel does.
    moved = (network(changed, LEVEL) - network(x, LEVEL)).abs().amax(dim=(0, 1)) > 0
    expected = torch.zeros(side, side, dtype=torch.bool)
    expected[centre - radius : centre + radius + 1, centre - radius : centre + radius + 1] = True
    assert torch.equal(moved, expected)


@pytest.mark.parametrize("field", FIELDS)
def test_one_output_depends_on_exactly_the_declared_field(field: int) -> None:
    network = local(field)
    side = field + 4
    x = noise(1, 2, side, side).requires_grad_()
    (gradient,) = torch.autograd.grad(network(x, LEVEL)[0, :, side // 2, side // 2].sum(), x)
    assert int((gradient.abs().amax(dim=(0, 1)) > 0).sum()) == field**2


@pytest.mark.parametrize("field", [3, 9, 13, 23])
@torch.no_grad()
def test_a_tile_equals_the_whole_with_its_halo_and_not_with_less(field: int) -> None:
    network = local(field)
    radius = (field - 1) // 2
    size = 2 * radius + 16
    x = noise(1, 2, size, size)
    tile = slice(radius + 4, radius + 10)
    whole = network(x, LEVEL)[..., tile, tile]

    def from_tile(halo: int) -> Tensor:
        around = slice(tile.start - halo, tile.stop + halo)
        inner = slice(halo, halo + 6)
        return network(x[..., around, around], LEVEL)[..., inner, inner]

    assert (from_tile(radius) - whole).abs().max() < 1e-12 * whole.abs().max()
    # The outermost ring of a deep stack weighs little, yet it is there.
    assert (from_tile(radius - 1) - whole).abs().max() > 1e-6 * whole.abs().max()


@pytest.mark.parametrize("field", FIELDS)
def test_the_attribute_and_the_kernels_agree_with_the_declared_field(field: int) -> None:
    network = LocalNetwork(1, 1, width=4, depth=22, receptive_field=field)
    sides = [module.kernel_size[0] for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert network.receptive_field == field == 1 + sum(side - 1 for side in sides)
    assert len(sides) == 22 and set(sides) <= {1, 3} and sides[0] == 3


def test_kernels_are_spread_over_the_depth() -> None:
    for depth in range(2, 26):
        for threes in range(1, depth + 1):
            kernels = kernel_sizes(depth, 2 * threes + 1)
            assert len(kernels) == depth and kernels.count(3) == threes and kernels[0] == 3
            if threes > 1:
                assert kernels[-1] == 3


def test_nothing_in_the_local_network_is_global() -> None:
    network = LocalNetwork(5, 4, width=8, depth=8, receptive_field=9, levels=2, dropout=0.1)
    leaves = [module for module in network.modules() if not list(module.children())]
    assert {type(module) for module in leaves} <= set(LOCAL_LAYERS)
    assert not list(network.buffers(recurse=True)) or {name for name, _ in network.named_buffers()} == {
        "embedding.frequencies"
    }
    norms = (nn.GroupNorm, nn.LayerNorm, nn.modules.batchnorm._NormBase, nn.MultiheadAttention)
    assert not any(isinstance(module, norms) for module in network.modules())


@torch.no_grad()
def test_the_local_network_commutes_with_shifts_and_batches() -> None:
    network = local(9)
    x = noise(3, 2, 20, 20)
    levels = torch.tensor([0.1, 0.7, 5.0], dtype=torch.float64)
    together = network(x, levels)
    for index in range(3):
        alone = network(x[index : index + 1], levels[index : index + 1])
        torch.testing.assert_close(alone, together[index : index + 1], rtol=0, atol=1e-12)
    shifted = network(x.roll((2, 3), (-2, -1)), levels)
    torch.testing.assert_close(shifted[..., 7:-5, 8:-5], together[..., 5:-7, 5:-8], rtol=0, atol=1e-12)


FRESH = [
    lambda levels: LocalNetwork(2, 3, width=8, depth=4, receptive_field=5, levels=levels),
    lambda levels: GlobalNetwork(2, 3, width=8, depth=1, stages=2, levels=levels),
]


@pytest.mark.parametrize("make", FRESH, ids=["local", "global"])
@torch.no_grad()
def test_a_fresh_network_outputs_zero(make) -> None:  # type: ignore[no-untyped-def]
    network = make(1)
    output = network(torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0.1, 3.0]))
    assert output.shape == (2, 3, 8, 8) and not output.any()


@pytest.mark.parametrize("make", FRESH, ids=["local", "global"])
@torch.no_grad()
def test_every_noise_level_input_moves_the_output(make) -> None:  # type: ignore[no-untyped-def]
    network = randomised(make(2))
    x = noise(1, 2, 8, 8)
    base = network(x, torch.tensor([[0.5, 0.2]], dtype=torch.float64))
    for other in [[0.6, 0.2], [0.5, 0.3], [0.5, 0.0], [80.0, 0.2], [0.2, 0.5]]:
        changed = network(x, torch.tensor([other], dtype=torch.float64))
        assert changed.isfinite().all()
        assert ((changed - base).abs().amax(dim=1) > 1e-9).all()


@torch.no_grad()
def test_levels_may_be_flat_when_there_is_one_each() -> None:
    network = local(5)
    x, levels = noise(2, 2, 6, 6), torch.tensor([0.5, 2.0], dtype=torch.float64)
    assert torch.equal(network(x, levels), network(x, levels[:, None]))


@torch.no_grad()
def test_noise_embedding_tells_levels_apart_and_zero_from_small() -> None:
    embedding = randomised(NoiseEmbedding(1)).float()
    levels = torch.cat([torch.zeros(1), torch.logspace(-2, 2, 40)])
    distances = torch.cdist(embedding(levels[:, None]), embedding(levels[:, None]))
    assert distances.isfinite().all()
    assert (distances + torch.eye(41)).min() > 1e-3


@torch.no_grad()
def test_modulation_starts_as_the_identity() -> None:
    x = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Modulation(4)(x, torch.ones(2, 128)), x)


@pytest.mark.parametrize("size", [(4, 4), (8, 8), (16, 16), (9, 7), (23, 28)])
@torch.no_grad()
def test_one_corner_moves_every_output_of_the_global_network(size: tuple[int, int]) -> None:
    network = randomised(GlobalNetwork(1, 1, width=8, depth=1, stages=2))
    x = noise(1, 1, *size)
    base = network(x, LEVEL)
    for corner in [(0, 0), (0, -1), (-1, 0), (-1, -1)]:
        changed = x.clone()
        changed[0, 0, corner[0], corner[1]] += 1.0
        assert ((network(changed, LEVEL) - base).abs() > 0).all()


@pytest.mark.parametrize("stages", [1, 2, 3])
@torch.no_grad()
def test_the_global_network_takes_any_size(stages: int) -> None:
    network = randomised(GlobalNetwork(3, 3, width=8, depth=1, stages=stages))
    for size in [(1, 1), (1, 6), (2, 3), (5, 5), (7, 16), (16, 12)]:
        output = network(noise(2, 3, *size), torch.tensor([0.1, 2.0], dtype=torch.float64))
        assert output.shape == (2, 3, *size) and output.isfinite().all()


@torch.no_grad()
def test_the_local_network_takes_any_size() -> None:
    network = local(13)
    for size in [(1, 1), (1, 6), (3, 2), (5, 17)]:
        output = network(noise(1, 2, *size), LEVEL)
        assert output.shape == (1, 3, *size) and output.isfinite().all()


def test_dropout_acts_in_training_only() -> None:
    network = randomised(LocalNetwork(1, 1, width=8, depth=6, receptive_field=5, dropout=0.5))
    x = noise(1, 1, 6, 6)
    assert torch.equal(network(x, LEVEL), network(x, LEVEL))
    network.train()
    torch.manual_seed(0)
    assert not torch.equal(network(x, LEVEL), network(x, LEVEL))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"receptive_field": 4}, "receptive_field must be odd and at least 3, got 4"),
        ({"receptive_field": 1}, "receptive_field must be odd and at least 3, got 1"),
        ({"depth": 4, "receptive_field": 13}, "receptive_field 13 needs 6 3x3 layers, but depth is 4"),
        ({"depth": 5, "receptive_field": 5}, "depth must be even and at least 2, got 5"),
        ({"depth": 0, "receptive_field": 3}, "depth must be even and at least 2, got 0"),
    ],
)
def test_impossible_local_networks_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(WavdiffError, match=message):
        LocalNetwork(1, 1, width=4, **settings)


@pytest.mark.parametrize("width", [0, 4, 12, 63])
def test_the_global_network_needs_a_multiple_of_eight_channels(width: int) -> None:
    with pytest.raises(WavdiffError, match=f"multiple of 8, got {width}"):
        GlobalNetwork(1, 1, width=width)
