"""The sliced Wasserstein distance against closed forms and against what it must tell apart."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from wavdiff.evaluation.metrics.sliced import DIRECTIONS, PATCHES, patch_projections, wasserstein
from wavdiff.system.errors import WavdiffError


def noise(count: int, seed: int, size: int = 32) -> Tensor:
    return torch.randn(count, 1, size, size, generator=torch.Generator().manual_seed(seed))


def distance(one: Tensor, other: Tensor, levels: int = 1) -> list[float]:
    first, scales = patch_projections(one, levels)
    second, _ = patch_projections(other, levels, scales)
    return [wasserstein(a, b) for a, b in zip(first, second, strict=True)]


def test_projections_of_white_noise_are_standard_normal_at_every_scale() -> None:
    projected, scales = patch_projections(noise(40, 0, 64), 2)
    assert [tuple(part.shape) for part in projected] == [(40, PATCHES, DIRECTIONS)] * 3
    for part in projected[:-1]:
        assert float(part.mean()) == pytest.approx(0, abs=0.02)
        assert float(part.std()) == pytest.approx(1, abs=0.02)
    # range-preserving: white noise of 1 arrives with 1/2 and 1/4, in every band
    for rms, expected in zip(scales[:2], (0.5, 0.25), strict=True):
        torch.testing.assert_close(rms.flatten(), torch.full((3,), expected), rtol=0.02, atol=0)


def test_a_shift_and_a_stretch_of_a_line_have_their_known_distances() -> None:
    values = torch.randn(50, 40, 8, generator=torch.Generator().manual_seed(1))
    assert wasserstein(values, values) == 0
    assert wasserstein(values, values + 0.3) == pytest.approx(0.3, abs=1e-6)
    # between N(0, 1) and N(0, a^2): |a - 1| E|z|
    stretched = 1.5 * torch.randn(50, 40, 8, generator=torch.Generator().manual_seed(2))
    assert wasserstein(values, stretched) == pytest.approx(0.5 * math.sqrt(2 / math.pi), abs=0.03)


def test_sets_of_different_sizes_are_compared_at_quantiles_both_ways() -> None:
    values = torch.linspace(-1, 1, 3000)[:, None, None]
    third = values[1::3]  # the middle one of every three: the quantiles of the smaller set
    assert wasserstein(third, values) < 1e-3
    assert wasserstein(third, values) == wasserstein(values, third)


def test_the_distance_is_small_for_one_distribution_and_grows_with_blur() -> None:
    one, other = noise(24, 3), noise(24, 4)
    blurred = torch.nn.functional.avg_pool2d(other, 3, stride=1, padding=1)
    half = 0.5 * (other + blurred)
    same, some, much = (sum(distance(one, images)) for images in (other, half, blurred))
    assert same < 0.1 < some < much


def test_order_of_images_does_not_matter_and_small_pictures_are_refused() -> None:
    one, other = noise(10, 5), noise(10, 6)
    torch.testing.assert_close(distance(one, other), distance(one.flip(0), other.roll(3, 0)), rtol=1e-4, atol=1e-6)
    with pytest.raises(WavdiffError, match="low-pass image at least so large"):
        patch_projections(noise(2, 0, 16), 2)
