"""Whatever a command is given: an error of a line or two, or a valid result; no traceback, no damage, no leftovers.

The corpus and the mutations are those of `hostile`; `benchmarks/fuzz.py` tries as many of them as one likes.
"""

import contextlib
import copy
import json
import os
import random
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hostile
import numpy as np
import pytest
from fresh_processes import WAVDIFF, Fresh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from wavdiff.cli.options import memory_bytes, noise_level, noise_levels, whole_numbers
from wavdiff.images import load_image, open_picture, read_info
from wavdiff.models.cascade.networks import GlobalNetwork, LocalNetwork, count_parameters
from wavdiff.models.cascade.saved import load_cascade
from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import one_line, shown
from wavdiff.training.config import RunConfig, from_mapping, read_mapping, to_yaml

ROUNDS = 1
QUICK = settings(
    derandomize=True,
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@contextlib.contextmanager
def in_time(seconds: float = 120.0) -> Iterator[None]:
    """Fail, rather than wait, where something takes too long."""

    try:
        with hostile.alarm(seconds):
            yield
    except hostile.TooLong:
        pytest.fail("took too long")


def refusal(error: pytest.ExceptionInfo[WavdiffError] | WavdiffError) -> str:
    """The message, which must be short."""
    text = str(error if isinstance(error, WavdiffError) else error.value)
    assert text and len(text) < 1500, text
    return text


# --- whole commands ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", range(len(hostile.KINDS)), ids=[" ".join(pair) for pair in hostile.KINDS])
def test_commands_refuse_or_succeed_and_break_nothing(tiny_model: Path, tmp_path: Path, pair: int) -> None:
    for number in range(ROUNDS):
        place = tmp_path / str(number)
        place.mkdir()
        case = hostile.make_case(0, pair + number * len(hostile.KINDS), place, tiny_model)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = hostile.attempt(case, place, seconds=60)
        assert not result.defects, (result.name, result.defects, result.message, result.detail)


def test_what_cannot_be_read_for_want_of_permission(tmp_path: Path, tiny_model: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    path = hostile.special_file("no-permission", tmp_path, random.Random(0))
    code, _, err, crash = hostile.run(["denoise", str(path), "--model", str(tiny_model)], 60)
    assert code == 1 and not crash and str(path) in err and len(err.splitlines()) == 1


@pytest.mark.slow
def test_the_fuzz_command_finds_no_defect() -> None:
    program = Path(__file__).parents[2] / "benchmarks" / "fuzz.py"
    command = [sys.executable, str(program), "--inputs", "300", "--seed", "7"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=900, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "300 inputs, 0 with a defect" in done.stdout


# --- pictures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in hostile.giant_headers() if name != "exif.tif"])
def test_giant_headers_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(hostile.giant_headers()[name])
    with in_time(), pytest.raises(WavdiffError) as error, open_picture(path):
        pass
    assert str(path) in refusal(error)


@pytest.mark.parametrize("name", hostile.odd_pictures())
def test_odd_pictures_are_read_or_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(hostile.odd_pictures()[name])
    for read in (load_image, read_info, lambda place: open_picture(place).close()):
        try:
            with in_time():
                read(path)
        except WavdiffError as error:
            assert str(path) in refusal(error)


@pytest.mark.parametrize("name", ["nan", "inf", "minus-inf", "huge", "float"])
def test_floating_point_pictures_are_refused_by_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.tif"
    path.write_bytes(hostile.odd_pictures()[path.name])
    with pytest.raises(WavdiffError, match="floating-point"):
        load_image(path)


@pytest.mark.parametrize(
    "name, rule",
    [
        ("empty", "0 bytes"), ("text", "not an image"), ("chance", "not an image"), ("folder", "is a folder"),
        ("broken-link", "no such file"), ("link-loop", "no such"), ("pipe", "is a pipe"), ("missing", "no such file"),
        ("long-name", "too long"), ("below-a-file", "no such"), ("null-device", "device"), ("zero-device", "device"),
        ("socket", "socket"), ("link-to-pipe", "is a pipe"),
    ],
)  # fmt: skip
def test_files_that_are_no_pictures(tmp_path: Path, name: str, rule: str) -> None:
    path = hostile.special_file(name, tmp_path, random.Random(0))
    for read in (load_image, open_picture):
        with in_time(), pytest.raises(WavdiffError, match=rule) as error:
            read(path)
        assert str(path) in refusal(error)


@QUICK
@given(form=st.sampled_from(hostile.FORMATS), chance=st.randoms(use_true_random=False), truncate=st.booleans())
def test_damaged_picture_bytes(
    tmp_path_factory: pytest.TempPathFactory, form: tuple[str, str], chance: random.Random, truncate: bool
) -> None:
    data = hostile.encoded(form[0], chance)
    path = tmp_path_factory.getbasetemp() / f"damaged.{form[1]}"
    path.write_bytes(hostile.cut(data, chance) if truncate else hostile.flipped(data, chance))
    for read in (load_image, lambda place: open_picture(place).close()):
        with in_time():
            try:
                read(path)
            except WavdiffError as error:
                assert str(path) in refusal(error)


# --- models -----------------------------------------------------------------------------------------------------------

FITTING_WEIGHTS = ("half-precision",)  # another type, which is allowed; all zeros


def copied(model: Path, place: Path) -> Path:
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(model, place)
    return place


def weight_names() -> list[str]:
    good = Path(__file__).parents[2] / "wavdiff" / "models" / "weights" / "fashion" / "cascade"
    return list(hostile.weights_corpus((good / "diffusion_pytorch_model.safetensors").read_bytes()))


@pytest.mark.parametrize("number, name", list(enumerate([*weight_names(), "pipe", "folder", "broken-link"])))
def test_hostile_weights(tiny_model: Path, tmp_path: Path, number: int, name: str) -> None:
    model = copied(tiny_model, tmp_path / "model")
    assert hostile.hostile_weights(model, number, random.Random(0)) == name
    with in_time():
        if name in FITTING_WEIGHTS:
            load_cascade(model)
        else:
            with pytest.raises(WavdiffError) as error:
                load_cascade(model)
            assert str(model) in refusal(error)


@pytest.mark.parametrize("number", range(21))
def test_hostile_settings(tiny_model: Path, tmp_path: Path, number: int) -> None:
    model = copied(tiny_model, tmp_path / "model")
    hostile.hostile_settings(model, number, random.Random(0))
    with in_time(), pytest.raises(WavdiffError) as error:
        load_cascade(model)
    assert str(model) in refusal(error)


@pytest.mark.parametrize(
    "change, rule",
    [
        ({"image_size": [10**12, 10**12]}, "image_size must be at most"),
        ({"image_size": "../x"}, "image_size must be a list"),
        ({"channels": True}, "channels must be of type int"),
        ({"detail_stds": [float("nan"), 1.0]}, "detail_stds must be a positive number"),
        ({"lowpass_std": "1"}, "lowpass_std must be a positive number"),
        ({"wavelet": "../../x"}, "not an orthogonal wavelet"),
        ({"unknown": 1}, "no setting 'unknown'"),
        ({"lowpass_network": {"kind": "global", "width": 10**12}}, "width must be in"),
        ({"lowpass_network": {"kind": "global", "width": 4096, "depth": 60}}, "at most 200000000 parameters"),
        ({"lowpass_network": {"kind": "global", "width": 8, "heads": 3}}, "no setting 'heads'"),
        ({"lowpass_network": {"kind": "bias-free", "depth": 1, "receptive_field": 3}}, "depth must be at least 2"),
        ({"lowpass_network": {"kind": "bias-free", "depth": 10**9}}, "depth must be in"),
        ({"lowpass_network": {"kind": "bias-free", "receptive_field": 4}}, "receptive_field must be odd"),
        ({"lowpass_network": {"kind": "bias-free", "depth": 4, "receptive_field": 10**30}}, "receptive_field"),
        ({"lowpass_network": {"kind": "bias-free", "receptive_field": "13"}}, "receptive_field must be of type int"),
        ({"lowpass_network": {"kind": "bias-free", "width": -8}}, "width must be in"),
        ({"lowpass_network": {"kind": "bias-free", "width": 4096, "depth": 21}}, "at most 200000000 parameters"),
        ({"lowpass_network": {"kind": "bias-free", "stages": 2}}, "a bias-free network has no setting 'stages'"),
        ({"lowpass_network": {"kind": "biased"}}, "network kind must be one of"),
        ({"lowpass_range": [0.8, 0.0]}, "lowpass_range must be two numbers"),
        ({"lowpass_range": [0.0, None]}, "lowpass_range must be two numbers"),
        ({"lowpass_range": "0,1"}, "lowpass_range must be two numbers"),
        ({"lowpass_range": [False, True]}, "lowpass_range must be two numbers"),
        ({"ladders": {"lowpass": {"steps": 10**30}}}, "steps must be at most"),
        ({"ladders": {"lowpass": {"sigma_max": float("inf")}}}, "sigma_max must be at most"),
        ({"_class_name": "LocalNetwork"}, "_class_name must be"),
    ],
)
def test_settings_of_models_have_rules(tiny_model: Path, tmp_path: Path, change: dict[str, Any], rule: str) -> None:
    model = copied(tiny_model, tmp_path / "model")
    path = model / "cascade" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with in_time(), pytest.raises(WavdiffError, match=rule) as error:
        load_cascade(model)
    assert str(path) in refusal(error)


@QUICK
@given(chance=st.randoms(use_true_random=False), part=st.sampled_from(["weights", "settings"]))
def test_damaged_model_bytes(
    tiny_model: Path, tmp_path_factory: pytest.TempPathFactory, chance: random.Random, part: str
) -> None:
    model = copied(tiny_model, tmp_path_factory.getbasetemp() / "damaged model")
    damage = hostile.hostile_weights if part == "weights" else hostile.hostile_settings
    damage(model, 10**6, chance)
    with in_time():
        try:
            load_cascade(model)
        except WavdiffError as error:
            assert str(model) in refusal(error)


@pytest.mark.parametrize("preactivated", [True, False])
def test_parameters_are_counted_without_making_them(preactivated: bool) -> None:
    local = {"width": 12, "depth": 6, "receptive_field": 9, "preactivated": preactivated}
    made = LocalNetwork(5, 4, levels=2, **local)
    assert count_parameters({"kind": "local", **local}, 1, details=True) == sum(p.numel() for p in made.parameters())
    for stages, growth, depth in ((1, 1.0, 1), (2, 1.5, 2), (3, 1.0, 1), (3, 2.0, 3)):
        wide = {"width": 16, "depth": depth, "stages": stages, "growth": growth}
        whole = GlobalNetwork(3, 3, levels=1, **wide)
        assert count_parameters({"kind": "global", **wide}, 3, details=False) == sum(
            p.numel() for p in whole.parameters()
        )


# --- configurations and options ---------------------------------------------------------------------------------------

FITTING_TEXTS = ("not-int", "twice", "null-byte", "surrogate", "path", "file")


@pytest.mark.parametrize("name", hostile.CONFIG_TEXTS)
def test_hostile_configurations(tmp_path: Path, name: str) -> None:
    path = tmp_path / "some.yaml"
    path.write_bytes(hostile.CONFIG_TEXTS[name])
    try:
        with in_time():
            assert isinstance(from_mapping(read_mapping(path)), RunConfig) and name in FITTING_TEXTS
    except WavdiffError as error:
        refusal(error)


@pytest.mark.parametrize("name", ["pipe", "folder", "zero-device", "broken-link", "missing"])
def test_configurations_that_are_no_files(tmp_path: Path, name: str) -> None:
    path = hostile.special_file(name, tmp_path, random.Random(0))
    with in_time(), pytest.raises(WavdiffError) as error:
        read_mapping(path)
    assert str(path) in refusal(error)


@pytest.mark.parametrize("setting", hostile.SETTINGS, ids=lambda text: ascii(text)[1:40])
def test_hostile_overrides(setting: str) -> None:
    with in_time():
        try:
            to_yaml(from_mapping(hostile.TINY, [setting]))
        except WavdiffError as error:
            refusal(error)


@pytest.mark.parametrize(
    "setting, rule",
    [
        ("model.levels=1000000000", "model.levels must be in"),
        ("model.image_size=1000000000000", "model.image_size must be at most 4096"),
        ("model.details.width=1000000000000", "width must be in"),
        ("model.lowpass={kind: global, width: 4096, depth: 60}", "at most 200000000 parameters"),
        ("model.details={kind: bias-free, depth: 1, receptive_field: 3}", "depth must be at least 2, got 1"),
        ("model.details={kind: bias-free, width: 4096, depth: 128}", "at most 200000000 parameters"),
        ("model.ladders.details.steps=99999999999", "steps must be at most 10000"),
        ("training.steps=99999999999", "at most 1000000000 steps"),
        ("training.batch_size=1000000000000", "batch_size: at most"),
        ("training.learning_rate=1e400", "learning_rate must be in"),
        ("training.learning_rate=.nan", "learning_rate must be a number"),
        ("training.seed=1" + "0" * 30, "seed must be in"),
        ("training.scale_steps.low=true", "scale_steps maps"),
        ("training.steps=true", "training.steps must be of type int"),
    ],
)
def test_numbers_have_limits(setting: str, rule: str) -> None:
    with in_time(), pytest.raises(WavdiffError, match=rule.replace(".", r"\.")):
        from_mapping(hostile.TINY, [setting])


VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.sampled_from([10**12, 10**400, -(10**30)]), st.floats(),
        st.text(max_size=9), st.sampled_from(hostile.TEXTS), st.dates(),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
PLACES = [path for path in hostile.places(hostile.TINY)]


@QUICK
@given(path=st.sampled_from(PLACES), value=VALUES, name=st.none() | st.text(max_size=8))
def test_any_value_anywhere_in_a_configuration(path: tuple[Any, ...], value: Any, name: str | None) -> None:
    mapping: Any = copy.deepcopy(hostile.TINY)
    within = mapping
    for key in path[:-1]:
        within = within[key]
    if name is not None and isinstance(within, dict):
        within[name] = value
    else:
        within[path[-1]] = value
    with in_time():
        try:
            assert isinstance(from_mapping(mapping), RunConfig)
        except WavdiffError as error:
            refusal(error)


@QUICK
@given(text=st.text(max_size=30) | st.sampled_from(hostile.TEXTS + hostile.SETTINGS))
def test_any_text_as_an_option(text: str) -> None:
    from wavdiff.cli.evaluate import _factors
    from wavdiff.cli.sample_texts import read_size, read_steps

    def override(value: str) -> Any:
        return from_mapping(hostile.TINY, [value])

    for read in (noise_level, noise_levels, memory_bytes, whole_numbers, _factors, read_size, read_steps, override):
        try:
            read(text)
        except WavdiffError as error:
            refusal(error)


@QUICK
@given(text=st.text(alphabet=st.characters(exclude_categories=())), value=VALUES)
def test_messages_can_always_be_printed(text: str, value: Any) -> None:
    assert one_line(text).isprintable() or not text
    one_line(text).encode("utf-8")
    assert len(shown(value)) < 2000


@pytest.mark.parametrize("option", ["--n", "--batch-size", "--seed", "--low-seed", "--steps", "--size"])
def test_giant_numbers_for_sample_are_refused_at_once(tmp_path: Path, tiny_model: Path, option: str) -> None:
    text = "65536x65536" if option == "--size" else "9" * 30
    arguments = ["sample", "--model", str(tiny_model), "--out", str(tmp_path / "out"), option, text]
    code, out, err, crash = hostile.run(arguments, 60)
    assert code == 1 and not crash and not out and option in err and len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_many_large_images_are_refused_at_once(tmp_path: Path, tiny_model: Path) -> None:
    arguments = ["sample", "--model", str(tiny_model), "--out", str(tmp_path / "out"), "--n", "1000", "--size", "4096"]
    code, _, err, crash = hostile.run(arguments, 60)
    assert code == 1 and not crash and "--batch-size" in err and not list(tmp_path.iterdir())


def test_wrong_usage_is_one_line_with_the_value() -> None:
    code, _, err, crash = hostile.run(["sample", "--n", "many"], 60)
    assert code == 2 and not crash and len(err.splitlines()) == 1 and "--n" in err and "'many'" in err


@pytest.mark.slow
def test_libtiff_does_not_speak_past_the_command(tmp_path: Path) -> None:
    """A TIFF whose compressed rows are damaged: one line on the process's real standard error."""
    path = tmp_path / "damaged.tif"
    picture = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    Image.fromarray(picture).save(path, compression="tiff_lzw")
    content = bytearray(path.read_bytes())
    for place in range(200, 1200, 7):
        content[place] ^= 0x5A
    path.write_bytes(content)
    done = Fresh(WAVDIFF, "denoise", path, "--sigma", 0.1, "--out", tmp_path / "o.png").end()
    if done.code:
        lines = [line for line in done.err.splitlines() if line.strip()]
        assert all(str(path) in line or line.startswith("wavdiff:") for line in lines), done.err
    assert "TIFF" not in done.err and "Decode" not in done.err
