"""Truths of noise levels: preconditioning identities, ranges of the draws, chance by generator only."""

from __future__ import annotations

import math

import pytest
import torch

from wavdiff.models.cascade.noise import SIGMA_MAX, NoiseDistribution, expand, preconditioning
from wavdiff.system.errors import WavdiffError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_expand_multiplies_a_batch() -> None:
    batch = torch.ones(3, 2, 4, 5, dtype=torch.float64)
    levels = torch.tensor([1.0, 2.0, 3.0])
    assert expand(levels, batch).shape == (3, 1, 1, 1)
    assert expand(levels, batch).dtype == torch.float64
    assert torch.equal((expand(levels, batch) * batch).mean((1, 2, 3)), levels.double())


def test_preconditioning_of_unit_data() -> None:
    u = torch.logspace(-4, 4, 50, dtype=torch.float64)
    c_skip, c_out, c_in = preconditioning(u)
    one = torch.ones_like(u)
    # The network's input x + u n has unit variance, and so has its target ((x - c_skip (x + u n)) / c_out).
    torch.testing.assert_close(c_in.square() * (1 + u.square()), one)
    torch.testing.assert_close(((1 - c_skip).square() + (c_skip * u).square()) / c_out.square(), one)
    # Input and target are uncorrelated: c_skip y is the best linear guess, so the network has only the rest to find.
    torch.testing.assert_close((1 - c_skip) - c_skip * u.square(), torch.zeros_like(u), rtol=0, atol=1e-12)
    # EDM loss weighting: lambda(u) c_out^2 = 1 with lambda = (u^2 + 1) / u^2.
    torch.testing.assert_close((u.square() + 1) / u.square() * c_out.square(), one)


def test_preconditioning_without_noise_keeps_the_input() -> None:
    assert [float(c) for c in preconditioning(torch.zeros(()))] == [1.0, 0.0, 1.0]


def test_image_levels_are_log_uniform_in_twice_the_declared_range() -> None:
    distribution = NoiseDistribution(image_min=0.01, image_max=0.5)
    levels = distribution.draw_image_levels(20_000, generator())
    assert levels.shape == (20_000,)
    assert levels.min() >= 0.02 and levels.max() <= 1.0  # images in [-1, 1]: twice the [0, 1] level
    position = (levels.log() - math.log(0.02)) / math.log(50)
    # Kolmogorov-Smirnov against the uniform law: 1.95 / sqrt(n) is passed with probability 0.999.
    ranks = torch.arange(1, 20_001) / 20_000
    assert (position.sort().values - ranks).abs().max() < 1.95 / 20_000**0.5


def test_synthesis_levels_are_log_normal_with_a_share_at_the_top() -> None:
    distribution = NoiseDistribution(log_mean=-0.4, log_std=1.2, top_fraction=0.25)
    count = 40_000
    levels = distribution.draw_levels(count, generator(), top=True)
    assert levels.min() > 0 and levels.max() == SIGMA_MAX
    share = float((levels == SIGMA_MAX).float().mean())
    assert abs(share - 0.25) < 4 * (0.25 * 0.75 / count) ** 0.5 + 1e-4  # 1e-4: the log-normal's own tail above the top
    logs = distribution.draw_levels(count, generator(1), top=False).log()
    assert abs(float(logs.mean()) + 0.4) < 4 * 1.2 / count**0.5
    assert abs(float(logs.std()) - 1.2) < 4 * 1.2 / (2 * count) ** 0.5


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_extreme_shares_at_the_top(fraction: float) -> None:
    distribution = NoiseDistribution(log_std=0.5, top_fraction=fraction)
    assert float((distribution.draw_levels(1000, generator(), top=True) == SIGMA_MAX).float().mean()) == fraction
    assert not (distribution.draw_levels(1000, generator(), top=False) == SIGMA_MAX).any()


def test_levels_never_pass_the_top() -> None:
    assert NoiseDistribution(log_mean=5.0, log_std=3.0).draw_levels(1000, generator(), top=False).max() <= SIGMA_MAX


def test_draws_depend_on_the_generator_alone() -> None:
    distribution = NoiseDistribution()
    for draw in (
        lambda g: distribution.draw_image_levels(9, g),
        lambda g: distribution.draw_levels(9, g, top=True),
    ):
        first = draw(generator(5))
        torch.manual_seed(123)
        assert torch.equal(draw(generator(5)), first)
        assert not torch.equal(draw(generator(6)), first)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_min": 0.0}, "0 < image_min < image_max, got 0.0"),
        ({"image_min": 0.5, "image_max": 0.5}, "image_min < image_max"),
        ({"top_fraction": 1.5}, r"top_fraction must be in \[0, 1\], got 1.5"),
        ({"top_fraction": -0.1}, "top_fraction"),
    ],
)
def test_impossible_distributions_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(WavdiffError, match=message):
        NoiseDistribution(**settings)
