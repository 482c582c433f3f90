"""Training over processes means the same as in one; checkpoints move between numbers of processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from conftest import TINY
from test_training import last

from wavdiff.training.records import read_stats

pytestmark = pytest.mark.slow

CHANGES = {"log_every": 1, "steps": 8, "precision": "float32", "checkpoint_every": 3, "evaluate_every": 4}


def train(pictures: Path, out: Path, processes: int, *options: str) -> subprocess.CompletedProcess[str]:
    """`accelerate launch ... wavdiff train` on the CPU; the low-pass network ends earlier than the others."""
    config = out.parent / "config.yaml"
    training = TINY["training"] | CHANGES | {"scale_steps": {"low": 5}}
    config.write_text(yaml.safe_dump(TINY | {"training": training}))
    launch = ["accelerate.commands.launch", *(["--multi_gpu"] if processes > 1 else ["--cpu"])]
    launch += ["--num_processes", str(processes), "--num_machines", "1"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    command = ["-m", "wavdiff.cli", "train", "--data", str(pictures), "--config", str(config), "--out", str(out)]
    return subprocess.run(
        [sys.executable, "-m", *launch, *command, *options],
        capture_output=True,
        text=True,
        timeout=400,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
    )


def test_one_and_two_processes_train_the_same(pictures: Path, tmp_path: Path) -> None:
    for processes in (1, 2):
        done = train(pictures, tmp_path / str(processes), processes)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("Model:") == 1  # only the main process speaks
    one, two = (read_stats(tmp_path / name / "stats.jsonl") for name in ("1", "2"))
    assert [record["step"] for record in one] == [record["step"] for record in two]
    for first, second in zip(one, two, strict=True):
        assert first.keys() == second.keys()
        for what in {"loss", "gradient_norm", "heldout_loss"} & first.keys():
            assert first.get(what) == pytest.approx(second.get(what), rel=1e-3), (first["step"], what)
        for name, row in first.get("loss_by_level", {}).items():
            assert row == pytest.approx(second["loss_by_level"][name], rel=1e-3)
    weights = [last(tmp_path / name)[0] for name in ("1", "2")]
    for name, value in weights[0].items():
        assert torch.allclose(value, weights[1][name], atol=2e-3), name
    sheets = [(tmp_path / name / "samples" / "step-00000008.png") for name in ("1", "2")]
    assert all(sheet.is_file() for sheet in sheets)


def test_checkpoints_move_between_numbers_of_processes(pictures: Path, tmp_path: Path) -> None:
    done = train(pictures, tmp_path / "moved", 2, "--max-steps", "3")
    assert done.returncode == 0 and "limit reached after step 3" in done.stderr, done.stderr
    done = train(pictures, tmp_path / "moved", 1)
    assert done.returncode == 0, done.stderr
    done = train(pictures, tmp_path / "whole", 1)
    assert done.returncode == 0, done.stderr
    moved, whole = (read_stats(tmp_path / name / "stats.jsonl") for name in ("moved", "whole"))
    for first, second in zip(moved, whole, strict=True):
        assert first.keys() == second.keys()
        for what in {"loss", "heldout_loss"} & first.keys():
            assert first.get(what) == pytest.approx(second.get(what), rel=1e-3), (first["step"], what)
    state = last(tmp_path / "moved")[3]
    assert state["step"] == 8 and state["trained"] == {"low": 5, "1": 8, "0": 8}


def test_a_batch_that_processes_cannot_share_is_refused_by_all(pictures: Path, tmp_path: Path) -> None:
    done = train(pictures, tmp_path / "run", 2, "--set", "training.batch_size=3")
    assert done.returncode != 0
    assert "training.batch_size 3 is not divisible by accumulation x processes = 2" in done.stderr
    assert not (tmp_path / "run").exists()
