"""The theorems behind the hierarchical VAE, as far as a computer can show them (docs/multiresolution.md)."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
import multiresolution as shown


def random_covariance(side: int, seed: int) -> torch.Tensor:
    root = torch.randn(side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return root @ root.T


def test_average_pooling_is_projection_on_coarser_haar_functions() -> None:
    images = torch.rand(3, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    for apart, energy in shown.pooling_is_projection(images, 6):
        assert apart < 1e-15 and energy < 1e-14


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_pooling_loses_is_the_distance_to_what_can_be_made_of_it(seed: int) -> None:
    left, right = shown.dropped_details(random_covariance(16, seed), 4)
    assert left == pytest.approx(right, rel=1e-6) and left > 1


def test_the_printed_inequality_fails_where_details_are_made() -> None:
    left, right = shown.counterexample(2.0)
    assert left == 2.0 and right == pytest.approx(0, abs=1e-7)


def test_cells_are_euler_steps_whose_weak_error_halves() -> None:
    errors = [shown.cell_against_process(steps) for steps in (128, 256, 512)]
    for before, now in zip(errors, errors[1:], strict=False):
        for old, new in zip(before, now, strict=True):
            assert new / old == pytest.approx(0.5, abs=0.03)
    assert max(errors[-1]) < 0.001


def test_resolution_is_gained_without_a_jump_and_without_details() -> None:
    for jump, detail in shown.bridge(5, 20):
        assert jump < 1e-15 and detail == 0


def test_the_example_prints_them(capsys: pytest.CaptureFixture[str]) -> None:
    shown.main()
    assert "256 cells" in capsys.readouterr().out
