"""How the examples of a batch are weighed against one another."""

from pathlib import Path

import pytest
import torch
from conftest import TINY
from test_training import last, tiny

from wavdiff.models.cascade.training.objective import LOSS_FLOOR, TYPICAL_LOSS, balanced
from wavdiff.models.cascade.training.standardisation import build_cascade
from wavdiff.training.config import from_mapping
from wavdiff.training.trainer import Trainer


def test_balanced_losses_have_the_gradient_of_their_logarithm() -> None:
    """Denoising examples count by their decibels, synthesis examples as they are."""
    denoising = torch.tensor([True, True, False])
    slopes = torch.tensor([0.02, 0.1, 0.3], dtype=torch.float64)
    parameter = torch.tensor([0.5, 2.0, 3.0], dtype=torch.float64, requires_grad=True)
    balanced(slopes * parameter**2, denoising, 1.0).backward()
    again = parameter.detach().clone().requires_grad_()
    losses = slopes * again**2
    logarithms = TYPICAL_LOSS * (losses + LOSS_FLOOR).log()
    torch.where(denoising, logarithms, losses).mean().backward()
    torch.testing.assert_close(parameter.grad, again.grad)


@pytest.mark.parametrize(("balance", "weight"), [(0.0, 1.0), (0.5, 5.0), (1.0, 25.0)])
def test_balance_is_an_exponent(balance: float, weight: float) -> None:
    losses = torch.tensor([TYPICAL_LOSS / 25 - LOSS_FLOOR])
    torch.testing.assert_close(balanced(losses, torch.tensor([True]), balance), weight * losses.mean())
    torch.testing.assert_close(balanced(losses, torch.tensor([False]), balance), losses.mean())


def test_an_empty_picture_cannot_outweigh_the_others() -> None:
    losses = torch.zeros(2, requires_grad=True)
    balanced(losses, torch.tensor([True, True]), 1.0).backward()
    assert losses.grad is not None
    torch.testing.assert_close(losses.grad, torch.full((2,), TYPICAL_LOSS / LOSS_FLOOR / 2))


def test_training_uses_the_balance_at_every_scale(pictures: Path, tmp_path: Path) -> None:
    weights = []
    for balance in (0, 1):
        changes = (
            "training.steps=4",
            "training.warmup_steps=0",
            "noise.denoising_fraction=1.0",
            f"training.balance={balance}",
        )
        Trainer(tiny(pictures, *changes), tmp_path / str(balance)).run()
        weights.append(last(tmp_path / str(balance))[0])
    for scale in ("lowpass", "details.0"):
        names = [name for name in weights[0] if name.startswith(scale)]
        assert names, scale
        assert any(not torch.equal(weights[0][name], weights[1][name]) for name in names), scale


@pytest.mark.parametrize(("fraction", "expected"), [(0.5, 0.3), (0.0, None)])
def test_a_cascade_knows_the_noise_it_was_trained_for(fraction: float, expected: float | None) -> None:
    changes = [f"noise.denoising_fraction={fraction}", "noise.image_max=0.3"]
    config = from_mapping(TINY, changes)
    assert build_cascade(config, 1.0, [1.0] * config.model.levels).noise_max == expected
