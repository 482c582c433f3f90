"""A configuration is complete, validated when made, survives YAML, and every error names the setting."""

import re
from pathlib import Path

import pytest
import yaml

from wavdiff.models.cascade.config import CascadeConfig
from wavdiff.system.errors import WavdiffError
from wavdiff.training.config import from_mapping, read_mapping, to_mapping, to_yaml

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configurations_load_and_round_trip(path: Path) -> None:
    mapping = read_mapping(path)
    config = from_mapping(mapping)
    assert from_mapping(yaml.safe_load(to_yaml(config))) == config
    assert from_mapping(to_mapping(config)) == config
    assert read_mapping(path.stem) == mapping

    def written(part: dict, whole: dict, place: str) -> None:  # what a file says arrives
        for key, value in part.items():
            if isinstance(value, dict) and key not in ("ladders", "scale_steps"):
                written(value, whole[key], f"{place}.{key}")
            else:
                assert whole[key] == value, f"{place}.{key}"

    written(mapping, to_mapping(config), path.stem)


def test_the_presets_are_there() -> None:
    assert {"tiny", "faces", "fashion", "celeba160", "celeba-hq320"} <= {path.stem for path in CONFIGS}


def test_the_defaults_are_a_configuration() -> None:
    assert from_mapping({}) == CascadeConfig()


@pytest.mark.parametrize(
    "mapping, named",
    [
        ({"modell": {}}, "modell"),
        ({"model": {"widht": 3}}, "widht"),
        ({"model": {"details": {"heads": 3}}}, "heads"),
        ({"model": {"details": 3}}, "model.details"),
        ({"model": {"details": {"width": "wide"}}}, "model.details.width"),
        ({"model": {"image_size": [1, 2, 3]}}, "model.image_size"),
        ({"model": {"image_size": 32.5}}, "model.image_size"),
        ({"model": {"image_size": [30, 32], "levels": 2}}, "model.image_size"),
        ({"model": {"channels": 2}}, "model.channels"),
        ({"model": {"levels": -1}}, "model.levels"),
        ({"model": {"levels": True}}, "model.levels"),
        ({"model": {"details": {"kind": "transformer"}}}, "kind"),
        ({"model": {"details": {"width": 0}}}, "width"),
        ({"model": {"lowpass": {"kind": "global", "stages": 0}}}, "stages"),
        ({"model": {"lowpass": {"kind": "global", "growth": -1.0}}}, "growth"),
        ({"model": {"details": {"dropout": 1.0}}}, "dropout"),
        ({"model": {"ladders": {"middle": {}}}}, "model.ladders"),
        ({"model": {"ladders": {"details": {"stepz": 3}}}}, "model.ladders.details"),
        ({"model": {"ladders": {"details": {"steps": 0}}}}, "model.ladders.details"),
        ({"model": {"ladders": {"lowpass": {"solver": "magic"}}}}, "model.ladders.lowpass"),
        ({"data": {"augmentation": {"zoom": 1.5}}}, "data.augmentation.zoom"),
        ({"data": {"augmentation": {"calm_strength": 2}}}, "data.augmentation.calm_strength"),
        ({"data": {"crop": 0}}, "data.crop"),
        ({"data": {"workers": -1}}, "data.workers"),
        ({"data": {"heldout_limit": 0}}, "data.heldout_limit"),
        ({"data": {"validation": "s33"}}, "data.validation"),
        ({"noise": {"image_min": 0.0}}, "noise.image_min"),
        ({"noise": {"top_fraction": 1.5}}, "noise.top_fraction"),
        ({"noise": {"denoising_fraction": -0.1}}, "noise.denoising_fraction"),
        ({"training": {"steps": 0}}, "training.steps"),
        ({"training": {"steps": 1.5}}, "training.steps"),
        ({"training": {"batch_size": 10, "accumulation": 3}}, "training.batch_size"),
        ({"training": {"learning_rate": float("nan")}}, "training.learning_rate"),
        ({"training": {"learning_rate": "fast"}}, "training.learning_rate"),
        ({"training": {"weight_decay": -1}}, "training.weight_decay"),
        ({"training": {"gradient_clip": 0}}, "training.gradient_clip"),
        ({"training": {"balance": 1.5}}, "training.balance"),
        ({"training": {"ema_decay": 1.0}}, "training.ema_decay"),
        ({"training": {"precision": "fp8"}}, "training.precision"),
        ({"training": {"seed": -1}}, "training.seed"),
        ({"training": {"scale_steps": {"low": 0}}}, "training.scale_steps"),
        ({"training": {"scale_steps": {"lo": 5}}}, "training.scale_steps"),
        ({"training": {"scale_steps": {"1": 5}}}, "training.scale_steps"),  # one level: scales low and 0
        ({"training": {"detail_crop": 7}}, "training.detail_crop"),
        ({"training": {"detail_crop": 64}}, "training.detail_crop"),
        ({"training": {"detail_crop": 0}}, "training.detail_crop"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(mapping: dict, named: str) -> None:
    with pytest.raises(WavdiffError, match=re.escape(named)):
        from_mapping(mapping)


@pytest.mark.parametrize(
    "override, named",
    [
        ("training.steps", "training.steps"),
        ("training.stepz=3", "stepz"),
        ("training.steps=many", "training.steps"),
        ("training.steps.more=3", "steps"),
        ("training.steps=[", "training.steps"),
        ("=3", "''"),
    ],
)
def test_wrong_overrides_are_named(override: str, named: str) -> None:
    with pytest.raises(WavdiffError, match=re.escape(named)):
        from_mapping({"training": {"steps": 5}}, [override])


def test_overrides_change_one_value_only() -> None:
    base = {"training": {"steps": 5, "batch_size": 8}}
    config = from_mapping(
        base,
        ["training.steps=7", "model.image_size=64", "data.augmentation.flip=true", "training.scale_steps.0=9"],
    )
    assert (config.training.steps, config.training.batch_size) == (7, 8)
    assert config.model.image_size == (64, 64) and config.data.augmentation.flip
    assert (config.training.steps_of("0"), config.training.steps_of("low")) == (9, 7)
    assert base == {"training": {"steps": 5, "batch_size": 8}}


def test_numbers_that_yaml_reads_as_text_or_as_names() -> None:
    assert yaml.safe_load("1e-3") == "1e-3"  # YAML 1.1 wants 1.0e-3
    assert from_mapping(yaml.safe_load("training: {learning_rate: 1e-3}")).training.learning_rate == 1e-3
    assert from_mapping({}, ["training.learning_rate=2e-4"]).training.learning_rate == 2e-4
    assert from_mapping({"training": {"weight_decay": 0}}).training.weight_decay == 0.0
    assert from_mapping(yaml.safe_load("training: {scale_steps: {0: 3}}")).training.scale_steps == {"0": 3}


def test_files_that_are_no_configuration(tmp_path: Path) -> None:
    for name, content in (("list.yaml", "- 1\n"), ("broken.yaml", "a: [1\n"), ("binary.yaml", "\xff")):
        (tmp_path / name).write_bytes(content.encode("latin-1"))
        with pytest.raises(WavdiffError, match=name):
            read_mapping(tmp_path / name)
    with pytest.raises(WavdiffError, match=r"missing\.yaml"):
        read_mapping(tmp_path / "missing.yaml")
    with pytest.raises(WavdiffError, match="no-such-preset.*tiny"):
        read_mapping("no-such-preset")
