"""The hierarchical VAE and WavPool are trained by the engine, with all that it promises, and serve the verbs."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from test_training import assert_same_tensors, last
from test_training_trouble import in_child, kill_self

import wavdiff
from wavdiff.models.folders import find_any_model
from wavdiff.system.errors import WavdiffError
from wavdiff.training.config import from_mapping, read_mapping
from wavdiff.training.records import read_stats
from wavdiff.training.trainer import Trainer

EVERY = {f"{what}_every": 2 for what in ("log", "evaluate", "sample", "checkpoint")}
MODELS = {
    "vdvae": {"image_size": 8, "width": 8, "latent": 2, "encoder": "8x1,8d2,4x1", "decoder": "4x1r2,8m4,8x1"},
    "wavpool": {"image_size": 8, "hidden": 6, "classes": ["bars", "dots"]},
}


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    """As forked processes need it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def classed(tmp_path: Path) -> Path:
    """A folder of two classes, split by hand, that anybody can tell apart."""
    random = np.random.default_rng(0)
    for split, count in (("train", 20), ("test", 8)):
        for name in ("bars", "dots"):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 120, (8, 8))
                pixels[:, ::2] += 130 if name == "bars" else 0
                pixels[:] += 0 if name == "bars" else random.integers(0, 100)
                Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "data" / split / name / f"{number}.png")
    return tmp_path / "data"


@pytest.fixture(params=["vdvae", "wavpool"])
def config(request: pytest.FixtureRequest, classed: Path, tmp_path: Path) -> Path:
    """A configuration of each as a file."""
    return written(request.param, classed, tmp_path)


def written(family: str, data: Path, tmp_path: Path, **training: Any) -> Path:
    settings = {"steps": 7, "batch_size": 8, "warmup_steps": 1, "learning_rate": 1e-2, "ema_decay": 0.9, **EVERY}
    path = tmp_path / f"{family}.yaml"
    content = {"family": family, "model": MODELS[family], "data": {"name": str(data)}, "training": settings | training}
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize(
    "settings",
    [
        (),
        pytest.param(("training.accumulation=2", "data.workers=2"), marks=pytest.mark.slow),
        ("training.optimizer=sgd", "training.schedule=constant"),
    ],
)
def test_a_killed_run_continues_bit_for_bit(config: Path, tmp_path: Path, settings: tuple[str, ...]) -> None:
    resolved = from_mapping(read_mapping(config), list(settings))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    Trainer(resolved, whole).run()

    def work() -> None:
        def report(record: dict[str, Any]) -> None:
            if record["step"] == 4 and "loss" in record:
                kill_self()

        Trainer(resolved, parts, report=report).run()

    assert in_child(work) == -signal.SIGKILL
    Trainer(resolved, parts).run()
    moments = not settings or "sgd" not in settings[0]  # of which SGD without momentum has none
    for left, right in zip(last(whole)[: 2 + moments], last(parts)[: 2 + moments], strict=True):
        assert_same_tensors(left, right)


def test_a_vae_serves_the_verbs(classed: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    run = tmp_path / "run"
    done = cli("train", "--config", written("vdvae", classed, tmp_path, steps=40), "--out", run)
    assert done.code == 0 and "nats per image" in done.err, done.err
    losses = [record["heldout_loss"] for record in read_stats(run / "stats.jsonl") if "heldout" in record]
    assert losses[-1] < losses[0]
    card = (run / "model" / "README.md").read_text()
    assert "| KL at 4x4 |" in card and "4 executed cells" in card and "binarised" in card
    drawn = cli("sample", "--model", run, "--n", 5, "--out", tmp_path / "a", "--temperature", "0.8")
    assert drawn.code == 0, drawn.err
    more = cli("sample", "--model", run, "--n", 9, "--out", tmp_path / "a", "--temperature", "0.8", "--batch-size", 2)
    assert more.code == 0 and "9 images (5 were there)" in more.out, more.err
    again = cli("sample", "--model", run, "--n", 9, "--out", tmp_path / "b", "--temperature", "0.8")
    assert again.code == 0
    for number in range(9):
        assert (tmp_path / "a" / f"{number:06d}.png").read_bytes() == (
            tmp_path / "b" / f"{number:06d}.png"
        ).read_bytes()
    other = cli("sample", "--model", run, "--n", 12, "--out", tmp_path / "a")
    assert other.code == 1 and "temperature" in other.err
    for options, said in (
        (("--steps", "3"), "--steps is for cascades"),
        (("--range", "none"), "--range is for cascades"),
        (("--stop-scale", "1"), "--stop-scale is for cascades"),
        (("--show-scales",), "--show-scales is for cascades"),
        (("--precision", "bf16"), "--precision is for cascades"),
        (("--temperature", "0"), "temperature must be above 0"),
    ):
        refused = cli("sample", "--model", run, "--out", tmp_path / "c", *options)
        assert refused.code == 1 and said in refused.err and not (tmp_path / "c").exists(), refused.err
    assert "is for hierarchical VAEs" in cli("sample", "--temperature", "0.5", "--out", tmp_path / "c").err
    measured = cli("evaluate", "--model", run, "--importance", 5, "--out", tmp_path / "report")
    assert measured.code == 0 and "importance-weighted, 5 draws" in measured.out, measured.err
    numbers = json.loads((tmp_path / "report" / "evaluation.json").read_text())["bound"]
    bounds = [numbers[f"importance-weighted, {draws}"]["nats per image"] for draws in (1, 5)]
    assert bounds[1] < bounds[0] and numbers["bits per dimension"] > 0
    for options, said in (
        (("--model", run, "--kid", 10), "--kid is for cascades"),
        (("--model", run, "--sigmas", "0.1"), "--sigmas is for cascades"),
        (("--models", f"faces,{run}"), "is a hierarchical VAE, no wavelet cascade"),
        (("--model", "faces", "--importance", 3), "--importance is for hierarchical VAEs"),
    ):
        refused = cli("evaluate", *options, "--out", tmp_path / "x")
        assert refused.code == 1 and said in refused.err, refused.err
    pytest.importorskip("matplotlib")
    seen = cli("inspect", run, "--out", tmp_path / "inside")
    assert seen.code == 0 and "top-down" in seen.out, seen.err
    rows = json.loads((tmp_path / "inside" / "inspection.json").read_text())["top-down"]
    assert [row["resolution"] for row in rows] == [4, 4, 8, 8] and (tmp_path / "inside" / "blocks.png").stat().st_size
    with Image.open(tmp_path / "inside" / "reconstructions.png") as sheet:
        assert sheet.width < sheet.height  # 8 images, and 3 columns for 2 resolutions
    assert sum(row["kl"] for row in rows) == pytest.approx(numbers["rate"], rel=0.2)
    assert "--sigma is for cascades" in cli("inspect", run, "--sigma", "0.1").err
    refused = cli("denoise", classed / "test" / "bars" / "0.png", "--model", run, "--sigma", "0.1")
    assert refused.code == 1 and "is a hierarchical VAE, no wavelet cascade" in refused.err
    model = wavdiff.load(run)
    assert torch.equal(wavdiff.sample(model, 2, seed=1), model.sample([1, 2]))


def test_a_classifier_serves_the_verbs(classed: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    run = tmp_path / "run"
    config = written("wavpool", classed, tmp_path, steps=60)
    done = cli("train", "--config", config, "--out", run)
    assert done.code == 0 and "accuracy" in done.err, done.err
    assert read_stats(run / "stats.jsonl")[-1]["heldout"]["accuracy"] > 0.9
    assert "accuracy" in cli("train", "--status", run).out
    measured = cli("evaluate", "--model", run, "--out", tmp_path / "report")
    assert measured.code == 0 and "Accuracy " in measured.out and "bars" in measured.out, measured.err
    numbers = json.loads((tmp_path / "report" / "evaluation.json").read_text())["accuracy"]
    assert numbers["parameters"]["dead"] == 0 and sum(map(sum, numbers["confusion"])) == 16
    files = [classed / "test" / name / "3.png" for name in ("bars", "dots")]
    said = cli("classify", *files, "--model", run)
    assert said.code == 0 and [line.split()[1] for line in said.out.splitlines()] == ["bars", "dots"], said.err
    found = json.loads(cli("classify", files[0], "--model", run, "--json").out)
    assert sum(found[str(files[0])].values()) == pytest.approx(1) and set(found[str(files[0])]) == {"bars", "dots"}
    assert wavdiff.api.classify(Image.open(files[0]), run) == pytest.approx(found[str(files[0])])
    for command in (
        ("sample",),
        ("denoise", files[0], "--sigma", "0.1"),
        ("upscale", files[0]),
        ("inspect",),
    ):
        named = (command[0], run, *command[1:]) if command[0] == "inspect" else (*command, "--model", run)
        refused = cli(*named)
        assert refused.code == 1 and "is a WavPool classifier" in refused.err, (command, refused.err)
    assert "knows no classes" in cli("classify", files[0], "--model", "faces").err


def test_classes_must_be_there_and_be_named(classed: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    config = written("wavpool", classed, tmp_path)
    other = cli("train", "--config", config, "--set", "model.classes=[a,b]", "--out", tmp_path / "x")
    assert other.code == 1 and "give --set 'model.classes=[bars, dots]'" in other.err
    none = cli("train", "--config", config, "--data", classed / "train" / "bars", "--out", tmp_path / "x")
    assert none.code == 1 and "has no classes" in none.err and not (tmp_path / "x").exists()


def test_few_images_of_a_folder_show_all_classes(classed: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    """They lie class by class: the first ones would be of one class."""
    config = from_mapping(
        read_mapping(written("wavpool", classed, tmp_path)), ["data.images=4", "data.heldout_limit=6"]
    )
    trainer = Trainer(config, tmp_path / "run")
    source: Any = trainer.train_source
    assert [source.class_of(k) for k in range(4)] == ["bars", "bars", "dots", "dots"]
    assert sorted(trainer.family.heldout_classes) == ["bars"] * 3 + ["dots"] * 3
    trainer.run()
    assert cli("evaluate", "--model", tmp_path / "run", "--limit", 4, "--out", tmp_path / "report").code == 0
    confusion = json.loads((tmp_path / "report" / "evaluation.json").read_text())["accuracy"]["confusion"]
    assert [sum(row) for row in confusion] == [2, 2]
    one = cli("evaluate", "--model", tmp_path / "run", "--limit", 1, "--out", tmp_path / "one")
    assert one.code == 1 and "1 images of data do not show all of its 2 classes" in one.err
    assert "--importance is for" in cli("evaluate", "--model", tmp_path / "run", "--importance", 3).err


def test_damaged_folders_are_named_in_one_line(classed: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    config = from_mapping(read_mapping(written("vdvae", classed, tmp_path)), ["training.steps=1"])
    model = Trainer(config, tmp_path / "run").run()
    weights, settings = (model / name for name in ("model.safetensors", "model.json"))
    good = weights.read_bytes()
    for damage in (
        lambda: weights.write_bytes(good[:1000]),
        lambda: weights.write_bytes(good) and settings.write_text("[]"),
        lambda: settings.write_text('{"family": "vdvae", "model": {"width": "wide"}}'),
    ):
        damage()
        for verb in (("sample", "--model", model), ("inspect", model), ("evaluate", "--model", model)):
            done = cli(*verb, "--out", tmp_path / "out")
            assert done.code == 1 and done.err.count("\n") == 1 and str(model) in done.err, done.err


def test_dead_weights_are_named(classed: Path, tmp_path: Path) -> None:
    settings = ["model.pool=[2,2,2]", "model.ceil=false", "training.steps=1"]
    config = from_mapping(read_mapping(written("wavpool", classed, tmp_path)), settings)
    with pytest.warns(UserWarning, match=r"weights \(\d+%\) can never receive a gradient: model.pool"):
        Trainer(config, tmp_path / "run").run()
    assert "can never receive a gradient" in (tmp_path / "run" / "model" / "README.md").read_text()


def test_large_gradients_are_skipped_but_not_for_ever(classed: Path, tmp_path: Path) -> None:
    base = read_mapping(written("vdvae", classed, tmp_path))
    config = from_mapping(base, ["training.skip_threshold=1e-6", "training.max_skipped=3"])
    with pytest.raises(
        WavdiffError, match=r"gradient norm of scale vae is .*, at least training.skip_threshold 1e-06,.*3 such"
    ):
        Trainer(config, tmp_path / "run").run()
    weights, _, _, state = last(tmp_path / "run")
    assert state["skipped_in_a_row"] == 4
    fresh = Trainer(from_mapping(base), tmp_path / "fresh").model.state_dict()
    assert_same_tensors({name: value.cpu() for name, value in fresh.items()}, weights)


def test_only_the_first_images_are_trained_on(classed: Path, tmp_path: Path) -> None:
    base = read_mapping(written("vdvae", classed, tmp_path))
    trainer = Trainer(from_mapping(base, ["data.images=5"]), tmp_path / "run")
    assert len(trainer.train_source) == 5  # type: ignore[arg-type]
    with pytest.raises(WavdiffError, match="data.images must be at most the 40"):
        Trainer(from_mapping(base, ["data.images=41"]), tmp_path / "more")


def test_8_bit_images_are_learned_too(classed: Path, tmp_path: Path) -> None:
    settings = ["model.likelihood=logistics", "model.components=2", "training.steps=4"]
    config = from_mapping(read_mapping(written("vdvae", classed, tmp_path)), settings)
    model = wavdiff.load(find_any_model(Trainer(config, tmp_path / "run").run()))
    assert 0 < float(model.mean) < 1 and float(model.std) < 0.5
    images = model.sample([0, 1])
    assert float(images.min()) >= -1 and float(images.max()) <= 1 and not torch.equal(images[0], images[1])
    assert "8 bits" in (tmp_path / "run" / "model" / "README.md").read_text()
