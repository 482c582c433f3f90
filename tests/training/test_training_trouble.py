"""What a training survives: kills, damaged and full disks, losses that are not finite, signals, changed data."""

import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import TINY
from fresh_processes import WAVDIFF, Fresh
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from test_training import assert_same_run, assert_same_tensors, last, load_weights, tiny

from wavdiff.models.cascade import family as export
from wavdiff.models.cascade.training.objective import CascadeObjective
from wavdiff.system.errors import WavdiffError
from wavdiff.system.lock import folder_lock, is_locked
from wavdiff.training import checkpoints
from wavdiff.training.checkpoints import list_checkpoints, load_newest
from wavdiff.training.records import read_stats
from wavdiff.training.trainer import Trainer

pytestmark = pytest.mark.slow

# --- killed ----------------------------------------------------------------------------------------------------------

SETTINGS = (
    "training.steps=7",
    "training.log_every=2",
    "training.checkpoint_every=2",
    "training.evaluate_every=3",
    "training.sample_every=4",
    "model.details.dropout=0.2",
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """A forked process hangs in the thread pool of its parent, and other numbers of threads round differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def in_child(work: Callable[[], None]) -> int | None:
    """Run `work` in a forked process; returns its exit code, negative for the number of a signal."""
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(300)
    if child.exitcode is None:
        child.kill()
    return child.exitcode


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def nth(function: Callable[..., Any], number: int) -> Callable[..., Any]:
    """The function, but its call of this number kills the process instead."""
    count = 0

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count == number:
            kill_self()
        return function(*arguments, **options)

    return counted


@pytest.fixture(scope="module")
def whole(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run with evaluations, grids and checkpoints at different steps."""
    folder = tmp_path_factory.mktemp("whole")
    Trainer(tiny(pictures, *SETTINGS), folder).run()
    return folder


@pytest.mark.parametrize("place", ["fsync", "replace", "rmtree", "_sample", "_evaluate", "_write_model", "step"])
@pytest.mark.parametrize("number", [1, 4])
def test_a_run_killed_in_the_middle_of_anything_ends_the_same(
    pictures: Path, tmp_path: Path, whole: Path, place: str, number: int
) -> None:
    config = tiny(pictures, *SETTINGS)

    def work() -> None:
        from wavdiff.training import saving, step

        targets: dict[str, Any] = {
            "fsync": os,
            "replace": os,
            "rmtree": shutil,
            "_write_model": saving.Saver,
            "_sample": Trainer,
            "_evaluate": Trainer,
            "step": step.Learner,
        }
        owner = targets[place]
        setattr(owner, place, nth(getattr(owner, place), number))
        Trainer(config, tmp_path).run()

    code = in_child(work)
    assert code == -signal.SIGKILL or (code == 0 and number == 4), code
    Trainer(config, tmp_path).run()
    assert_same_run(whole, tmp_path)
    assert not list(tmp_path.rglob(".unfinished*")) and not list(tmp_path.rglob(".replaced*"))


@pytest.mark.parametrize(
    "settings",
    [("data.workers=2",), ("training.accumulation=2",), ("training.precision=bf16",), ("training.export=best",)],
)
def test_settings_do_not_change_what_resuming_means(pictures: Path, tmp_path: Path, settings: tuple[str, ...]) -> None:
    config = tiny(pictures, *SETTINGS, *settings)
    Trainer(config, tmp_path / "whole").run()
    parts = tmp_path / "parts"
    for _ in range(3):
        trainer = Trainer(config, parts, max_steps=3)
        trainer.run()
    assert trainer.stopped is None and not Trainer(config, parts).active
    assert_same_run(tmp_path / "whole", parts)


# --- checkpoints -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", checkpoints.FILES)
def test_the_checkpoint_before_a_damaged_one_is_used(pictures: Path, tmp_path: Path, whole: Path, name: str) -> None:
    config = tiny(pictures, *SETTINGS)
    Trainer(config, tmp_path, max_steps=6).run()
    damaged = list_checkpoints(tmp_path / "checkpoints")[-1] / name
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    with pytest.warns(UserWarning, match=f"step-00000006/{name} is damaged.*the one before is used"):
        trainer = Trainer(config, tmp_path)
    assert trainer.state.step == 4
    trainer.run()
    assert_same_run(whole, tmp_path)


@pytest.mark.parametrize("name", checkpoints.FILES)
def test_a_checkpoint_with_a_missing_file_is_damaged_not_absent(pictures: Path, tmp_path: Path, name: str) -> None:
    config = tiny(pictures, *SETTINGS)
    Trainer(config, tmp_path, max_steps=2).run()
    only = checkpoints.checkpoint_folders(tmp_path / "checkpoints")[-1]
    (only / name).unlink()
    with pytest.raises(WavdiffError, match=f"step-00000002/{name} is damaged.*no older checkpoint is whole"):
        Trainer(config, tmp_path)
    assert only.is_dir() and read_stats(tmp_path / "stats.jsonl")


def test_what_was_trained_after_damaged_checkpoints_is_kept(pictures: Path, tmp_path: Path) -> None:
    config = tiny(pictures, "training.steps=9", "training.checkpoint_every=1", "training.keep_checkpoints=3")
    Trainer(config, tmp_path, max_steps=7).run()
    for number in (6, 7):
        (tmp_path / "checkpoints" / f"step-{number:08d}" / "ema.safetensors").write_bytes(b"")
    with pytest.warns(UserWarning, match="the one before is used"):
        trainer = Trainer(config, tmp_path, max_steps=1)
    trainer.run()
    kept = [path.name for path in checkpoints.checkpoint_folders(tmp_path / "checkpoints")]
    assert kept == ["step-00000005", "step-00000006"]
    assert Trainer(config, tmp_path).state.step == 6


def test_a_checkpoint_that_was_being_replaced_comes_back(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(pictures, *SETTINGS)
    Trainer(config, tmp_path, max_steps=2).run()
    folder = tmp_path / "checkpoints"
    step = folder / "step-00000002"
    step.rename(folder / ".replaced-step-00000002")  # killed between the two renames
    assert Trainer(config, tmp_path).state.step == 2 and step.is_dir()
    whole = checkpoints.load_checkpoint(step)
    replace = os.replace

    def failing(source: Any, target: Any) -> None:
        if Path(source).name.startswith(".unfinished"):
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(WavdiffError, match="No space left on device.*kept as they were: step-00000002"):
        checkpoints.save_checkpoint(folder, 2, whole, 1)
    monkeypatch.undo()
    assert [path.name for path in folder.iterdir()] == ["step-00000002"]


def test_a_model_that_cannot_be_written_stops_no_training(
    pictures: Path, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(pictures, *SETTINGS)
    calls = 0
    save_model = export.save_model

    def failing(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        save_model(*arguments)

    monkeypatch.setattr(export, "save_model", failing)
    with pytest.warns(UserWarning, match="model .* cannot be written .*No space left.*training goes on"):
        Trainer(config, tmp_path).run()
    assert_same_run(whole, tmp_path)


def test_a_run_that_went_on_meanwhile_is_not_trained_twice(pictures: Path, tmp_path: Path) -> None:
    config = tiny(pictures, *SETTINGS)
    late = Trainer(config, tmp_path)
    Trainer(config, tmp_path, max_steps=2).run()
    with pytest.raises(WavdiffError, match="another process has trained here meanwhile"):
        late.run()
    assert last(tmp_path)[3]["step"] == 2


def test_the_lock_is_not_held_by_children(tmp_path: Path) -> None:
    with folder_lock(tmp_path):
        assert is_locked(tmp_path)
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(30,))
        child.start()
    try:
        assert not is_locked(tmp_path)
    finally:
        child.kill()


def test_an_error_in_a_data_worker_is_one_line_and_saves(pictures: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(pictures, data)
    config = tiny(data, "data.crop=14", "data.workers=1", "training.steps=40", "training.checkpoint_every=100")
    trainer = Trainer(config, tmp_path / "run")
    victim = data / trainer.train_source.label(3)  # type: ignore[union-attr]
    Image.new("L", (8, 8)).save(victim)
    with pytest.raises(WavdiffError) as caught:
        trainer.run()
    assert "crop" in str(caught.value) and victim.name in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1 and "Traceback" not in str(caught.value)
    assert not multiprocessing.active_children()  # although `caught` keeps the frames, and so the loader, alive


def test_the_newest_and_the_best_checkpoint_stay(pictures: Path, tmp_path: Path, monkeypatch: Any) -> None:
    values = iter([0.5, 0.2, 0.4, 0.3, 0.6])
    monkeypatch.setattr("wavdiff.training.trainer.mean_loss", lambda numbers, scales: next(values))
    config = tiny(
        pictures, "training.steps=5", "training.evaluate_every=1", "training.checkpoint_every=1", "training.export=best"
    )
    Trainer(config, tmp_path).run()
    kept = [path.name for path in list_checkpoints(tmp_path / "checkpoints")]
    assert kept == ["step-00000002", "step-00000004", "step-00000005"]
    assert last(tmp_path)[3]["best"] == {"step": 2, "heldout_loss": 0.2, "scales": ["low", "1", "0"]}
    best = load_file(tmp_path / "checkpoints" / "step-00000002" / "ema.safetensors")
    model = load_weights(tmp_path / "model")
    for name, value in best.items():
        assert torch.equal(value, model[name]), name


def test_a_checkpoint_of_version_1_is_read(pictures: Path, tmp_path: Path, whole: Path) -> None:
    config = tiny(pictures, *SETTINGS)
    Trainer(config, tmp_path, max_steps=4).run()
    for folder in list_checkpoints(tmp_path / "checkpoints"):
        state = json.loads((folder / "state.json").read_text())
        state = {key: state[key] for key in ("step", "trained", "images_seen", "seconds")} | {"recent": []}
        (folder / "state.json").write_text(json.dumps(state))
    Trainer(config, tmp_path).run()
    for ours, theirs in zip(last(whole)[:3], last(tmp_path)[:3], strict=True):
        assert_same_tensors(ours, theirs)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"version": 3}, "has version 3; this wavdiff reads 1 and 2"),
        ({"step": -1}, "damaged"),
        ({"trained": {"low": "6"}}, "damaged"),
        ({"images_seen": True}, "damaged"),
        ({"step": 5}, "its numbers are not those of"),
    ],
)
def test_a_state_that_cannot_be_is_refused(
    pictures: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    Trainer(tiny(pictures, "training.steps=1"), tmp_path).run()
    path = list_checkpoints(tmp_path / "checkpoints")[-1] / "state.json"
    state = json.loads(path.read_text()) | change
    state["sha256"]["state.json"] = checkpoints._state_digest(state)
    path.write_text(json.dumps(state))
    with pytest.raises(WavdiffError, match=message):
        load_newest(tmp_path / "checkpoints")


def test_a_checkpoint_of_other_shapes_is_named(pictures: Path, tmp_path: Path) -> None:
    config = tiny(pictures, "training.steps=1")
    Trainer(config, tmp_path).run()
    folder = list_checkpoints(tmp_path / "checkpoints")[-1]
    state = json.loads((folder / "state.json").read_text())
    state = {key: state[key] for key in checkpoints.STATE}  # version 1: no checksums
    (folder / "state.json").write_text(json.dumps(state))
    save_file({"details.0.network.stem.weight": torch.zeros(1)}, folder / "weights.safetensors")
    with pytest.raises(WavdiffError, match="step-00000001 does not fit this model"):
        Trainer(config, tmp_path)


def test_no_damage_to_the_files_of_a_run_is_more_than_a_message(pictures: Path, tmp_path: Path) -> None:
    """Flipped, cut and exchanged bytes in every file that resuming reads: an error that names it, or the older one."""
    config = tiny(pictures, "training.steps=2", "training.checkpoint_every=1")
    Trainer(config, tmp_path / "run").run()
    files = [path for path in (tmp_path / "run").rglob("*") if path.suffix in (".json", ".safetensors", ".jsonl")]
    files = [path for path in files if "model" not in path.parts]
    chance = random.Random(0)
    tried = 0
    for path in files:
        original = path.read_bytes()
        for _ in range(5):
            content = bytearray(original)
            place = chance.randrange(len(content))
            kind = chance.randrange(4)
            if kind == 0:
                content[place] ^= 1 << chance.randrange(8)
            elif kind == 1:
                del content[place:]
            elif kind == 2:
                content[place:place] = bytes(chance.randrange(256) for _ in range(9))
            else:
                content = bytearray(b"[" * 100_000)
            path.write_bytes(content)
            tried += 1
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    trainer = Trainer(config, tmp_path / "run")
                    assert trainer.state.step in (1, 2) and all(
                        bool(value.isfinite().all()) for value in trainer.model.state_dict().values()
                    )
                except WavdiffError as error:
                    assert len(str(error).splitlines()) <= 2 and str(tmp_path / "run") in str(error)
        path.write_bytes(original)
    assert tried == 5 * len(files) >= 50


def limited(size: int) -> None:
    """No file of this process may become larger (what a full disk does, too: the write fails)."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_disk_that_is_full_leaves_the_old_checkpoints_and_says_so(
    pictures: Path, tmp_path: Path, whole: Path
) -> None:
    config = tiny(pictures, *SETTINGS)
    Trainer(config, tmp_path, max_steps=2).run()
    before = {path: path.read_bytes() for path in (tmp_path / "checkpoints").rglob("*") if path.is_file()}

    def work() -> None:
        limited(4000)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            try:
                Trainer(config, tmp_path).run()
            except WavdiffError as error:
                said = [str(warning.message) for warning in seen]
                passed = any("training goes on" in text and "File too large" in text for text in said)
                passed = passed and "kept as they were: step-00000002" in str(error)
                os._exit(0 if passed else 2)
        os._exit(3)

    assert in_child(work) == 0
    for path, content in before.items():
        assert path.read_bytes() == content
    assert not list(tmp_path.rglob(".unfinished*"))
    Trainer(config, tmp_path).run()
    assert_same_run(whole, tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_that_may_not_be_written_is_named(pictures: Path, tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    with pytest.raises((WavdiffError, OSError), match="locked"):
        Trainer(tiny(pictures), folder).run()


def test_two_trainings_do_not_share_a_folder(pictures: Path, tmp_path: Path) -> None:
    trainer = Trainer(tiny(pictures), tmp_path)
    with folder_lock(tmp_path), pytest.raises(WavdiffError, match="another process is training in this folder"):
        trainer.run()
    trainer.run()


# --- losses that are not finite --------------------------------------------------------------------------------------


def poison(
    monkeypatch: pytest.MonkeyPatch, scale: str, calls: set[int], factor: float = float("nan"), hook: bool = False
) -> None:
    """Make the loss of a scale, or its gradient, not finite at some calls (counted from 1)."""
    forward = CascadeObjective.forward
    count = 0

    def poisoned(self: CascadeObjective, batch: Any) -> dict[str, torch.Tensor]:
        nonlocal count
        count += 1
        losses = forward(self, batch)
        if count not in calls:
            return losses
        if hook:
            losses[scale].register_hook(lambda gradient: gradient * factor)
            return losses
        return {**losses, scale: losses[scale] * factor}

    monkeypatch.setattr(CascadeObjective, "forward", poisoned)


@pytest.mark.parametrize("hook", [False, True])
def test_a_step_that_is_not_finite_is_skipped_for_its_scale_and_counted(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hook: bool
) -> None:
    poison(monkeypatch, "1", {3, 4}, float("inf"), hook)
    config = tiny(pictures, "training.log_every=1", "training.checkpoint_every=1", "training.keep_checkpoints=9")
    Trainer(config, tmp_path).run()
    weights = [load_file(path / "weights.safetensors") for path in list_checkpoints(tmp_path / "checkpoints")]
    for step in (3, 4):
        same = {name for name, value in weights[step - 1].items() if torch.equal(value, weights[step - 2][name])}
        assert {name for name in weights[0] if name.startswith("details.1.")} <= same, step
        assert not same & {f"{part}.network.head.weight" for part in ("lowpass", "details.0")}, step
    assert all(bool(value.isfinite().all()) for values in weights for value in values.values())
    records = [record for record in read_stats(tmp_path / "stats.jsonl") if "loss" in record]
    assert [record.get("skipped") for record in records] == [None, None, {"1": 1}, {"1": 1}, None, None]
    assert set(records[2]["loss"]) == {"low", "0"}
    assert last(tmp_path)[3]["skipped"] == {"1": 2} and last(tmp_path)[3]["trained"]["1"] == 6


def test_many_such_steps_in_a_row_stop_the_run_with_the_good_state_kept(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(pictures, "training.steps=12", "training.max_skipped=2", "training.checkpoint_every=50")
    poison(monkeypatch, "0", {2, *range(5, 100)})
    with pytest.raises(WavdiffError) as caught:
        Trainer(config, tmp_path).run()
    message = str(caught.value)
    assert "loss of scale 0 is nan at step 7, after 2 such steps in a row" in message
    assert "training.learning_rate" in message and len(message.splitlines()) == 1
    assert message.count("/255)") + message.count(" std)") == 4 and (".png (" in message or ".jpg (" in message)
    weights, averages, moments, state = last(tmp_path)
    assert state["step"] == 7 and state["skipped"] == {"0": 4}
    assert all(bool(value.isfinite().all()) for part in (weights, averages, moments) for value in part.values())
    monkeypatch.undo()
    Trainer(config, tmp_path).run()  # and the run can go on
    assert last(tmp_path)[3]["step"] == 12


# --- ending early ----------------------------------------------------------------------------------------------------


def test_limits_save_and_stop(pictures: Path, tmp_path: Path, whole: Path) -> None:
    config = tiny(pictures, *SETTINGS)
    trainer = Trainer(config, tmp_path, max_steps=3)
    trainer.run()
    assert trainer.stopped == -1 and last(tmp_path)[3]["step"] == 3
    trainer = Trainer(config, tmp_path, max_hours=1e-9)
    trainer.run()
    assert trainer.stopped == -1 and last(tmp_path)[3]["step"] == 4
    trainer = Trainer(config, tmp_path, max_hours=1.0)
    trainer.run()
    assert trainer.stopped is None
    assert_same_run(whole, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_stops(pictures: Path, tmp_path: Path, whole: Path, number: signal.Signals) -> None:
    def send(record: dict[str, Any]) -> None:
        if record["step"] == 4:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    trainer = Trainer(tiny(pictures, *SETTINGS), tmp_path, report=send)
    trainer.run()
    assert trainer.stopped == number and last(tmp_path)[3]["step"] in (4, 5)
    assert signal.getsignal(number) is before
    Trainer(tiny(pictures, *SETTINGS), tmp_path).run()
    assert_same_run(whole, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_says_how_to_go_on_after_a_signal(pictures: Path, tmp_path: Path, number: signal.Signals) -> None:
    folder, config = tmp_path / "run", tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(TINY | {"training": TINY["training"] | {"log_every": 1, "steps": 100_000}}))
    process = Fresh(WAVDIFF, "train", "--data", pictures, "--config", config, "--out", folder)
    for _ in range(3000):  # until its first record
        if (folder / "stats.jsonl").is_file() and (folder / "stats.jsonl").stat().st_size:
            break
        time.sleep(0.1)
    process.signal(number)
    done = process.end()
    assert done.code == 128 + number, done.err
    assert f"stopped by {number.name} after step" in done.err and "Run the same command to continue" in done.err
    assert "Traceback" not in done.err
    step = load_newest(folder / "checkpoints")
    assert step is not None and f"after step {step.state['step']} of 100000" in done.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_job_ends_like_one_to_the_trainer(
    pictures: Path, tmp_path: Path, whole: Path, number: signal.Signals
) -> None:
    """A scheduler or a terminal signals the data workers too; they are needed until the end of the step."""
    settings = (*SETTINGS, "data.workers=2")
    folder, error = tmp_path / "run", tmp_path / "error"

    def work() -> None:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)

        def send(record: dict[str, Any]) -> None:
            if record["step"] == 4:
                os.killpg(0, number)

        with open(error, "w") as file:
            os.dup2(file.fileno(), 2)
            trainer = Trainer(tiny(pictures, *settings), folder, report=send)
            trainer.run()
        assert trainer.stopped == number

    assert in_child(work) == 0, error.read_text()
    assert last(folder)[3]["step"] in (4, 5) and "worker" not in error.read_text()
    Trainer(tiny(pictures, *settings), folder).run()
    assert_same_run(whole, folder)


def test_a_second_signal_ends_at_once(pictures: Path, tmp_path: Path) -> None:
    """The first one arrives in a step that never ends."""
    config = tiny(pictures, *SETTINGS)
    Trainer(config, tmp_path, max_steps=2).run()

    def work() -> None:
        from wavdiff.training import trainer as loop

        def endless(*arguments: Any, **options: Any) -> Any:
            yield from ()
            (tmp_path / "waiting").touch()
            while True:
                time.sleep(0.05)

        def batches(*arguments: Any, **options: Any) -> Any:
            return endless()

        loop.training_batches = batches
        signal.signal(signal.SIGINT, signal.default_int_handler)
        Trainer(config, tmp_path).run()

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    assert child.pid is not None
    for _ in range(3000):
        if (tmp_path / "waiting").exists():
            break
        time.sleep(0.1)
    os.kill(child.pid, signal.SIGINT)
    child.join(1.0)
    assert child.exitcode is None  # it waits for the end of its step
    os.kill(child.pid, signal.SIGINT)
    child.join(300)
    assert child.exitcode not in (None, 0)
    assert last(tmp_path)[3]["step"] == 2


# --- data ------------------------------------------------------------------------------------------------------------


def test_data_that_changed_are_noticed(pictures: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(pictures, data)
    config = tiny(data, *SETTINGS)
    Trainer(config, tmp_path / "run", max_steps=2).run()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Trainer(config, tmp_path / "run")
    shutil.copy(data / "00.png", data / "another.png")
    with pytest.warns(UserWarning, match=r"changed since this run began \(\d+ images then, \d+ now\)"):
        Trainer(config, tmp_path / "run")


def test_an_image_that_becomes_unreadable_is_named_and_replaced(pictures: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(pictures, data)
    trainer = Trainer(tiny(data), tmp_path / "run")
    victim = data / trainer.train_source.label(0)
    victim.write_bytes(b"no picture")
    with pytest.warns(UserWarning, match=f"skipped, replaced by the next image: .*{victim.name}"):
        trainer.run()
    assert last(tmp_path / "run")[3]["step"] == 6
