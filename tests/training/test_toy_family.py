"""A family of another kind trains with the engine and all that it promises: a linear autoencoder, defined here."""

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import yaml
from safetensors.torch import load_file
from test_training import assert_same_tensors, last, timeless
from test_training_trouble import in_child, kill_self
from torch import Tensor, nn

from wavdiff.data.config import DataConfig
from wavdiff.models import FAMILIES, find_family
from wavdiff.models.family import Family, Loss, check_can, load_model
from wavdiff.models.folders import find_model
from wavdiff.models.run_config import RunConfig, TrainingConfig
from wavdiff.system.errors import WavdiffError
from wavdiff.training.config import from_mapping, read_mapping, to_mapping
from wavdiff.training.records import read_stats
from wavdiff.training.trainer import Trainer

# --- the family ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ToyModel:
    image_size: tuple[int, int] = (8, 8)
    channels: int = 1
    width: int = 6


@dataclass(frozen=True)
class ToyConfig(RunConfig):
    family: ClassVar[str] = "toy"
    model: ToyModel = ToyModel()
    data: DataConfig = DataConfig()
    training: TrainingConfig = TrainingConfig()
    parts: ClassVar[tuple[str, ...]] = ("code",)


class Autoencoder(nn.Sequential):
    def __init__(self, size: int, width: int, mean: float) -> None:
        super().__init__(nn.Dropout(0.1), nn.Linear(size, width), nn.Linear(width, size))
        self.register_buffer("mean", torch.tensor(mean))

    def reconstruct(self, images: Tensor) -> Tensor:
        return self(images.flatten(1) - self.mean).view_as(images) + self.mean


class ToyFamily(Family[ToyConfig, Autoencoder]):
    Config = ToyConfig
    noun = "linear autoencoder"

    def measure(self, source: Any) -> dict[str, Any]:
        return {"mean": sum(float(source[k].mean()) for k in range(len(source))) / len(source) / 127.5 - 1}

    def build(self, measured: dict[str, Any]) -> Autoencoder:
        height, width = self.config.image_size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.training.seed)
            self.model = Autoencoder(height * width, self.config.model.width, measured.get("mean", 0.0))
        self.parts = {"code": self.model}
        return self.model

    def example(self, image: Tensor, generator: torch.Generator, strong: bool) -> dict[str, Tensor]:
        return {"clean": image, "noisy": image + 0.05 * torch.randn(image.shape, generator=generator)}

    def losses(self, batch: dict[str, Any], active: list[str]) -> dict[str, Loss]:
        errors = (self.model.reconstruct(batch["noisy"]) - batch["clean"]).square().mean(dim=(1, 2, 3))
        return {"code": Loss(errors.mean(), errors.detach())}

    def evaluate(self, model: Autoencoder, images: Tensor) -> dict[str, float]:
        with torch.no_grad():
            return {"loss/code@all": float((model.reconstruct(images) - images).square().mean())}


# --- what the engine does for it -------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The family has its row; one thread, as forked processes need it."""
    monkeypatch.setitem(FAMILIES, "toy", ToyFamily)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def toy(pictures: Path, tmp_path: Path) -> Path:
    """Its configuration as a file."""
    every = {f"{what}_every": 2 for what in ("log", "evaluate", "sample", "checkpoint")}
    training = {"steps": 9, "batch_size": 8, "warmup_steps": 1, "learning_rate": 1e-2, "ema_decay": 0.9, **every}
    path = tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump({"family": "toy", "data": {"name": str(pictures)}, "training": training}))
    return path


@pytest.mark.parametrize(
    "settings", [(), pytest.param(("training.accumulation=2", "data.workers=2"), marks=pytest.mark.slow)]
)
def test_a_killed_run_continues_bit_for_bit(toy: Path, tmp_path: Path, settings: tuple[str, ...]) -> None:
    config = from_mapping(read_mapping(toy), list(settings))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    Trainer(config, whole).run()

    def work() -> None:
        def report(record: dict[str, Any]) -> None:
            if record["step"] == 6 and "loss" in record:
                kill_self()

        Trainer(config, parts, report=report).run()

    assert in_child(work) == -signal.SIGKILL
    resumed = Trainer(config, parts)
    assert resumed.state.step == 4
    resumed.run()
    for one, other in zip(last(whole)[:3], last(parts)[:3], strict=True):  # weights, averages, the optimiser's moments
        assert_same_tensors(one, other)
    assert timeless(whole) == timeless(parts)
    assert_same_tensors(*(load_file(run / "model" / "model.safetensors") for run in (whole, parts)))


def test_the_command_trains_it_and_the_folder_loads(toy: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    size = cli("train", "--config", toy, "--dry-run")
    assert size.code == 0 and "family: toy" in size.out and "# code: 838 parameters" in size.out, size.err
    stopped = cli("train", "--config", toy, "--out", tmp_path / "run", "--max-steps", 3)
    assert stopped.code == 0 and "after step 3 of 9" in stopped.err, stopped.err
    done = cli("train", "--config", toy, "--out", tmp_path / "run")
    assert done.code == 0 and f"Model: {tmp_path / 'run' / 'model'}" in done.out, done.err
    assert "held-out numbers: loss/code@all: " in done.err
    records = read_stats(tmp_path / "run" / "stats.jsonl")
    losses = [record["heldout_loss"] for record in records if "heldout" in record]
    assert losses[-1] < losses[0] and set(records[-1]["heldout"]) == {"loss/code@all"}
    weights, averaged, _, state = last(tmp_path / "run")
    assert state["trained"] == {"code": 9} and state["best"]["heldout_loss"] == min(losses)
    assert not torch.equal(weights["1.weight"], averaged["1.weight"])
    model = load_model(tmp_path / "run" / "model")
    assert_same_tensors(dict(model.state_dict()), averaged)
    assert model.mean == pytest.approx(state["standardisation"][0])
    status = cli("train", "--status", tmp_path / "run").out
    assert "finished, checkpoint of step 9" in status and "9 / 9" in status
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert "A linear autoencoder, trained by `wavdiff train`" in card and "code: 838" in card
    assert f"| loss/code@all | {losses[-1]:.4f} |" in card
    assert not (tmp_path / "run" / "samples").exists()


def test_what_it_cannot_do_is_refused_in_one_line(toy: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    config = from_mapping(read_mapping(toy), ["training.steps=1"])
    model = Trainer(config, tmp_path / "run").run()
    denoise = ("denoise", toy, "--sigma", "0.1", "-o", tmp_path / "out.png")
    for verb, said in (
        (("sample",), "draws no images"),
        (denoise, "no wavelet cascade"),
        (("classify", toy), "knows no classes"),
        (("evaluate",), "of which there is no evaluation"),
    ):
        outcome = cli(*verb, "--model", model)
        assert outcome.code == 1 and "is a linear autoencoder" in outcome.err and said in outcome.err, outcome.err
    with pytest.raises(WavdiffError, match="is a linear autoencoder"):
        find_model(tmp_path / "run")
    with pytest.raises(WavdiffError, match=r"^model toy is a linear autoencoder: it draws no images$"):
        check_can(load_model(model), "sample", "toy", "linear autoencoder")
    with pytest.raises(WavdiffError, match="training.init .*cannot start from a trained model"):
        Trainer(from_mapping(read_mapping(toy), [f"training.init={model}"]), tmp_path / "more")
    with pytest.raises(WavdiffError, match="--base .* takes no parts from another model"):
        Trainer(config, tmp_path / "base", base=model)
    with pytest.raises(WavdiffError, match="another family"):
        Trainer(from_mapping({"data": {"name": config.data.name}}), tmp_path / "run")
    with pytest.raises(WavdiffError, match=r"another model\.width \(6, now 7\)"):
        Trainer(from_mapping(read_mapping(toy), ["model.width=7"]), tmp_path / "run")


def test_families_are_found_by_name(toy: Path) -> None:
    config = from_mapping(read_mapping(toy))
    assert isinstance(config, ToyConfig) and from_mapping(to_mapping(config)) == config
    assert find_family("cascade").Config.family == "cascade" and "family" not in to_mapping(from_mapping({}))
    for name in ("magic", 3, None):
        with pytest.raises(WavdiffError, match="family must be one of cascade, vdvae, wavpool, toy, got"):
            find_family(name)
