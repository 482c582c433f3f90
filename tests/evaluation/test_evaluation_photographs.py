"""Photographs at their own sizes: noise, references, averages and the report are what they are said to be."""

import io
import json
import math
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import scene
from PIL import Image

from wavdiff import api
from wavdiff.evaluation import Photograph, PhotographRequest, metrics, run_photographs
from wavdiff.evaluation.photographs import crops, measuring
from wavdiff.evaluation.photographs.calibration import expected_gaps, measure_draws
from wavdiff.evaluation.photographs.reading import central, find_photographs
from wavdiff.evaluation.scores import HIGHEST_PSNR, average, score
from wavdiff.evaluation.tables import for_terminal
from wavdiff.system.errors import WavdiffError

pytest.importorskip("matplotlib")
skimage_metrics = pytest.importorskip("skimage.metrics")

REPOSITORY = Path(__file__).parents[2]
Json = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures of sizes that no factor divides: RGB, gray, and one further down."""
    place = tmp_path_factory.mktemp("photographs") / "mine"
    (place / "deeper").mkdir(parents=True)
    Image.fromarray(scene(37, 45, 0, 3)).save(place / "b.png")
    Image.fromarray(scene(30, 41, 1)).save(place / "a.png")
    Image.fromarray(scene(33, 28, 2, 3)).save(place / "deeper" / "a.png")
    return place


def run(models: Path | tuple[Path, ...], folder: Path, out: Path, **settings: Any) -> tuple[str, Json]:
    names = tuple(str(model) for model in (models if isinstance(models, tuple) else (models,)))
    settings = {"bm3d": False, "sigmas": (25 / 255,), "factors": (2,), "shown": 0, **settings}
    text = run_photographs(folder, PhotographRequest(names, **settings), out)
    return text, json.loads((out / "evaluation.json").read_text())


def without_times(results: Json) -> dict[str, Json]:
    """{picture: its scores}"""

    def stripped(rows: Json) -> Json:
        return {
            task: {name: {k: v for k, v in one.items() if "seconds" not in k} for name, one in row.items()}
            for task, row in rows.items()
        }

    return {
        p["name"]: {"denoise": stripped(p["denoise"]), "upscale": stripped(p["upscale"])} for p in results["pictures"]
    }


def pixels_of(path: Path) -> np.ndarray:
    """(H, W, C) in [0, 1]."""
    array = np.asarray(Image.open(path), dtype=np.float64) / 255
    return array[..., None] if array.ndim == 2 else array


# --- the noise ------------------------------------------------------------------------------------------------------
def test_noise_is_white_and_follows_from_name_level_and_seed_alone() -> None:
    noise = measuring.seeded_noise("a.png", 0.1, (3, 200, 200), 0)
    assert float(noise.mean()) == pytest.approx(0, abs=0.01) and float(noise.std()) == pytest.approx(1, abs=0.01)
    neighbours = (noise[:, 1:] * noise[:, :-1]).mean(), (noise[1:] * noise[:-1]).mean()
    assert all(abs(float(correlation)) < 0.015 for correlation in neighbours)
    assert torch.equal(noise, measuring.seeded_noise("a.png", 0.1, (3, 200, 200), 0))
    for other in (("b.png", 0.1, 0), ("a.png", 0.2, 0), ("a.png", 0.1, 1)):
        name, sigma, seed = other
        correlation = (noise * measuring.seeded_noise(name, sigma, (3, 200, 200), seed)).mean()
        assert abs(float(correlation)) < 0.02


def test_the_noisy_picture_has_the_psnr_of_its_noise() -> None:
    photograph = Photograph("gray", torch.zeros(3, 128, 128))  # far from black and white: nothing is limited
    request = PhotographRequest(("none",), sigmas=(5 / 255, 25 / 255), factors=(), bm3d=False)
    for level, (_, task) in zip((5, 25), measuring.trials_of(photograph, {}, request), strict=True):
        found = score(task.given[0], task.clean[0], task.given[0])
        assert found["psnr"] == pytest.approx(20 * math.log10(255 / level), abs=0.1)
        assert found["colour_shift"] == 0 and found["colour_error"] < 4 * level / 128


def test_order_limit_and_other_pictures_change_no_number(tiny_model: Path, folder: Path, tmp_path: Path) -> None:
    everything = without_times(run(tiny_model, folder, tmp_path / "all", sigmas=(0.1, 0.2))[1])
    assert list(everything) == ["a.png", "b.png", "deeper/a.png"]
    assert without_times(run(tiny_model, folder, tmp_path / "one", sigmas=(0.2, 0.1), limit=1)[1]) == {
        "a.png": everything["a.png"]
    }
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "b.png").write_bytes((folder / "b.png").read_bytes())
    assert without_times(run(tiny_model, alone, tmp_path / "two", sigmas=(0.1, 0.2))[1]) == {
        "b.png": everything["b.png"]
    }
    assert everything["a.png"]["denoise"] != everything["deeper/a.png"]["denoise"]


# --- methods --------------------------------------------------------------------------------------------------------
def test_bicubic_and_lanczos_are_pillows(tiny_model: Path, folder: Path, tmp_path: Path) -> None:
    _, results = run(tiny_model, folder, tmp_path, factors=(2, 4))
    (record,) = (one for one in results["pictures"] if one["name"] == "b.png")
    assert (record["height"], record["width"], record["channels"]) == (37, 45, 3)
    for factor in (2, 4):
        height, width = 36 // factor * factor, 44 // factor * factor
        clean = pixels_of(folder / "b.png")[:height, :width]
        small = clean.reshape(height // factor, factor, width // factor, factor, 3).mean(axis=(1, 3))
        for name, method in (("bicubic", Image.Resampling.BICUBIC), ("Lanczos", Image.Resampling.LANCZOS)):
            planes = [
                np.asarray(Image.fromarray(small[..., c].astype(np.float32)).resize((width, height), method))
                for c in range(3)
            ]
            large = np.stack(planes, axis=-1).clip(0, 1).astype(np.float64)
            expected = skimage_metrics.peak_signal_noise_ratio(clean, large, data_range=1)
            assert record["upscale"][f"x{factor}"][name]["psnr"] == pytest.approx(expected, abs=1e-3)


def test_models_get_whole_pictures_in_their_own_colours(tiny_model: Path, folder: Path, tmp_path: Path) -> None:
    _, results = run(tiny_model, folder, tmp_path)
    cascade = api.load(tiny_model)
    for name, channels in (("a.png", 1), ("b.png", 3)):
        (record,) = (one for one in results["pictures"] if one["name"] == name)
        assert record["channels"] == channels
        clean = torch.from_numpy(pixels_of(folder / name)).permute(2, 0, 1).float() * 2 - 1
        noise = measuring.seeded_noise(name, 25 / 255, tuple(clean.shape), 0)
        found = api.denoise((clean + 50 / 255 * noise)[None], 25 / 255, model=cascade)
        value = record["denoise"]["25/255"][str(tiny_model)]
        assert value["psnr"] == pytest.approx(float(metrics.psnr(found, clean[None])[0]), abs=1e-3)
        assert value["ssim"] == pytest.approx(float(metrics.ssim(found, clean[None])[0]), abs=1e-4)


def test_bm3d_sees_the_same_noise_and_the_picture_s_own_channels(
    tiny_model: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []

    def remembered(noisy: torch.Tensor, sigma: float) -> torch.Tensor:
        seen.append(noisy)
        return noisy

    monkeypatch.setattr(metrics, "bm3d_denoise", remembered)
    _, results = run(tiny_model, folder, tmp_path, bm3d=True, factors=())
    shapes = [tuple(noisy.shape) for noisy in seen]
    assert [shape for shape in shapes if max(shape[-2:]) > measuring.WARM_SIDE] == [
        (1, 1, 30, 41),
        (1, 3, 37, 45),
        (1, 3, 33, 28),
    ]
    row = results["denoise"]["25/255"]
    assert row["BM3D"]["psnr"] == row["noisy"]["psnr"] and row["BM3D"]["colour_shift"] > 0


def test_one_model_under_two_names_has_the_same_numbers(
    tiny_model: Path, tiny_run: Path, folder: Path, tmp_path: Path
) -> None:
    text, results = run((tiny_model, tiny_run), folder, tmp_path, draws=1)
    for record in without_times(results).values():
        for table in (record["denoise"]["25/255"], record["upscale"]["x2"]):
            assert table[str(tiny_model)] == table[str(tiny_run)]
    gaps = results["samples"]["gaps"]["25/255"]
    assert gaps[str(tiny_model)] == gaps[str(tiny_run)]
    assert f"| {tiny_run} |" in text


def test_the_central_part_is_taken(tiny_model: Path, folder: Path, tmp_path: Path) -> None:
    picture = torch.arange(7 * 6).reshape(1, 7, 6)
    assert central(picture, 4).tolist() == picture[:, 1:5, 1:5].tolist()
    assert central(picture, 100).shape == (1, 7, 6)
    _, results = run(tiny_model, folder, tmp_path, crop=32)
    sizes = {one["name"]: (one["height"], one["width"]) for one in results["pictures"]}
    assert sizes == {"a.png": (30, 32), "b.png": (32, 32), "deeper/a.png": (32, 28)}


# --- draws ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("draws", [1, 8])
def test_exact_posterior_draws_have_the_expected_gaps(draws: int) -> None:
    # x ~ N(0, s^2), y = x + N(0, t^2): the posterior is N(g y, g t^2) with g = s^2 / (s^2 + t^2).
    s, t = 0.2, 0.1
    generator = torch.Generator().manual_seed(0)
    clean = s * torch.randn(1, 1, 300, 300, generator=generator)
    noisy = clean + t * torch.randn(clean.shape, generator=generator)
    gain = s**2 / (s**2 + t**2)

    def draw(given: torch.Tensor, seed: int) -> torch.Tensor:
        noise = torch.randn(given.shape, generator=torch.Generator().manual_seed(seed))
        return gain * given + math.sqrt(gain) * t * noise

    found, first = measure_draws(draw, noisy, gain * noisy, clean, draws, ("test",))
    assert found == pytest.approx(expected_gaps(draws), abs=0.05)
    assert first.shape == clean.shape
    assert found["one_draw"] == pytest.approx(-3.01, abs=0.05)
    assert found["mean_of_draws"] == pytest.approx(-10 * math.log10(1 + 1 / draws), abs=0.05)


# --- numbers --------------------------------------------------------------------------------------------------------
def test_averages_are_means_over_pictures(tiny_model: Path, folder: Path, tmp_path: Path) -> None:
    _, results = run(tiny_model, folder, tmp_path, factors=(2, 4))
    for task in ("denoise", "upscale"):
        for name, row in results[task].items():
            for method, averages in row.items():
                singles = [one[task][name][method] for one in results["pictures"]]
                assert averages["pictures"] == 3
                for measure in ("psnr", "ssim", "colour_shift", "colour_error"):
                    assert averages[measure] == pytest.approx(np.mean([one[measure] for one in singles]), abs=1e-4)
                assert averages["largest_colour_shift"] == max(one["colour_shift"] for one in singles)
                if method != "noisy":
                    area = sum(one["megapixels"] for one in singles)
                    for key in ("seconds", "processor_seconds"):
                        expected = sum(one[key] for one in singles) / area
                        assert averages[f"{key}_per_megapixel"] == pytest.approx(expected, rel=1e-3)


def test_a_method_counts_where_it_was_measured() -> None:
    tables = [{"x2": {"a": {"psnr": 20.0}}}, {"x2": {"a": {"psnr": 30.0}, "b": {"psnr": 7.0}}}, {}]
    assert average(tables) == {"x2": {"a": {"psnr": 25.0, "pictures": 2}, "b": {"psnr": 7.0, "pictures": 1}}}


def test_colour_shifts_are_counted_from_what_the_method_saw() -> None:
    clean = torch.full((3, 16, 16), 0.5)
    noisy, estimate = clean + 2 / 255, clean - torch.tensor([0.0, 2.0, 4.0])[:, None, None] / 255
    found = score(estimate, clean, noisy)
    assert (found["colour_shift"], found["colour_error"]) == (pytest.approx(3, abs=1e-3), pytest.approx(2, abs=1e-3))
    dark = score(torch.full((1, 16, 16), -1 - 2 / 255), torch.full((1, 16, 16), -1.0), torch.full((1, 8, 8), -1.0))
    assert (dark["colour_shift"], dark["unlimited_colour_shift"]) == (0, pytest.approx(1, abs=1e-3))


def test_a_perfect_result_has_a_finite_number() -> None:
    picture = torch.rand(3, 16, 16) * 2 - 1
    assert score(picture, picture, picture)["psnr"] == HIGHEST_PSNR


def test_the_report_says_what_the_json_says(tiny_model: Path, folder: Path, tmp_path: Path) -> None:
    text, results = run(tiny_model, folder, tmp_path, factors=(2, 4), sigmas=(25 / 255, 0.2), draws=2, shown=2)
    assert (tmp_path / "evaluation.md").read_text() == text
    sections = {part.split("\n")[0]: part for part in re.split(r"^##+ ", text, flags=re.M)}

    def cells(section: str, row: str) -> list[str]:
        (line,) = re.findall(rf"^\| {re.escape(row)} \| (.*) \|$", sections[section], flags=re.M)[:1]
        return list(line.split(" | "))

    name = str(tiny_model)
    for title, task in (("Denoising, by noise level", "denoise"), ("Enlarging from block means", "upscale")):
        expected = [f"{row[name]['psnr']:.2f} / {row[name]['ssim']:.3f}" for row in results[task].values()]
        assert cells(title, name) == expected
    assert list(results["denoise"]) == ["25/255", "51/255"] and list(results["upscale"]) == ["x2", "x4"]
    single = next(one for one in results["pictures"] if one["name"] == "a.png")["denoise"]["51/255"]
    expected = [f"{single[method]['psnr']:.2f} / {single[method]['ssim']:.3f}" for method in ("noisy", name)]
    assert cells("Each picture, denoising 51/255", "a.png, 41x30 gray") == expected
    gaps = [results["samples"]["gaps"][task][name] for task in ("25/255", "51/255", "x2", "x4")]
    assert cells("Sample mode", name) == [f"{gap['one_draw']:+.2f} / {gap['mean_of_draws']:+.2f}" for gap in gaps]
    assert cells("Sample mode", "exact posterior")[0] == "-3.01 / -1.76"
    times = [results["upscale"]["x4"]["bicubic"][f"{key}_per_megapixel"] for key in ("seconds", "processor_seconds")]
    assert cells("Seconds per megapixel of the result", "bicubic")[-1] == " / ".join(f"{value:.3g}" for value in times)
    shift = results["denoise"]["25/255"][name]
    assert cells("Shift of the mean colour", name)[0] == " / ".join(
        f"{shift[key]:.3f} ({shift[f'largest_{key}']:.3f})" for key in ("colour_shift", "unlimited_colour_shift")
    )
    linked = re.findall(r"\(([^\s()]+\.(?:png|html))\)", text)
    assert len(linked) == 5 and all((tmp_path / file).is_file() for file in linked)
    assert str(folder.parent) not in text + json.dumps(results)


# --- crops ----------------------------------------------------------------------------------------------------------
def test_the_window_lies_where_the_texture_is() -> None:
    pixels = torch.zeros(3, 200, 300)
    pixels[:, 96:144, 208:256] = torch.rand(48, 48)
    rows, columns = crops.textured_window(pixels)
    assert (rows.stop - rows.start, columns.stop - columns.start) == (64, 64)
    assert rows.start <= 96 and rows.stop >= 144 and columns.start <= 208 and columns.stop >= 256
    assert rows.start % 8 == columns.start % 8 == 0
    assert crops.textured_window(torch.zeros(1, 100, 100)) == (slice(0, 64), slice(0, 64))
    assert crops.textured_window(torch.rand(1, 31, 70), step=16)[0] == slice(0, 16)


def test_crops_are_shown_pixel_by_pixel() -> None:
    large, small = torch.rand(3, 64, 40) * 2 - 1, torch.rand(1, 16, 10) * 2 - 1
    tiles = [crops.Tile("small", small, 4), crops.Tile("runs/mine", large), crops.Tile("clean", large)]
    drawn = crops.draw_strips([crops.Strip("x4", tiles), crops.Strip("25/255", tiles[1:])])
    shown = np.asarray(Image.open(io.BytesIO(drawn)).convert("RGB"))
    width, height = 4 * 40 + crops.GAP, 4 * 64 + crops.CAPTION
    assert shown.shape == (2 * height + crops.GAP, 3 * width + crops.GAP, 3)

    def tile(row: int, column: int) -> np.ndarray:
        top, left = crops.CAPTION + row * height, crops.GAP + column * width
        return shown[top : top + 256, left : left + 160]

    quantised = ((large + 1) * 127.5).round().permute(1, 2, 0).numpy().astype(np.uint8)
    for row, column in ((0, 1), (0, 2), (1, 1), (1, 2)):  # the shorter strip ends in the same column
        assert np.array_equal(tile(row, column), quantised.repeat(4, axis=0).repeat(4, axis=1))
    gray = ((small + 1) * 127.5).round().permute(1, 2, 0).numpy().astype(np.uint8)
    assert np.array_equal(tile(0, 0), gray.repeat(16, axis=0).repeat(16, axis=1).repeat(3, axis=2))
    assert (shown[crops.CAPTION :, -crops.GAP :] == 255).all()


def test_decibels_are_those_of_the_window() -> None:
    clean = torch.zeros(3, 8, 8)
    assert crops.window_psnr(clean + 0.2, clean) == pytest.approx(20.0, abs=1e-4)
    assert crops.window_psnr(torch.full((3, 8, 8), 3.0), torch.ones(3, 8, 8)) == pytest.approx(120)  # limited before


def test_of_the_pictures_asked_for_crops_are_written(tiny_model: Path, folder: Path, tmp_path: Path) -> None:
    _, results = run(tiny_model, folder, tmp_path, shown=2)
    assert results["crops"] == {"a.png": "crops/000-a.png", "b.png": "crops/001-b.png"}
    page = (tmp_path / "crops.html").read_text()
    assert all(f'src="{file}"' in page and f"url('{file}')" in page for file in results["crops"].values())
    options = re.findall(r'<option value="-(\d+)px -(\d+)px"[^>]*>([^<]*)<', page)
    assert len(options) % 4 == 0 and options[0][2] == "25/255: noisy, 25/255"  # two choices, each for two pictures
    assert any(caption.endswith("clean") for _, _, caption in options)
    with Image.open(tmp_path / results["crops"]["a.png"]) as sheet:
        assert all(int(left) < sheet.width and int(top) < sheet.height for left, top, _ in options)
    assert {path.name for path in (tmp_path / "crops").iterdir()} == {"000-a.png", "001-b.png"}


# --- folders and commands -------------------------------------------------------------------------------------------
def test_the_command(cli: Callable[..., Any], tiny_model: Path, tiny_run: Path, folder: Path, tmp_path: Path) -> None:
    place, out = tmp_path / "pictures", tmp_path / "report"
    (place / ".hidden").mkdir(parents=True)
    for name in ("a.png", ".hidden/c.png", ".d.png"):
        (place / name).write_bytes((folder / "a.png").read_bytes())
    (place / "broken.png").write_bytes((folder / "b.png").read_bytes()[:40])
    Image.fromarray(scene(9, 40, 0)).save(place / "tiny.png")
    (place / "notes.txt").write_text("no picture")
    options = ("--no-bm3d", "--sigmas", "25/255", "--factors", "2", "--out", out, "--crops", 0)
    outcome = cli("evaluate", place, "--models", f"{tiny_model},{tiny_run}", "--compare", tiny_model, *options)
    assert outcome.code == 0, outcome.err
    results = json.loads((out / "evaluation.json").read_text())
    assert results["request"]["models"] == [str(tiny_model), str(tiny_run)]
    assert [one["name"] for one in results["pictures"]] == ["a.png"]
    assert sorted(line.split(":")[0] for line in results["skipped"]) == ["broken.png", "tiny.png"]
    assert "skipped: broken.png" in outcome.err and "tiny.png: has 9x40 pixels" in outcome.out
    assert outcome.out.strip() == for_terminal((out / "evaluation.md").read_text()).strip()
    assert (out / "denoising.png").is_file() and not (out / "crops.html").exists()
    assert cli("evaluate", place, "--model", tiny_model, *options).code == 1  # the report is there


def test_one_picture_is_a_folder_too(folder: Path) -> None:
    assert find_photographs(folder / "a.png") == {"a.png": folder / "a.png"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("nowhere", "nowhere: no such folder"),
        ("empty", "holds no picture"),
        (". --kid 100", "--kid"),
        (". --data faces", "--data"),
        ("--crop 64", "--crop needs a FOLDER"),
        ("--samples 2", "--samples needs a FOLDER"),
        (". --crop 8", "--crop must be at least 16"),
        (". --factors 3", "powers of two"),
        (". --sigmas 25", "25/255"),
        (". --limit 0", "--limit"),
        (". --samples -1", "--samples"),
    ],
)
def test_wrong_requests_are_refused(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    outcome = cli("evaluate", *options.split(), "--model", "faces", "--no-bm3d")
    assert outcome.code == 1 and said in outcome.err and len(outcome.err.strip().splitlines()) == 1
    assert not (tmp_path / "evaluation" / "evaluation.json").exists()


def test_no_models_are_refused() -> None:
    with pytest.raises(WavdiffError, match="--models"):
        PhotographRequest(())


def test_the_card_gets_the_tables_without_the_pictures(tiny_model: Path, folder: Path, tmp_path: Path) -> None:
    import shutil

    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    for _ in range(2):  # the second report takes the place of the first
        run(model, folder, tmp_path / "out", update_card=True)
    card = (model / "README.md").read_text()
    assert card.count("# Evaluation") == 1 and card.count("## Denoising, by noise level") == 1
    assert "Each picture" not in card and "crops" not in card and "denoising.png" not in card


def test_the_benchmark(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--pictures", "coffee,camera", "--size", "32", "--samples", "1", "--no-bm3d"]
    argv = ["photographs.py", "--models", str(tiny_model), "--out", str(tmp_path), *options]
    monkeypatch.setattr(sys, "argv", argv)
    runpy.run_path(str(REPOSITORY / "benchmarks" / "photographs.py"), run_name="__main__")
    results = json.loads((tmp_path / "evaluation.json").read_text())
    assert [(one["name"], one["channels"], one["height"]) for one in results["pictures"]] == [
        ("coffee", 3, 32),
        ("camera", 1, 32),
    ]
    rows = json.loads((tmp_path / "summary.json").read_text())
    (row,) = (one for one in rows if one["what"] == "PSNR x2, dB")
    value, reference = (results["upscale"]["x2"][name]["psnr"] for name in (str(tiny_model), "bicubic"))
    assert (row["value"], row["reference now"]) == (value, reference)
    assert row["gain"] == pytest.approx(value - reference, abs=1e-3)
    table = (tmp_path / "summary.md").read_text()
    assert table in capsys.readouterr().out and f"| {value:.2f} |" in table
