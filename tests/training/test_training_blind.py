"""Training blind bias-free networks: what their running statistics add to a run, and the command that asks for them."""

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from conftest import TINY, Outcome
from safetensors.torch import load_file
from test_training import assert_same_run, assert_same_tensors, interrupted, last, load_weights

from wavdiff import api
from wavdiff.models.cascade.blind_denoisers import BLIND_TOP
from wavdiff.models.cascade.config import PUBLISHED_NETWORKS, with_published_networks
from wavdiff.models.cascade.networks import BiasFreeNetwork
from wavdiff.models.cascade.noise import SIGMA_MAX
from wavdiff.models.cascade.training.objective import _drawn
from wavdiff.models.cascade.training.standardisation import build_cascade
from wavdiff.models.cascade.training.validation import SCALE_LEVELS, heldout_numbers
from wavdiff.system.errors import WavdiffError
from wavdiff.training.config import RunConfig, from_mapping
from wavdiff.training.records import read_stats
from wavdiff.training.trainer import Trainer

Cli = Callable[..., Outcome]
LOW = {"kind": "bias-free", "width": 8, "depth": 4, "receptive_field": 9}
DETAILS = {"kind": "bias-free", "width": 8, "depth": 5, "receptive_field": 7}
SMALL = [
    f"model.{network}.{name}={value}"
    for network, settings in (("lowpass", LOW), ("details", DETAILS))
    for name, value in settings.items()
    if name != "kind"
]


def blind(pictures: Path, *overrides: str) -> RunConfig:
    """The tiny configuration with blind networks and without evaluations."""
    mapping = copy.deepcopy(TINY)
    mapping["model"] |= {"lowpass": LOW, "details": DETAILS}
    mapping["data"]["name"] = str(pictures)
    mapping["training"] |= {"evaluate_every": 0, "sample_every": 0}
    return from_mapping(mapping, list(overrides))


def statistics(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in tensors.items() if name.endswith("running_sd")}


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("killed_at", [5, 2])
def test_an_interrupted_run_continues_bit_for_bit(pictures: Path, tmp_path: Path, killed_at: int) -> None:
    changes = ("steps=8", "log_every=1", "checkpoint_every=4", "accumulation=2", "low_repeats=2", "sample_every=3")
    config = blind(pictures, *(f"training.{change}" for change in changes))
    Trainer(config, tmp_path / "whole").run()
    interrupted(config, tmp_path / "parts", killed_at)
    Trainer(config, tmp_path / "parts").run()
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert len(statistics(last(tmp_path / "parts")[0])) == 2 + 2 * 3  # of every hidden layer


def test_averages_carry_the_statistics_of_now(pictures: Path, tmp_path: Path) -> None:
    Trainer(blind(pictures), tmp_path).run()
    weights, averaged, moments, _ = last(tmp_path)
    model = load_weights(tmp_path / "model")
    assert averaged.keys() == weights.keys() == model.keys()
    seen = statistics(weights)
    assert_same_tensors(seen, statistics(averaged))
    assert_same_tensors(averaged, model)
    assert all(float((value - 1).abs().max()) > 1e-3 and bool((value > 0).all()) for value in seen.values())
    name = "details.0.network.convolutions.0.weight"
    assert not torch.equal(weights[name], averaged[name])
    assert not any("running_sd" in key for key in moments)  # nothing of the optimiser moves them


def test_averaged_weights_are_what_averaged_samples_are_drawn_with(pictures: Path, tmp_path: Path) -> None:
    trainer = Trainer(blind(pictures, "training.ema_decay=0.9999"), tmp_path)
    trainer.run()
    noisy, level = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0)), torch.tensor([0.5])
    raw = trainer.model.eval().denoise(noisy, level).mean
    with trainer.averages.applied(trainer.model) as cascade:
        averaged = cascade.denoise(noisy, level).mean
    assert not torch.equal(raw, averaged)
    assert torch.allclose(averaged, api.load(tmp_path / "model").denoise(noisy, level).mean, atol=1e-5)
    assert torch.equal(trainer.model.eval().denoise(noisy, level).mean, raw)


def test_scales_that_are_not_trained_stay_as_they_are(pictures: Path, tmp_path: Path) -> None:
    Trainer(blind(pictures), tmp_path / "base").run()
    base = load_weights(tmp_path / "base" / "model")
    Trainer(blind(pictures, "training.seed=1"), tmp_path / "more", ["0"], base=tmp_path / "base").run()
    weights, averaged, *_ = last(tmp_path / "more")
    for tensors in (weights, averaged, load_weights(tmp_path / "more" / "model")):
        for name, value in tensors.items():
            assert torch.equal(value, base[name]) == (not name.startswith("details.0.")), name


def test_a_scale_that_has_finished_stays_as_it_is(pictures: Path, tmp_path: Path) -> None:
    config = blind(
        pictures, "training.scale_steps={low: 3}", "training.checkpoint_every=3", "training.keep_checkpoints=9"
    )
    Trainer(config, tmp_path).run()
    first, second = (
        load_file(tmp_path / "checkpoints" / f"step-{step:08d}" / "weights.safetensors") for step in (3, 6)
    )
    for name, value in first.items():
        assert torch.equal(value, second[name]) == name.startswith("lowpass."), name


def test_blind_networks_are_trained_in_float32_unless_told_otherwise(pictures: Path, tmp_path: Path) -> None:
    assert Trainer(blind(pictures), tmp_path / "a").accelerator.mixed_precision == "no"
    asked = Trainer(blind(pictures, "training.precision=bf16"), tmp_path / "b")
    assert asked.accelerator.mixed_precision == "bf16"
    asked.run()
    assert all(bool(value.isfinite().all()) for value in load_weights(tmp_path / "b" / "model").values())


def test_no_noise_is_drawn_above_what_a_denoiser_is_asked_about(pictures: Path) -> None:
    cascade = build_cascade(blind(pictures), 0.5, [0.1, 0.2])
    drawn = _drawn(torch.tensor([0.3, 9.0, 79.0]), cascade.details[1])
    assert drawn.tolist() == pytest.approx([0.06, 1.8, 0.2 * BLIND_TOP])
    knowing = build_cascade(from_mapping(copy.deepcopy(TINY)), 0.5, [0.1, 0.2])
    assert float(_drawn(torch.tensor([79.0]), knowing.details[1])[0]) == pytest.approx(0.2 * 79)


def test_heldout_levels_end_where_the_networks_do(pictures: Path) -> None:
    images = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    cascade = build_cascade(blind(pictures), 0.5, [0.1, 0.2])
    numbers = heldout_numbers(cascade, images)["loss"]
    levels = [f"{level:g}" for level in SCALE_LEVELS if level < BLIND_TOP] + [f"{BLIND_TOP:g}"]
    assert all(list(row) == levels for row in numbers.values())
    # Fresh networks see no noise, so that the error is the noise: u^2 n^2 / c_out(u)^2 = (1 + u^2) n^2.
    for row in numbers.values():
        power = [value / (1 + float(level) ** 2) for level, value in row.items()]
        assert 0.6 < power[0] < 1.6 and power == pytest.approx([power[0]] * len(power), rel=1e-2)
    knowing = heldout_numbers(build_cascade(from_mapping(copy.deepcopy(TINY)), 0.5, [0.1, 0.2]), images)["loss"]
    assert list(knowing["low"])[-1] == f"{SIGMA_MAX:g}"


def test_a_run_may_begin_with_a_blind_model(pictures: Path, tmp_path: Path) -> None:
    Trainer(blind(pictures), tmp_path / "base").run()
    begun = Trainer(blind(pictures, f"training.init={json.dumps(str(tmp_path / 'base'))}"), tmp_path / "more")
    base = load_weights(tmp_path / "base" / "model")
    assert all(torch.equal(value, base[name]) for name, value in begun.model.state_dict().items())
    with pytest.raises(WavdiffError, match="width"):
        wider = blind(pictures, f"training.init={json.dumps(str(tmp_path / 'base'))}", "model.details.width=16")
        Trainer(wider, tmp_path / "wider")


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_published_networks_take_the_place_of_others() -> None:
    mapping = {
        "model": {
            "levels": 3,
            "lowpass": {"kind": "global", "width": 16},
            "scale_networks": {"0": {"width": 16}, 1: {"kind": "local"}, "2": {"kind": "bias-free", "width": 32}},
            "ladders": {"lowpass": {"sigma_max": 40, "steps": 9}, "details": {"sigma_max": 5.0}},
        },
        "training": {"steps": 5},
    }
    before = copy.deepcopy(mapping)
    made = with_published_networks(mapping)
    assert mapping == before  # it is a copy
    assert made["model"]["lowpass"] == PUBLISHED_NETWORKS["lowpass"]
    assert made["model"]["details"] == PUBLISHED_NETWORKS["details"]
    assert made["model"]["scale_networks"] == {"2": {"kind": "bias-free", "width": 32}}
    assert made["model"]["ladders"] == {"lowpass": {"sigma_max": BLIND_TOP, "steps": 9}, "details": {"sigma_max": 5.0}}
    assert made["training"] == {"steps": 5}
    assert with_published_networks({})["model"]["lowpass"] == PUBLISHED_NETWORKS["lowpass"]


def test_networks_that_are_bias_free_already_are_kept() -> None:
    mapping = {
        "model": {
            "lowpass": dict(LOW),
            "details": dict(DETAILS),
            "scale_networks": {"0": {"width": 16}, "1": {"kind": "local", "width": 16}},
        }
    }
    made = with_published_networks(mapping)["model"]
    assert made["lowpass"] == LOW and made["details"] == DETAILS and made["scale_networks"] == {"0": {"width": 16}}
    one = with_published_networks({"model": {"lowpass": dict(LOW)}})["model"]
    assert one["lowpass"] == LOW and one["details"] == PUBLISHED_NETWORKS["details"]


@pytest.mark.parametrize("model", [3, {"lowpass": [1]}, {"scale_networks": 4}, {"scale_networks": {"0": "wide"}}])
def test_sections_that_are_none_are_named(model: object) -> None:
    with pytest.raises(WavdiffError, match="configuration: model.* must be a mapping"):
        with_published_networks({"model": model})


def test_a_dry_run_shows_the_published_architecture(cli: Cli) -> None:
    for preset in ("tiny", "faces", "celeba160"):
        outcome = cli("train", "--config", preset, "--network", "bias-free", "--dry-run")
        assert outcome.code == 0, outcome.err
        assert "# low: 665,856 parameters, receptive field 41x41" in outcome.out
        shown = yaml.safe_load(outcome.out)["model"]
        assert shown["channels"] == 1 and "# 0: 214,144 parameters, receptive field 13x13" in outcome.out
        for name, settings in PUBLISHED_NETWORKS.items():
            assert {key: shown[name][key] for key in settings} == settings
    narrow = cli("train", "--config", "tiny", "--network", "bias-free", "--set", "model.details.width=8", "--dry-run")
    assert yaml.safe_load(narrow.out)["model"]["details"]["width"] == 8


@pytest.mark.parametrize("name", ["local", "bias_free", "", "BIAS-FREE"])
def test_other_names_are_refused(cli: Cli, tmp_path: Path, name: str) -> None:
    outcome = cli("train", "--network", name, "--out", tmp_path / "run")
    assert outcome.code == 1 and outcome.err.count("\n") == 1 and not (tmp_path / "run").exists()
    assert "--network must be bias-free" in outcome.err and repr(name) in outcome.err


@pytest.mark.parametrize(
    ("change", "rule"),
    [("depth=1", "depth"), ("receptive_field=4", "odd"), ("receptive_field=99", "3x3 layers"), ("width=0", "width")],
)
def test_networks_that_cannot_be_are_one_line(cli: Cli, pictures: Path, tmp_path: Path, change: str, rule: str) -> None:
    common = ("train", "--data", pictures, "--network", "bias-free", "--out", tmp_path / "run")
    for extra in ((), ("--dry-run",)):
        outcome = cli(*common, "--set", f"model.details.{change}", *extra)
        assert outcome.code == 1 and outcome.err.count("\n") == 1 and rule in outcome.err, outcome.err
        assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def blind_run(cli: Cli, pictures: Path, tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `wavdiff train --network bias-free` that was stopped once; not to be written to."""
    folder = tmp_path_factory.mktemp("blind") / "run"
    options = [part for change in SMALL for part in ("--set", change)]
    command = (
        "train",
        "--data",
        pictures,
        "--config",
        tiny_config,
        "--network",
        "bias-free",
        *options,
        "--out",
        folder,
    )
    stopped = cli(*command, "--max-steps", 2)
    assert stopped.code == 0 and "after step 2 of 6" in stopped.err, stopped.err
    outcome = cli(*command)
    assert outcome.code == 0 and f"Model: {folder / 'model'}" in outcome.out, outcome.err
    other = cli("train", "--data", pictures, "--config", tiny_config, "--out", folder)
    assert other.code == 1 and "another model" in other.err
    return folder


@pytest.mark.slow
def test_what_was_trained_is_a_model_for_all_verbs(cli: Cli, blind_run: Path, pictures: Path, tmp_path: Path) -> None:
    cascade = api.load(blind_run)
    assert all(isinstance(cascade.denoiser(name).network, BiasFreeNetwork) for name in cascade.scale_names)
    losses = [record["heldout_loss"] for record in read_stats(blind_run / "stats.jsonl") if "heldout_loss" in record]
    assert losses and all(0 < loss < 1e4 for loss in losses)
    card = (blind_run / "model" / "README.md").read_text()
    assert "multiply-adds per pixel" in card and "bias-free" in card
    assert "step 6" in cli("train", "--status", blind_run).out
    picture = next(pictures.glob("*.png"))
    runs = (
        ("sample", "--n", 2, "--out", tmp_path / "samples"),
        ("denoise", picture, "--sigma", "25/255", "-o", tmp_path / "clean.png"),
        ("denoise", picture, "--sigma", "25/255", "--samples", 2, "-o", tmp_path / "mean.png"),
        ("upscale", picture, "-o", tmp_path / "large.png"),
        ("evaluate", "--limit", 2, "--no-bm3d", "--sigmas", 0.1, "--factors", 2, "--out", tmp_path / "report"),
    )
    for command, *arguments in runs:
        outcome = cli(command, *arguments, "--model", blind_run)
        assert outcome.code == 0, (command, outcome.err)


@pytest.mark.slow
def test_the_tiny_preset_trains_with_the_published_architecture(cli: Cli, pictures: Path, tmp_path: Path) -> None:
    command = ("train", "--data", pictures, "--config", "tiny", "--network", "bias-free", "--out", tmp_path / "run")
    short = ("--steps", 6, "--set", "training.warmup_steps=1", "--set", "training.batch_size=4")
    stopped = cli(*command, *short, "--max-steps", 2)
    assert stopped.code == 0, stopped.err
    outcome = cli(*command, *short)
    assert outcome.code == 0, outcome.err
    cascade = api.load(tmp_path / "run")
    assert sum(parameter.numel() for parameter in cascade.parameters()) == 665_856 + 2 * 214_144
    assert cli("sample", "--n", 1, "--model", tmp_path / "run", "--out", tmp_path / "samples").code == 0
