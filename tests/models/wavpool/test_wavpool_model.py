"""WavPool: counts of the release, what of it is dead, PyWavelets' transform, gradients."""

import numpy as np
import pytest
import pywt
import torch
from torch import Tensor

from wavdiff.models.wavpool.config import WavpoolModel
from wavdiff.models.wavpool.model import MicroWav, WavPool, accuracy_error, haar_details
from wavdiff.system.errors import WavdiffError

CLASSES = tuple("0123456789")


def published(size: int, hidden: int, pool: int, **changes: object) -> WavPool:
    torch.manual_seed(0)
    settings: dict[str, object] = {
        "image_size": (size, size),
        "hidden": hidden,
        "hidden_scaling": True,
        "pool": (pool, pool, pool),
        "ceil": False,
        "activation": "none",
        "lowpass": False,
        "reads_zeros": True,
        "classes": CLASSES,
    }
    return WavPool(WavpoolModel(**{**settings, **changes}))  # type: ignore[arg-type]


def images(count: int, side: int) -> Tensor:
    return torch.rand(count, 1, side, side, generator=torch.Generator().manual_seed(0))


PUBLISHED = [
    (28, 264, 3, 182_192, 156_024),
    (28, 268, 2, 186_722, 61_344),
    (32, 264, 3, 235_964, 229_284),
    (32, 224, 2, 201_672, 181_610),
]


@pytest.mark.parametrize(("size", "hidden", "pool", "count", "dead"), PUBLISHED)
def test_counts_are_those_of_the_release_and_dead_weights_have_no_gradient(
    size: int, hidden: int, pool: int, count: int, dead: int
) -> None:
    model = published(size, hidden, pool)
    assert model.parameter_count() == count and model.dead_parameters() == dead
    # Whatever wins the maximum: with average pooling every weight that can have a gradient has one.
    averaging = published(size, hidden, pool, pool_mode="average")
    averaging(images(3, size)).square().sum().backward()
    for layer in averaging.micro:
        assert isinstance(layer, MicroWav)
    untouched = 0
    for layer in averaging.micro:
        for linear in layer.layers:  # type: ignore[union-attr]
            rows = linear.bias.grad == 0
            assert bool((linear.weight.grad[rows] == 0).all())
            untouched += int(rows.sum()) * (linear.weight.shape[1] + 1)
    assert untouched == dead


@pytest.mark.parametrize("pool", [(1, 1, 1), (2, 3, 2), (5, 2, 3)])
def test_nothing_is_dead_in_ours(pool: tuple[int, int, int]) -> None:
    model = WavPool(WavpoolModel(pool=pool, pool_mode="average", activation="none", classes=CLASSES))
    model(images(4, 28)).square().sum().backward()
    assert model.dead_parameters() == 0
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and bool((parameter.grad != 0).all()), name


def test_where_a_side_is_odd_more_weights_are_dead_than_the_pool_leaves() -> None:
    model = published(28, 64, 1, pool_mode="average")
    model(images(4, 28)).square().sum().backward()
    details = haar_details(images(4, 28), 4)[1][1]  # 7 pixels became 8
    zeros = [int((details[:, place] == 0).all(dim=0).sum()) for place in range(3)]
    assert zeros == [4, 4, 7] and model.dead_parameters() == 0 and model.idle_parameters() == 15 * 21
    assert [published(28, hidden, pool).idle_parameters() for hidden, pool in ((268, 2), (264, 3))] == [712, 1320]
    micro = model.micro[1]
    assert isinstance(micro, MicroWav)
    found = [int((layer.weight.grad == 0).all(dim=0).sum()) for layer in micro.layers]  # type: ignore[union-attr]
    assert found == zeros


@pytest.mark.parametrize("size", [28, 32, 21])
def test_details_are_those_of_pywavelets(size: int) -> None:
    given, levels = images(2, size).double(), size.bit_length() - 1
    coarse, details = haar_details(given, levels)
    expected = pywt.wavedec2(given.numpy(), "db1", mode="symmetric", level=levels)
    np.testing.assert_allclose(coarse.numpy(), expected[0], atol=1e-12)
    for found, triple in zip(details, expected[1:], strict=True):
        np.testing.assert_allclose(found.numpy(), np.concatenate(triple, axis=1), atol=1e-12)
    if size == 32:  # no side is odd: orthogonal
        energy = coarse.square().sum() + sum(d.square().sum() for d in details)
        assert float(energy) == pytest.approx(float(given.square().sum()), rel=1e-12)


def test_without_activation_averages_are_linear_and_no_image_depends_on_its_batch() -> None:
    model = published(28, 64, 2, pool_mode="average")
    x, y = images(5, 28), images(5, 28).flip(0)
    zero = model(torch.zeros_like(x))
    assert torch.allclose(model(2 * x - 3 * y) - zero, 2 * (model(x) - zero) - 3 * (model(y) - zero), atol=1e-4)
    assert torch.allclose(model(x)[2:3], model(x[2:3]), atol=1e-6)


def test_the_transform_is_differentiable_and_probabilities_sum_to_one() -> None:
    model, given = WavPool(WavpoolModel(classes=CLASSES)), images(2, 28).requires_grad_()
    model(given).sum().backward()
    assert given.grad is not None and float(given.grad.abs().min()) > 0
    assert torch.allclose(model.classify(2 * given.detach() - 1).sum(dim=1), torch.ones(2))


def test_the_error_of_an_accuracy_is_that_of_a_share() -> None:
    assert accuracy_error([True] * 90 + [False] * 10) == pytest.approx((0.9, 0.03))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"image_size": (28, 20)}, "model.image_size must be square"),
        ({"image_size": (1, 1)}, "model.image_size must be square, 2 to 512"),
        ({"hidden": 2, "hidden_scaling": True}, "must leave a unit for each of 4 levels, got 2"),
        ({"pool": (2, 4, 2)}, "model.pool must be three windows, at most 68, 3 and 4, got"),
        ({"pool": (2, 2)}, "model.pool must be three windows"),
        ({"image_size": (512, 512), "hidden": 4096}, "model: at most 268435456 weights"),
        ({"classes": ("a", "a")}, "model.classes must differ"),
        ({"pool_mode": "sum"}, "must be max or average"),
        ({"channels": 3}, "must be 1: gray"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(WavdiffError, match=said):
        WavpoolModel(**settings)  # type: ignore[arg-type]
