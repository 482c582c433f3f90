"""What version 0.5.0 wrote is read, continued and repeated by today's code; README.md beside says how it was made."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from blind_models import saved
from conftest import Outcome, scene
from safetensors.torch import load_file, save
from torch import Tensor

from wavdiff import api
from wavdiff.models.heldout_names import table_of

OLD = Path(__file__).parent
Cli = Callable[..., Outcome]
MEANS, DRAWS = 1e-5, 5e-5
"""Largest differences in float32, for pixels in [-1, 1]; a draw carries rounding through many steps.

The same code with other kernels (AVX-512, AVX2, SSE4.1) differs by 6e-7 in the means and 7e-6 in the draws.
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of everything, as the working folder: the old commands named relative places."""
    shutil.copytree(OLD, tmp_path / "old")
    fill(tmp_path / "old" / "edm" / "checkpoints" / "step-00000004")
    monkeypatch.chdir(tmp_path / "old")
    return tmp_path / "old"


def fill(checkpoint: Path) -> None:
    """Tensors of the names and shapes that are kept, each a function of its name, with the checksums of 0.5.0."""
    shapes = json.loads((checkpoint / "shapes.json").read_text())
    weights = {name: chance(name, shape) for name, shape in shapes.items()}
    moments = {}
    for name, shape in shapes.items():
        moments |= {f"{name}:exp_avg": chance(f"{name}:exp_avg", shape), f"{name}:step": torch.tensor(4.0)}
        moments[f"{name}:exp_avg_sq"] = chance(f"{name}:exp_avg_sq", shape).square()
    state = json.loads((checkpoint / "state.json").read_text())
    for file, tensors in (("weights", weights), ("ema", weights), ("optimizer", moments)):
        content = save(tensors)
        (checkpoint / f"{file}.safetensors").write_bytes(content)
        state["sha256"][f"{file}.safetensors"] = hashlib.sha256(content).hexdigest()
    state["sha256"]["state.json"] = hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
    (checkpoint / "state.json").write_text(json.dumps(state))


def chance(name: str, shape: list[int]) -> Tensor:
    values = np.random.default_rng(list(name.encode())).normal(size=shape)
    return torch.from_numpy(values.astype(np.float32)) * 0.05


def records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["blind", "edm"])
def test_a_run_continues_as_it_would_have_and_its_model_draws(here: Path, cli: Cli, name: str) -> None:
    run, before = here / name, records(here / name)
    done = cli("train", "--data", "pictures", "--config", f"{name}.yaml", "--out", name)
    assert done.code == 0, done.err
    assert "steps 4 to 6" in done.err
    after = records(run)
    assert after[: len(before)] == before
    wanted = json.loads((here / "ended.json").read_text())[name]
    assert after[-2]["step"] == after[-1]["step"] == 6
    assert after[-2]["loss"] == pytest.approx(wanted["loss"], rel=1e-3)
    for scale, losses in wanted["heldout"].items():
        assert table_of(after[-1]["heldout"], "loss")[scale] == pytest.approx(losses, rel=1e-3)
    assert after[-1]["best"]["step"] == wanted["best"]
    drawn = api.sample(api.load(run / "model"), n=2, seed=1)
    assert drawn.shape == (2, 1, 16, 16) and drawn.isfinite().all()


def test_the_status_of_a_run_is_read(here: Path, cli: Cli) -> None:
    status = cli("train", "--status", "blind")
    assert status.code == 0, status.err
    assert "stopped; rerun to continue, checkpoint of step 4" in status.out
    assert "checkpoints/step-00000003" in status.out  # the best one
    for scale in ("low", "1", "0"):
        assert any(line.split()[:4] == [scale, "4", "/", "6"] for line in status.out.splitlines()), status.out


def test_an_ended_run_is_left_as_it_is(here: Path, cli: Cli) -> None:
    """The run of 0.5.0 as it stands at step 4, when that is all that was asked for."""
    model = (here / "blind" / "model" / "cascade" / "diffusion_pytorch_model.safetensors").read_bytes()
    done = cli("train", "--data", "pictures", "--config", "blind.yaml", "--out", "blind", "--steps", 4)
    assert done.code == 0, done.err
    assert len(records(here / "blind")) == len(records(OLD / "blind"))
    assert (here / "blind" / "model" / "cascade" / "diffusion_pytorch_model.safetensors").read_bytes() == model


# --- models -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder, size", [("blind/model", (16, 16)), ("published", (160, 160))])
def test_a_model_folder_loads_and_is_written_alike(folder: str, size: tuple[int, int], tmp_path: Path) -> None:
    cascade = api.load(OLD / folder)
    assert cascade.image_size == size
    weights = "cascade/diffusion_pytorch_model.safetensors"
    old, new = load_file(OLD / folder / weights), load_file(saved(cascade, tmp_path / "new") / weights)
    assert old.keys() == new.keys() and all(torch.equal(old[name], new[name]) for name in old)
    grainy = noisy(16, 20, 1, 0, 0.1)
    restored = api.denoise(grainy, 0.1, model=cascade)
    assert restored.shape == grainy.shape and restored.isfinite().all()


# --- draws ------------------------------------------------------------------------------------------------------------


def test_a_folder_of_other_draws_is_not_continued(here: Path, cli: Cli) -> None:
    """Draws changed in their last bits after 0.5.0: the folder says so, and is never mixed unknowingly."""
    folder = here / "sample"
    old = {path.name: path.read_bytes() for path in folder.iterdir()}
    done = cli("sample", "--model", "blind/model", "--n", 5, "--seed", 5, "--out", "sample")
    assert done.code == 1 and len(done.err.strip().splitlines()) == 1
    assert "drawing" in done.err and "--overwrite" in done.err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == old
    again = cli("sample", "--model", "blind/model", "--n", 5, "--seed", 5, "--out", "sample", "--overwrite")
    assert again.code == 0, again.err
    assert json.loads((folder / "sample.json").read_text())["draws"]["drawing"] == 2


# --- the shipped models -----------------------------------------------------------------------------------------------


def noisy(height: int, width: int, channels: int, seed: int, sigma: float) -> Tensor:
    """A picture in [-1, 1], (C, H, W), with noise of `sigma` in units of [0, 1]."""
    plane = scene(height, width, seed, channels).astype(np.float32) / 255
    clean = np.moveaxis(plane.reshape(height, width, channels), -1, 0)
    noise = np.random.default_rng(seed).normal(size=clean.shape).astype(np.float32)
    return torch.from_numpy(2 * (clean + np.float32(sigma) * noise) - 1)


def answers() -> dict[str, Tensor]:
    """What the shipped models give in float32."""
    faces, fashion, photos = models = [api.load(name) for name in ("faces", "fashion", "photos")]
    for model in models:
        model.autocast = False
    grainy, small = noisy(40, 56, 3, 1, 25 / 255), noisy(20, 28, 3, 2, 0.0)
    draw: dict[str, Any] = {"mode": "sample", "seed": 5, "steps": 4, "solver": "dpm"}
    return {
        "sample faces": api.sample(faces, n=1, seed=3),
        "sample fashion": api.sample(fashion, n=1, seed=3),
        "denoise photos": api.denoise(grainy, 25 / 255, model=photos),
        "denoise faces": api.denoise(noisy(64, 64, 1, 3, 0.1), 0.1, model=faces),
        "upscale photos": api.upscale(small, 2, model=photos),
        "upscale photos, drawn": api.upscale(small, 2, model=photos, **draw),
        "upscale fashion": api.upscale(noisy(16, 16, 1, 4, 0.0), 2, model=fashion),
    }


@pytest.mark.isa
def test_the_shipped_models_give_what_they_gave() -> None:
    found, wanted = answers(), load_file(OLD / "golden.safetensors")
    assert found.keys() == wanted.keys()
    for name, old in wanted.items():
        difference = (found[name] - old).abs().max().item()
        print(f"{name}: {difference:.1e}")
        assert difference <= (DRAWS if "sample" in name or "drawn" in name else MEANS), name
