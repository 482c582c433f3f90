"""Bias-free networks: homogeneous, local, as large as published, and the same at rest as a bare chain."""

import math

import pytest
import torch
from blind_models import random_network

from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.cascade.networks import (
    BiasFreeNetwork,
    ChannelScale,
    FoldedNetwork,
    bias_free_kernels,
    count_parameters,
)
from wavdiff.models.cascade.networks.bias_free import MOMENTUM, VARIANCE_FLOOR
from wavdiff.models.cascade.networks.cost import count_multiply_adds
from wavdiff.system.errors import WavdiffError

DETAIL_PARAMETERS = {5: 83_072, 9: 148_608, 13: 214_144, 23: 377_984, 43: 705_664}
FLAT_PARAMETERS = {5: 80_192, 9: 145_728, 13: 211_264, 23: 375_104, 43: 702_784}


def picture(channels: int = 4, height: int = 17, width: int = 22, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(height))


def test_twice_the_input_is_twice_the_output() -> None:
    network, x = random_network(), picture()
    with torch.no_grad():
        y = network(x)
        assert float(y.abs().max()) > 0.1
        for factor in (2.0, 0.25, 2.0**20, 2.0**-20):  # powers of two change exponents only: to the last bit
            assert torch.equal(network(factor * x), factor * y)
        for factor in (0.3, 7.7):
            assert torch.allclose(network(factor * x), factor * y, rtol=1e-4, atol=1e-5 * factor)
        assert float((network(-x) + y).abs().max()) > 0.1  # of positive factors only: it is not linear
        assert torch.equal(network(torch.zeros_like(x)), torch.zeros_like(y))


def test_in_training_only_sizes_within_a_batch_matter() -> None:
    network, x = random_network().train(), picture()
    with torch.no_grad():  # divided by its own standard deviation, so that losses must bring examples to one size
        assert torch.allclose(network(5 * x), network(x), rtol=1e-2, atol=1e-2)
        assert torch.equal(network(0 * x), 0 * network(x))


def test_there_is_nothing_but_weights_factors_and_standard_deviations() -> None:
    network = random_network(depth=6)
    weights = {f"convolutions.{k}.weight" for k in range(6)}
    factors = {f"scales.{k}.gamma" for k in range(4)}
    assert {name for name, _ in network.named_parameters()} == weights | factors
    assert {name for name, _ in network.named_buffers()} == {f"scales.{k}.running_sd" for k in range(4)}
    assert not any("bias" in name for name in network.state_dict())
    assert all(layer.bias is None for layer in network.convolutions)


def test_a_fresh_network_sees_no_noise() -> None:
    network = BiasFreeNetwork(4, 3, width=8, depth=5, receptive_field=7)
    assert torch.equal(network.eval()(picture()), torch.zeros(2, 3, 17, 22))


@pytest.mark.parametrize("field", sorted(DETAIL_PARAMETERS))
def test_one_pixel_moves_exactly_its_receptive_field(field: int) -> None:
    network = BiasFreeNetwork(2, 1, width=3, depth=21, receptive_field=field)
    with torch.no_grad():
        for parameter in network.parameters():  # all positive: no ReLU hides a change
            parameter.fill_(0.2)
        size = field + 8
        x = torch.zeros(1, 2, size, size, dtype=torch.float64)
        x[0, 1, size // 2, size // 2] = 1
        moved = network.double().eval()(x)[0, 0] != 0  # without a bias nothing else is
    expected = torch.zeros(size, size, dtype=torch.bool)
    inside = slice(size // 2 - field // 2, size // 2 + field // 2 + 1)
    expected[inside, inside] = True
    assert torch.equal(moved, expected)


@pytest.mark.parametrize(
    ("depth", "field", "threes"),
    [
        (21, 5, [0, 20]),
        (21, 9, [0, 8, 16, 20]),
        (21, 13, [0, 4, 8, 12, 16, 20]),
        (21, 23, list(range(0, 21, 2))),
        (21, 43, list(range(21))),
        (20, 41, list(range(20))),
    ],
)
def test_layers_of_three_by_three_are_where_they_were_published(depth: int, field: int, threes: list[int]) -> None:
    kernels = bias_free_kernels(depth, field)
    assert len(kernels) == depth and set(kernels) <= {1, 3}
    assert [layer for layer, kernel in enumerate(kernels) if kernel == 3] == threes


def test_every_depth_and_field_that_fit_have_that_field() -> None:
    for depth in range(2, 30):
        for field in range(3, 2 * depth + 2, 2):
            kernels = bias_free_kernels(depth, field)
            assert len(kernels) == depth and sum(kernel - 1 for kernel in kernels) + 1 == field, (depth, field)


@pytest.mark.parametrize(
    ("inputs", "outputs", "depth", "field", "expected"),
    [
        *[(4, 3, 21, field, count) for field, count in DETAIL_PARAMETERS.items()],
        *[(1, 1, 21, field, count) for field, count in FLAT_PARAMETERS.items()],
        (1, 1, 20, 41, 665_856),
    ],
)
def test_it_has_as_many_parameters_as_published(
    inputs: int, outputs: int, depth: int, field: int, expected: int
) -> None:
    arguments = {"width": 64, "depth": depth, "receptive_field": field}
    assert count_parameters({"kind": "bias-free", **arguments}, 1, details=inputs > outputs) == expected
    with torch.device("meta"):
        network = BiasFreeNetwork(inputs, outputs, **arguments)
    assert sum(parameter.numel() for parameter in network.parameters()) == expected


def test_multiply_adds_are_counted() -> None:
    network = random_network(4, 3, width=8, depth=6, receptive_field=9)  # 4 of 6 layers are 3x3
    weights = sum(layer.weight.numel() for layer in network.convolutions)
    assert count_multiply_adds(network, (10, 7)) == weights * 70
    assert not network.training
    low = {"kind": "bias-free", "width": 8, "depth": 4, "receptive_field": 7}
    cascade = WaveletCascade((16, 16), 1, "haar", low, [low], 0.5, [0.1])
    before = {name: value.clone() for name, value in cascade.state_dict().items()}
    per_pixel = sum(parameter.numel() for name, parameter in cascade.named_parameters() if "weight" in name) / 4
    assert cascade.multiply_adds_per_pixel() == per_pixel
    assert all(torch.equal(value, before[name]) for name, value in cascade.state_dict().items())


def test_a_channel_is_divided_by_the_standard_deviation_of_the_batch_and_a_running_one_follows() -> None:
    scale = ChannelScale(3).train()
    gamma, before = torch.tensor([0.5, 1.0, 2.0]), torch.tensor([1.0, 0.2, 3.0])
    with torch.no_grad():
        scale.gamma.copy_(gamma)
        scale.running_sd.copy_(before)
    x = torch.tensor([1.0, 0.1, 10.0])[:, None, None] * picture(3, 6, 5, batch=4) + 2
    y = scale(x)
    for channel in range(3):  # by hand, in two passes: the mean, then the squares around it
        values = x[:, channel].double().flatten().tolist()
        mean = math.fsum(values) / len(values)
        sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values) + VARIANCE_FLOOR)
        # Only divided: the mean is still there.
        assert torch.allclose(y[:, channel], x[:, channel] * float(gamma[channel]) / sd, rtol=1e-5)
        followed = (1 - MOMENTUM) * float(before[channel]) + MOMENTUM * sd
        assert float(scale.running_sd[channel]) == pytest.approx(followed, rel=1e-5)
    assert torch.allclose(scale.factor(), gamma / scale.running_sd)


def test_at_rest_the_running_ones_are_used_and_stay() -> None:
    network, x = random_network(), picture()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    hidden = torch.nn.functional.conv2d(x, network.convolutions[0].weight, padding=1)
    for k in range(1, 5):
        layer, scale = network.convolutions[k], network.scales[k - 1]
        hidden = torch.nn.functional.conv2d(hidden, layer.weight, padding=layer.weight.shape[-1] // 2)
        hidden = (hidden / scale.running_sd[:, None, None] * scale.gamma[:, None, None]).clamp(min=0)
    expected = torch.nn.functional.conv2d(hidden, network.convolutions[5].weight, padding=1)
    assert torch.allclose(network(x), expected, rtol=1e-4, atol=1e-4)
    assert torch.allclose(
        network(x)[:1], network(x[:1]), rtol=1e-4, atol=1e-4
    )  # an image does not depend on its company
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_batch_that_is_not_finite_leaves_the_running_ones() -> None:
    scale = ChannelScale(2).train()
    x = torch.ones(1, 2, 3, 3)
    x[0, 0, 0, 0] = float("nan")
    scale(x)
    assert scale.running_sd[0] == 1 and 0 < float(scale.running_sd[1]) < 1


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("depth", [2, 6])
def test_the_chain_equals_the_network(batch: int, depth: int) -> None:
    network = random_network(depth=depth, receptive_field=5).to(memory_format=torch.channels_last)
    x = picture(batch=batch)
    with torch.inference_mode():
        expected = network(x)
        folded = FoldedNetwork(network, torch.zeros(1), dtype=torch.float32)
        assert torch.allclose(folded(x), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
        folded.fused = False
        assert torch.allclose(folded(x), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
        scaled = FoldedNetwork(
            network,
            torch.zeros(1),
            dtype=torch.float32,
            input_scale=torch.full((4,), 0.5),
            output_scale=torch.tensor([1.0, 2.0, 3.0]),
        )(2 * x)
        wanted = expected * torch.tensor([1.0, 2.0, 3.0])[:, None, None]
        assert torch.allclose(scaled, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))


def test_gray_is_folded_into_an_rgb_network() -> None:
    network = random_network(12, 9)
    x = picture(4)
    with torch.inference_mode():
        expected = network(x.repeat_interleave(3, dim=1)).unflatten(1, (3, 3)).mean(dim=2)
        gray = FoldedNetwork(network, torch.zeros(1), gray=True, dtype=torch.float32)(x)
    assert gray.shape == (2, 3, 17, 22)
    assert torch.allclose(gray, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize(
    ("depth", "field", "rule"), [(1, 3, "depth"), (5, 13, "needs 6"), (5, 4, "odd"), (5, 1, "at least 3")]
)
def test_networks_that_cannot_be_are_refused(depth: int, field: int, rule: str) -> None:
    with pytest.raises(WavdiffError, match=rule):
        BiasFreeNetwork(4, 3, width=8, depth=depth, receptive_field=field)
