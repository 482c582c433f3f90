"""Training over processes means the same as in one; checkpoints move between numbers of processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from conftest import TINY
from fresh_processes import WAVDIFF, Fresh, together
from test_training import last

from wavdiff.training.records import read_stats

pytestmark = pytest.mark.slow

DDP_AT_THE_END = """import gc
from accelerate import Accelerator
from torch.nn.parallel import DistributedDataParallel
end = Accelerator.end_training
def counted(accelerator):
    print("DDP left:", sum(isinstance(thing, DistributedDataParallel) for thing in gc.get_objects()))
    end(accelerator)
Accelerator.end_training = counted
"""
CHANGES = {"log_every": 1, "steps": 8, "precision": "float32", "checkpoint_every": 3, "evaluate_every": 4}


def command(pictures: Path, out: Path, *options: str) -> list[str]:
    """`wavdiff` is left out; the low-pass network ends earlier than the others."""
    config = out.parent / "config.yaml"
    training = TINY["training"] | CHANGES | {"scale_steps": {"low": 5}}
    config.write_text(yaml.safe_dump(TINY | {"training": training}))
    return ["train", "--data", str(pictures), "--config", str(config), "--out", str(out), *options]


@pytest.fixture(scope="module")
def whole(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    done = Fresh(WAVDIFF, *command(pictures, folder), ACCELERATE_USE_CPU="true").end()
    assert done.code == 0 and done.out.count("Model:") == 1, done.err
    return folder


def test_one_and_two_processes_train_the_same(pictures: Path, whole: Path, tmp_path: Path) -> None:
    """The two are started by `accelerate launch`."""
    launch = ["--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--main_process_port", "0"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "-m", "wavdiff.cli"]
    done = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", *launch, *command(pictures, tmp_path / "two")],
        capture_output=True,
        text=True,
        timeout=400,
        env={**os.environ, "ACCELERATE_USE_CPU": "true"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Model:") == 1  # only the main process speaks
    runs = (whole, tmp_path / "two")
    one, two = (read_stats(run / "stats.jsonl") for run in runs)
    assert [record["step"] for record in one] == [record["step"] for record in two]
    for first, second in zip(one, two, strict=True):
        assert first.keys() == second.keys()
        for what in {"loss", "gradient_norm", "heldout_loss"} & first.keys():
            assert first.get(what) == pytest.approx(second.get(what), rel=1e-3), (first["step"], what)
        for name, row in first.get("loss_by_level", {}).items():
            assert row == pytest.approx(second["loss_by_level"][name], rel=1e-3)
    weights = [last(run)[0] for run in runs]
    for name, value in weights[0].items():
        assert torch.allclose(value, weights[1][name], atol=2e-3), name
    assert all((run / "samples" / "step-00000008.png").is_file() for run in runs)


def test_checkpoints_move_between_numbers_of_processes(pictures: Path, whole: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    main, other = together(2, DDP_AT_THE_END + WAVDIFF, *command(pictures, moved, "--max-steps", "3"))
    assert main.code == other.code == 0 and "limit reached after step 3" in main.err, (main, other)
    assert "DDP left: 0" in main.out and "DDP left: 0" in other.out  # else, now and then, they wait for ever
    done = Fresh(WAVDIFF, *command(pictures, moved), ACCELERATE_USE_CPU="true").end()
    assert done.code == 0, done.err
    for first, second in zip(*(read_stats(run / "stats.jsonl") for run in (moved, whole)), strict=True):
        assert first.keys() == second.keys()
        for what in {"loss", "heldout_loss"} & first.keys():
            assert first.get(what) == pytest.approx(second.get(what), rel=1e-3), (first["step"], what)
    state = last(moved)[3]
    assert state["step"] == 8 and state["trained"] == {"low": 5, "1": 8, "0": 8}


def test_a_batch_that_processes_cannot_share_is_refused_by_all(pictures: Path, tmp_path: Path) -> None:
    done = together(2, WAVDIFF, *command(pictures, tmp_path / "run", "--set", "training.batch_size=3"))
    assert all(process.code for process in done)
    said = "".join(process.err for process in done)
    assert "training.batch_size 3 is not divisible by accumulation x processes = 2" in said
    assert not (tmp_path / "run").exists()
