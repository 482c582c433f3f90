"""How long a training will take, as `--dry-run` and the start of a run say it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wavdiff.training.config import from_mapping, read_mapping
from wavdiff.training.estimate import Estimate, Phase, estimate_training
from wavdiff.training.trainer import Trainer


def test_operations_are_those_of_the_networks() -> None:
    """Three passes' worth of two operations for every multiply-add; what noise levels cost is small beside."""
    config = from_mapping(read_mapping("tiny"), ["model.levels=0", "model.lowpass={kind: local, width: 32, depth: 6}"])
    found = estimate_training(config)
    assert found is not None and found.measured == found.batch == 16
    (phase,) = found.phases
    assert phase.steps == 300 and phase.seconds > 0
    multiply_adds = 32 * 32 * 9 * (32 + 4 * 32 * 32 + 32)
    assert phase.operations == pytest.approx(16 * 6 * multiply_adds, rel=0.1)


def test_parts_that_end_earlier_make_phases() -> None:
    config = from_mapping(read_mapping("tiny"), ["training.scale_steps={low: 10, '0': 5}", "training.steps=20"])
    found = estimate_training(config)
    assert found is not None
    assert [phase.steps for phase in found.phases] == [5, 5, 10]
    assert found.phases[0].operations > found.phases[1].operations > found.phases[2].operations > 0


def test_of_large_batches_a_part_is_measured() -> None:
    small = estimate_training(from_mapping(read_mapping("tiny")))
    large = estimate_training(from_mapping(read_mapping("tiny"), ["training.batch_size=512"]))
    assert small is not None and large is not None and (large.measured, large.batch) == (128, 512)
    assert large.phases[0].operations == pytest.approx(32 * small.phases[0].operations)


def test_examples_of_many_pixels_are_not_measured() -> None:
    sides = ["model.image_size=[2048, 1024]", "training.batch_size=1"]
    assert estimate_training(from_mapping(read_mapping("tiny"), sides)) is None


@pytest.mark.parametrize("preset", ["vdvae-fashion16", "wavpool-fashion"])
def test_every_family(preset: str) -> None:
    assert estimate_training(from_mapping(read_mapping(preset))) is not None


def test_what_is_said() -> None:
    short = Estimate((Phase(300, 0.04, 1e9),), 16, 16, "cpu").report()
    assert short == "a step takes 0.04 s on this CPU: 300 steps, 12 s"
    long = Estimate((Phase(100_000, 30, 3e12), Phase(100_000, 5, 1e9)), 5, 128, "cpu").report().splitlines()
    assert long[0] == "a step takes 30 s on this CPU, measured on 5 of 128 examples: 200,000 steps, 41 days"
    assert long[1].startswith("one recent GPU: 3 h 03 min is a guess")
    assert long[2].startswith("a night of 10 hours is about 2,057 steps")
    assert len(Estimate((Phase(100_000, 30, 3e12),), 5, 5, "cuda").report().splitlines()) == 2


@pytest.mark.slow
def test_a_dry_run_of_much_proposes_what_a_cpu_can_do(cli: Callable[..., Any]) -> None:
    said = cli("train", "--config", "celeba160", "--dry-run").out
    assert "# images as 160x160 gray" in said and "200,000 steps" in said and "--config celeba64" in said
    assert "--config celeba64" not in cli("train", "--config", "celeba64", "--dry-run").out


def test_the_second_step_says_how_long_the_others_take(pictures: Path, tmp_path: Path) -> None:
    config = from_mapping(read_mapping("tiny"), [f"data.name={pictures}", "training.steps=4", "training.batch_size=2"])
    trainer, said = Trainer(config, tmp_path / "run"), []
    trainer.expect = said.append
    trainer.run()
    assert len(said) == 1 and 0 < said[0] < trainer.state.seconds * 10
