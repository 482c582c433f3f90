"""Scales trained apart are joined; one scale of a finished cascade is trained further; a run says where it stands."""

import json
import os
import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fresh_processes import Fresh
from safetensors.torch import load_file
from test_training import changed, last, load_weights, tiny

from wavdiff.models.cascade.saved import load_cascade
from wavdiff.models.cascade.training.assembling import assemble, open_part
from wavdiff.models.heldout_names import headline, mean_loss, mean_losses
from wavdiff.system.errors import WavdiffError
from wavdiff.training.records import LEVEL_NAMES, last_heldout, level_class
from wavdiff.training.status import duration, read_status, status_table
from wavdiff.training.status_plot import status_plot
from wavdiff.training.trainer import Trainer

# --- assembling ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def apart(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The low-pass network, and the detail networks of another size, trained in two folders; and a run of all."""
    folder = tmp_path_factory.mktemp("apart")
    runs = {"low": (["low"], ()), "details": (["1", "0"], ("model.details.width=16",)), "all": (None, ())}
    for name, (scales, changes) in runs.items():
        Trainer(tiny(pictures, "training.steps=2", *changes), folder / name, scales).run()
    return {name: folder / name for name in runs}


def test_scales_trained_apart_become_one_model(apart: dict[str, Path], tmp_path: Path, cli: Callable[..., Any]) -> None:
    outcome = cli("assemble", apart["low"], apart["details"], "--out", tmp_path / "model")
    assert outcome.code == 0, outcome.err
    joined = load_weights(tmp_path / "model")
    for name, value in joined.items():
        owner = apart["low" if name.startswith("lowpass") else "details"]
        assert torch.equal(value, load_weights(owner / "model")[name]), name
    cascade = load_cascade(tmp_path / "model")
    assert cascade.config["detail_networks"][0]["width"] == 16
    record = json.loads((tmp_path / "model" / "training.json").read_text())
    assert record["trained"] == {"low": 2, "1": 2, "0": 2}
    card = (tmp_path / "model" / "README.md").read_text()
    assert "| low | low | 2 |" in card and "| 0 | details | 2 |" in card
    outcome = cli("sample", "--model", tmp_path / "model", "--n", 2, "--out", tmp_path / "samples")
    assert outcome.code == 0, outcome.err


def test_the_same_scale_is_taken_from_the_one_that_is_named(apart: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(WavdiffError, match="both trained scale low; write FOLDER:low for"):
        assemble([open_part(str(apart["low"])), open_part(str(apart["all"]))], tmp_path / "model")
    parts = [open_part(f"{apart['low']}:low"), open_part(f"{apart['all']}:1,0")]
    assert assemble(parts, tmp_path / "model") == {"low": parts[0].given, "1": parts[1].given, "0": parts[1].given}


def test_an_assembled_model_knows_the_noise_that_all_its_scales_know(apart: dict[str, Path], tmp_path: Path) -> None:
    weaker = tmp_path / "weaker"
    shutil.copytree(apart["details"] / "model", weaker)
    config = json.loads((weaker / "cascade" / "config.json").read_text())
    (weaker / "cascade" / "config.json").write_text(json.dumps(config | {"noise_max": 0.25}))
    assert load_cascade(apart["low"]).noise_max == 0.7
    assemble([open_part(str(apart["low"])), open_part(f"{weaker}:1,0")], tmp_path / "model")
    assert load_cascade(tmp_path / "model").noise_max == 0.25


@pytest.mark.slow
def test_parts_that_do_not_fit_are_refused(apart: dict[str, Path], pictures: Path, tmp_path: Path) -> None:
    other = tmp_path / "other data"
    shutil.copytree(pictures, other)
    shutil.copy(other / "00.png", other / "another.png")
    runs = {
        "wavelet": tiny(pictures, "training.steps=1", "model.wavelet=db2"),
        "levels": tiny(pictures, "training.steps=1", "model.levels=1"),
        "image_size": tiny(pictures, "training.steps=1", "model.image_size=[32,32]"),
        "rms of scale low": tiny(other, "training.steps=1"),
    }
    for number, (what, config) in enumerate(runs.items()):
        Trainer(config, tmp_path / str(number), ["0"]).run()
        with pytest.raises(WavdiffError, match=f"differ in {what}"):
            assemble([open_part(str(apart["low"])), open_part(f"{tmp_path / str(number)}:0")], tmp_path / "model")
    with pytest.raises(WavdiffError, match="none of the parts trained scale 1"):
        assemble([open_part(str(apart["low"])), open_part(f"{apart['all']}:0")], tmp_path / "model")
    with pytest.raises(WavdiffError, match="scale '7' is not one of low, 1, 0"):
        open_part(f"{apart['all']}:7")
    assert not (tmp_path / "model").exists()


def test_nothing_is_replaced_by_accident(apart: dict[str, Path], tmp_path: Path) -> None:
    parts = [open_part(str(apart["all"]))]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(WavdiffError, match="exists|is not a model"):
            assemble(parts, tmp_path / "mine", overwrite)
    with pytest.raises(WavdiffError, match="one of the parts"):
        assemble(parts, apart["all"] / "model", overwrite=True)
    assemble(parts, tmp_path / "model")
    with pytest.raises(WavdiffError, match="exists"):
        assemble(parts, tmp_path / "model")
    assemble(parts, tmp_path / "model", overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


# --- fine-tuning -----------------------------------------------------------------------------------------------------


def test_one_scale_of_a_finished_cascade_learns_other_data(
    apart: dict[str, Path], pictures: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(pictures / "deeper", other)
    before = load_file(apart["all"] / "model" / "cascade" / "diffusion_pytorch_model.safetensors")
    config = tiny(other, "training.steps=2", f"training.init={apart['all']}")
    trainer = Trainer(config, tmp_path / "tuned", ["0"])
    assert "low" in trainer.family.ready and "1" in trainer.family.ready
    trainer.run()
    after = load_weights(tmp_path / "tuned" / "model")
    assert changed(before, after) == {"0"}
    given = json.loads((apart["all"] / "run.json").read_text())
    tuned = json.loads((tmp_path / "tuned" / "run.json").read_text())
    assert given["lowpass_std"] == tuned["lowpass_std"] and given["detail_stds"] == tuned["detail_stds"]


# --- status ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_says_where_it_stands(pictures: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    config = tiny(pictures, "training.evaluate_every=2", "training.scale_steps.low=3")
    Trainer(config, tmp_path, max_steps=4).run()
    outcome = cli("train", "--status", tmp_path)
    assert outcome.code == 0, outcome.err
    for text in ("stopped; rerun to continue", "checkpoint of step 4", "3 / 3", "4 / 6", "images/s", "best: step"):
        assert text in outcome.out, text
    assert "loss by standardised noise level" in outcome.out and "held-out PSNR" in outcome.out
    assert (tmp_path / "status.png").is_file()
    Trainer(config, tmp_path).run()
    assert "finished, checkpoint of step 6" in status_table(read_status(tmp_path))
    broken = tmp_path / "checkpoints" / "step-00000006" / "ema.safetensors"
    broken.write_bytes(b"")
    status = read_status(tmp_path)
    assert status.step == 4 and "ema.safetensors is damaged" in status_table(status)


def test_records_of_earlier_versions_are_read_by_flat_names(tmp_path: Path) -> None:
    """Until 0.5.0 held-out numbers were nested tables, PSNR before and after in pairs."""
    low, finest = {"25": [20.0, 25.5]}, {"25": [20.0, 30.0]}
    heldout = {"psnr": {"low": low, "0": finest}, "loss": {"low": {"0.5": 0.25, "1": 0.75}}}
    (tmp_path / "stats.jsonl").write_text(json.dumps({"step": 2, "heldout": heldout}) + "\n")
    record = last_heldout(tmp_path / "stats.jsonl")
    assert record is not None and record["heldout"] == {
        "psnr_in/low@25": 20.0, "psnr/low@25": 25.5, "psnr_in/0@25": 20.0, "psnr/0@25": 30.0,
        "loss/low@0.5": 0.25, "loss/low@1": 0.75,
    }  # fmt: skip
    assert headline(record["heldout"], "->")[1] == "25: 20.00 -> 30.00"
    assert mean_losses(record["heldout"]) == {"low": 0.5} and mean_loss(record["heldout"], ["low", "0"]) == 0.5


def test_a_folder_without_a_run_is_named(tmp_path: Path, cli: Callable[..., Any]) -> None:
    outcome = cli("train", "--status", tmp_path)
    assert outcome.code == 1 and f"--status {tmp_path}: holds no run" in outcome.err


def test_a_run_without_records_has_a_table(pictures: Path, tmp_path: Path) -> None:
    Trainer(tiny(pictures, "training.log_every=100"), tmp_path, max_steps=1).run()
    (tmp_path / "stats.jsonl").unlink(missing_ok=True)
    status = read_status(tmp_path)
    assert "1 / 6" in status_table(status) and not status_plot(status, tmp_path / "plot.png")


@pytest.mark.parametrize(
    "seconds, text", [(5, "5 s"), (65, "1 min"), (3600, "1 h 00 min"), (11159, "3 h 05 min"), (7e6, "81 days")]
)
def test_durations_are_written_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_losses_are_sorted_by_noise_level(pictures: Path, tmp_path: Path) -> None:
    assert [LEVEL_NAMES[level_class(level)] for level in (0.01, 0.05, 0.3, 1.0, 80.0)] == [
        "<0.05",
        "0.05-0.1",
        "0.2-0.5",
        "1-2",
        ">10",
    ]
    records: list[dict[str, Any]] = []
    trainer = Trainer(tiny(pictures, "training.log_every=1"), tmp_path, report=records.append)
    trainer.run()
    state = last(tmp_path)[3]
    assert state["recent"]["steps"] == 0
    for record in records:
        for name, row in record["loss_by_level"].items():
            assert set(row) <= set(LEVEL_NAMES)
            assert min(row.values()) <= record["loss"][name] <= max(row.values())


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator only")
def test_freed_memory_stays_in_the_process() -> None:
    """Resident memory after 64 MB were freed, with and without."""
    code = (
        "import sys, torch\n"
        "from wavdiff.system.allocator import keep_freed_memory\n"
        "assert sys.argv[1] == 'no' or keep_freed_memory()\n"
        "def resident(): return int(open('/proc/self/statm').read().split()[1]) * 4096 / 2**20\n"
        "block = torch.ones(16 * 2**20)\n"
        "full = resident(); del block\n"
        "print(full - resident())"
    )
    assert float(Fresh(code, "no").end().out) > 60
    assert float(Fresh(code, "yes").end().out) < 4


def test_curves_and_grids_go_to_tensorboard(pictures: Path, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    config = tiny(pictures, "training.evaluate_every=3", "training.sample_every=3", "training.steps=6")
    Trainer(config, tmp_path, max_steps=4).run()
    Trainer(config, tmp_path).run()  # its events lie in a second file of the same folder
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    for name in ("loss/low", "gradient_norm/0", "loss_by_level/1/0.5-1", "heldout/psnr/0@25", "heldout_loss"):
        assert name in tags["scalars"], name
    assert [event.step for event in events.Scalars("loss/low")] == [2, 4, 6]
    assert [event.step for event in events.Images(tags["images"][0])] == [3, 6]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None and shutil.which("g++") is None, reason="no C++ compiler")
def test_compiled_networks_learn_the_same(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "ATEN_CPU_CAPABILITY" in os.environ:  # torch's cache does not know of it, and holds code for the real processor
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    losses = {}
    for compiled in ("false", "true"):
        small = ("model.details.depth=2", "model.details.receptive_field=3", "model.details.width=4")
        config = tiny(pictures, "training.steps=2", "training.log_every=1", f"training.compile={compiled}", *small)
        records: list[dict[str, Any]] = []
        Trainer(config, tmp_path / compiled, ["1"], report=records.append).run()
        losses[compiled] = [record["loss"]["1"] for record in records]
    assert losses["true"] == pytest.approx(losses["false"], rel=1e-4)
    names = load_weights(tmp_path / "true" / "model").keys()
    assert names == load_weights(tmp_path / "false" / "model").keys()
