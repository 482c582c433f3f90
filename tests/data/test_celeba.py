"""CelebA and CelebA-HQ from files to numbers, through the command line, with the configurations that ship.

No photographs are here: pictures of the official names, sizes and split, of synthetic content. Networks are narrow and
shallow and steps few; sizes, scales, crops and receptive fields are those of the configurations.
"""

import json
import math
import re
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import run_cli, scene
from PIL import Image
from safetensors.torch import load_file

import wavdiff.data.sources.celeba
from wavdiff import api
from wavdiff.data import ExampleDataset, heldout_batch, open_source
from wavdiff.data.examples import ExampleKey
from wavdiff.models import wavelets
from wavdiff.models.cascade.training.standardisation import build_cascade
from wavdiff.training.config import from_mapping, read_mapping

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "data.md"
SPLIT = {0: range(1, 10, 3), 1: range(2, 10, 3), 2: range(3, 15, 3)}  # mixed, so that no split is a part of the order
NARROW = [
    *("--set", "model.lowpass.width=8", "--set", "model.details.width=8", "--set", "model.details.depth=8"),
    *("--set", "training.batch_size=4", "--set", "training.log_every=2", "--set", "data.heldout_limit=3"),
]
STEPS = 4


def name_of(number: int) -> str:
    return f"{number:06d}.jpg"


def subject(height: int, width: int, seed: int, contrast: float) -> np.ndarray:
    """A colour picture far enough from black and white that weak noise never leaves [0, 255]."""
    texture = np.random.default_rng(seed).normal(0, 6, (height // 2 + 1, width // 2 + 1, 3)).repeat(2, 0).repeat(2, 1)
    picture = 127.5 + contrast * (scene(height, width, seed, 3) - 127.5 + texture[:height, :width])
    return picture.clip(70, 185).round().astype(np.uint8)


def gray(pixels: np.ndarray) -> np.ndarray:
    """The mean of RGB, halves up, as a number of [0, 255]."""
    return np.floor(pixels.astype(np.float64).mean(axis=2) + 0.5)


def in_library_units(images: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(images)[:, None]).float() / 127.5 - 1


def in_bytes(images: torch.Tensor) -> np.ndarray:
    """Images (N, 1, H, W) of the library as numbers of [0, 255], which they must be: (N, H, W)."""
    numbers = (images[:, 0].double().numpy() + 1) * 127.5
    np.testing.assert_allclose(numbers, numbers.round(), atol=1e-4)
    return numbers.round()


def psnr(one: torch.Tensor, other: torch.Tensor) -> float:
    """Mean over images in dB, of the values limited to the file's range."""
    error = (one.clamp(-1, 1) - other).double().square().mean(dim=(1, 2, 3))
    return float((10 * torch.log10(4 / error)).mean())


def noise_of(images: torch.Tensor, sigma: float) -> torch.Tensor:
    """The noise that `evaluate --seed 0` adds: one seed per image."""
    unit = [torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(k)) for k in range(len(images))]
    return 2 * sigma * torch.stack(unit)


def bicubic_from_halves(images: torch.Tensor) -> torch.Tensor:
    """Block means of 2x2, enlarged by Pillow, each number written out here."""
    count, _, height, width = images.shape
    small = images.reshape(count, height // 2, 2, width // 2, 2).mean(dim=(2, 4)).numpy()
    large = [
        np.asarray(Image.fromarray(plane, mode="F").resize((width, height), Image.Resampling.BICUBIC))
        for plane in small
    ]
    return torch.from_numpy(np.stack(large))[:, None]


# --- CelebA, 160x160 -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def celeba(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The official layout. Training images have more contrast than test images; validation images do not decode."""
    folder = tmp_path_factory.mktemp("data") / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    lines = []
    for partition, numbers in SPLIT.items():
        for number in numbers:
            file = folder / "img_align_celeba" / name_of(number)
            if partition == 1:
                file.write_bytes(b"not to be opened by a training or an evaluation")
            else:
                Image.fromarray(subject(218, 178, number, (0.5, 0, 0.25)[partition])).save(file, quality=95)
            lines.append(f"{name_of(number)} {partition}\n")
    (folder / "list_eval_partition.txt").write_text("".join(sorted(lines)))
    return folder


def paper_crops(folder: Path, partition: int) -> torch.Tensor:
    """The images of a partition, read without the package: 160x160 from row 29 and column 9 on."""
    files = [folder / "img_align_celeba" / name_of(number) for number in SPLIT[partition]]
    return in_library_units([gray(np.array(Image.open(file)))[29:189, 9:169] for file in files])


@dataclass
class Trained:
    """The folder of a run, and which images it read for what."""

    run: Path
    learned: set[str] = field(default_factory=set)
    opened: set[str] = field(default_factory=set)


@pytest.fixture(scope="module")
def trained(celeba: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    """A run of the preset on the folder, in one go."""
    found = Trained(tmp_path_factory.mktemp("runs") / "celeba160")
    make, read = ExampleDataset.__getitem__, wavdiff.data.sources.celeba.read_pixels

    def recorded_example(dataset: ExampleDataset, key: ExampleKey) -> torch.Tensor:
        found.learned.add(dataset.source.label(key[0]))  # type: ignore[union-attr, arg-type]
        return make(dataset, key)

    def recorded_read(file: Path) -> np.ndarray:
        found.opened.add(file.name)
        return read(file)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ExampleDataset, "__getitem__", recorded_example)
        patch.setattr(wavdiff.data.sources.celeba, "read_pixels", recorded_read)
        options = ("--data-dir", celeba, "--out", found.run, "--steps", STEPS, "--set", "data.workers=0")
        outcome = run_cli("train", "--config", "celeba160", *options, *NARROW)
    assert outcome.code == 0, outcome.err
    assert f"on {len(SPLIT[0])} images of celeba" in outcome.err
    yield found


@pytest.mark.slow
def test_the_official_split_is_kept(trained: Trained) -> None:
    train, test = ({name_of(number) for number in SPLIT[partition]} for partition in (0, 2))
    assert trained.learned == train
    assert trained.opened == train | set(sorted(test)[:3])  # data.heldout_limit


@pytest.mark.slow
def test_the_crop_and_the_scales_are_the_papers(trained: Trained, celeba: Path) -> None:
    pyramid = wavelets.decompose(paper_crops(celeba, 0), 2, "haar")
    assert pyramid.coarse.shape[-2:] == (40, 40)
    measured = json.loads((trained.run / "run.json").read_text())
    rms = [float(bands.double().square().mean().sqrt()) for bands in (pyramid.coarse, *pyramid.details)]
    assert [measured["lowpass_std"], *measured["detail_stds"]] == pytest.approx(rms, abs=2e-6)
    cascade = api.load(trained.run)
    assert cascade.image_size == (160, 160) and cascade.channels == 1 and cascade.levels == 2
    assert [cascade.denoiser(scale).network.receptive_field for scale in ("0", "1")] == [13, 13]


@pytest.mark.slow
def test_the_card_names_data_and_credit(trained: Trained) -> None:
    card = " ".join((trained.run / "model" / "README.md").read_text().split())
    assert f"celeba: {len(SPLIT[0])} images to train on, {len(SPLIT[2])} held out." in card
    assert "Multimedia Laboratory, The Chinese University of Hong Kong (Liu, Luo, Wang and Tang, 2015)" in card
    assert "license: other" in card
    assert "160x160, gray; 2 detail scales" in card and "research that is not commercial" in card
    assert "up to 3 held-out images" in card and f"At step {STEPS}" in card


def stand_in_for_the_hub(folder: Path, asked: list[tuple[str, str]]) -> types.ModuleType:
    """A module `datasets` whose splits are the images of the folder."""

    class Table:
        def __init__(self, names: list[str]) -> None:
            self.names = names

        def __len__(self) -> int:
            return len(self.names)

        def __getitem__(self, index: int) -> dict[str, Image.Image]:
            return {"image": Image.open(folder / "img_align_celeba" / self.names[index])}

    def load_dataset(name: str, split: str) -> Table:
        asked.append((name, split))
        return Table([name_of(number) for number in SPLIT[{"train": 0, "valid": 1, "test": 2}[split]]])

    module = types.ModuleType("datasets")
    module.load_dataset = load_dataset  # type: ignore[attr-defined]
    return module


@pytest.mark.slow
def test_the_hub_gives_the_same_model_also_in_two_calls_and_with_a_worker(
    trained: Trained, celeba: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: dict[str, Exception]
) -> None:
    monkeypatch.chdir(tmp_path)
    asked: list[tuple[str, str]] = []
    monkeypatch.setitem(sys.modules, "datasets", stand_in_for_the_hub(celeba, asked))
    run = tmp_path / "celeba160"
    command = ("train", "--config", "celeba160", "--out", run, "--steps", STEPS, "--set", "data.workers=1", *NARROW)
    stopped, finished = run_cli(*command, "--max-steps", 2), run_cli(*command)
    assert (stopped.code, finished.code) == (0, 0), stopped.err + finished.err
    assert f"after step 2 of {STEPS}; saved" in stopped.err and f"steps 2 to {STEPS}" in finished.err
    assert set(asked) == {("flwrlabs/celeba", "train"), ("flwrlabs/celeba", "test")}
    weights = Path("model", "cascade", "diffusion_pytorch_model.safetensors")
    one, other = load_file(trained.run / weights), load_file(run / weights)
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    pytest.importorskip("matplotlib")
    pytest.importorskip("skimage")
    evaluated = run_cli("evaluate", "--model", run, "--no-bm3d", "--sigmas", "0.1", "--factors", "", "--out", tmp_path)
    assert evaluated.code == 0, evaluated.err
    assert json.loads((tmp_path / "evaluation.json").read_text())["images"]["held-out"] == len(SPLIT[2])


@pytest.mark.slow
def test_samples_have_the_papers_size(trained: Trained, tmp_path: Path) -> None:
    outcome = run_cli("sample", "--model", trained.run, "--n", 2, "--seed", 5, "--steps", "5,4", "--out", tmp_path)
    assert outcome.code == 0, outcome.err
    drawn = api.sample(api.load(trained.run), 2, 5, lowpass_steps=5, detail_steps=4)
    pictures = sorted(path for path in tmp_path.glob("*.png") if path.stem != "sheet")
    assert len(pictures) == 2
    for file, image in zip(pictures, drawn, strict=True):
        with Image.open(file) as picture:
            assert picture.size == (160, 160) and picture.mode == "L"
            np.testing.assert_allclose(np.array(picture) / 127.5 - 1, image[0].clamp(-1, 1).numpy(), atol=1.01 / 127.5)


@pytest.mark.slow
def test_the_evaluation_measures_the_official_test_images(trained: Trained, celeba: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("skimage")
    # The levels of the paper's figure, of which two are computed again here.
    levels = "3.2/255,10/255,194/255"
    command = ("evaluate", "--model", trained.run, "--no-bm3d", "--sigmas", levels, "--factors", "2")
    outcome = run_cli(*command, "--out", tmp_path)
    assert outcome.code == 0, outcome.err
    report = json.loads((tmp_path / "evaluation.json").read_text())
    test = paper_crops(celeba, 2)
    assert report["images"] == {"source": "celeba", "held-out": len(test), "size": [1, 160, 160]}
    name = str(trained.run)

    row = report["denoise"]["10/255"]
    noise = noise_of(test, 10 / 255)
    assert (test + noise).abs().max() < 1  # nothing is cut off: what is left is the chance of 4 x 25,600 draws
    assert row["noisy"]["psnr"] == pytest.approx(psnr(test + noise, test), abs=1e-3)
    deviation = 10 / math.log(10) * math.sqrt(2 / 160**2 / len(test))
    assert row["noisy"]["psnr"] == pytest.approx(-20 * math.log10(10 / 255), abs=4 * deviation)
    estimate = api.denoise(test + noise, 10 / 255, model=api.load(trained.run))
    assert row[name]["psnr"] == pytest.approx(psnr(estimate, test), abs=2e-3)

    strong = report["denoise"]["194/255"]["noisy"]["psnr"]
    assert strong == pytest.approx(psnr(test + noise_of(test, 194 / 255), test), abs=1e-3)
    # This one knows the images, not only the noise.
    enlarged = report["upscale"]["x2"]["bicubic"]["psnr"]
    assert enlarged == pytest.approx(psnr(bicubic_from_halves(test), test), abs=2e-3)
    assert abs(enlarged - psnr(bicubic_from_halves(paper_crops(celeba, 0)), paper_crops(celeba, 0))) > 1


def test_a_cache_that_celeba_does_not_have_is_refused(celeba: Path, tmp_path: Path) -> None:
    options = ("--data-dir", celeba, "--out", tmp_path / "run", "--set", f"data.decoded_cache={tmp_path}")
    outcome = run_cli("train", "--config", "celeba160", *options)
    assert outcome.code != 0 and "data.decoded_cache: is for folders of images, not for 'celeba'" in outcome.err
    assert not (tmp_path / "run").exists()


# --- CelebA-HQ, 320x320 ----------------------------------------------------------------------------------------------


def resized(pixels: np.ndarray, method: Image.Resampling) -> np.ndarray:
    """Gray first, then Pillow: what configs/celeba-hq320.yaml says."""
    return np.array(Image.fromarray(gray(pixels).astype(np.uint8)).resize((320, 320), method)).astype(np.float64)


def heldout_of(folder: Path) -> torch.Tensor:
    config = from_mapping(read_mapping("celeba-hq320"))
    return heldout_batch(open_source(str(folder), "heldout"), **config.example_settings)


def split_folder(folder: Path, pictures: list[np.ndarray], suffix: str = "png") -> Path:
    """train/ and val/ with the same pictures, so that all can be had as held-out ones."""
    for part in ("train", "val"):
        (folder / part).mkdir(parents=True)
        for number, pixels in enumerate(pictures):
            Image.fromarray(pixels).save(folder / part / f"{number}.{suffix}")
    return folder


@pytest.mark.parametrize("side", [512, 1024])
def test_photographs_become_320_as_the_configuration_says(tmp_path: Path, side: int) -> None:
    picture = subject(side, side, 1, 0.5)
    held = heldout_of(split_folder(tmp_path, [picture]))
    np.testing.assert_array_equal(in_bytes(held)[0], resized(picture, Image.Resampling.LANCZOS))
    papers = in_library_units([resized(picture, Image.Resampling.BICUBIC)])
    assert 35 < psnr(held, papers) < 60  # another filter, nearly the same photograph


def test_shrinking_folds_no_fine_pattern_into_a_coarse_one(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:512, :512]
    board = np.where((rows + columns) % 2, 185, 70).astype(np.uint8)[..., None].repeat(3, axis=2)
    held = heldout_of(split_folder(tmp_path, [board]))
    assert np.ptp(in_bytes(held)) <= 8  # of 115: 320 pixels cannot show it, and it is gone


def test_sizes_that_are_not_512(tmp_path: Path) -> None:
    exact, wide = subject(320, 320, 2, 0.5), subject(512, 700, 3, 0.5)
    held = in_bytes(heldout_of(split_folder(tmp_path, [exact, wide])))
    np.testing.assert_array_equal(held[0], gray(exact))  # as it is
    centre = resized(wide[:, 94:606], Image.Resampling.LANCZOS)  # the filter sees beyond it: 3 lobes of 1.6 pixels
    np.testing.assert_array_equal(held[1][:, 3:-3], centre[:, 3:-3])


def snippet() -> str:
    """The Python of docs/data.md that makes 320x320 once."""
    found = re.search(r"```python\n(.*?)```", DOCUMENTATION.read_text(encoding="utf-8"), re.S)
    assert found is not None
    return found[1]


def test_the_documented_way_to_the_papers_filter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pictures = [subject(512, 512, seed, 0.5) for seed in range(2)]
    split_folder(tmp_path / "CelebA-HQ-img", pictures, "jpg")
    exec(compile(snippet(), str(DOCUMENTATION), "exec"), {"__name__": "__main__"})
    for number, image in enumerate(in_bytes(heldout_of(tmp_path / "celeba-hq320"))):
        file = tmp_path / "CelebA-HQ-img" / "val" / f"{number}.jpg"
        planes = [plane.resize((320, 320), Image.Resampling.BICUBIC) for plane in Image.open(file).split()]
        np.testing.assert_array_equal(image, gray(np.dstack([np.array(plane) for plane in planes])))


@pytest.mark.slow
def test_celeba_hq_from_files_to_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("skimage")
    monkeypatch.chdir(tmp_path)
    Path("hq").mkdir()
    for number in range(8):
        Image.fromarray(subject(512, 512, number, 0.5)).save(f"hq/{number}.jpg", quality=95)
    command = ("train", "--config", "celeba-hq320", "--data", "hq", "--steps", 2, "--set", "data.workers=1")
    outcome = run_cli(*command, *NARROW)
    assert outcome.code == 0, outcome.err
    held = open_source("hq", "heldout")
    assert f"on {8 - len(held)} images of hq as 320x320 gray, into runs/celeba-hq320" in outcome.err
    card = " ".join(Path("runs/celeba-hq320/model/README.md").read_text().split())
    assert f"hq: {8 - len(held)} images to train on, {len(held)} held out. the images of the folder hq" in card
    assert "320x320, gray; 3 detail scales" in card and "research that is not commercial" in card
    cascade = api.load("runs/celeba-hq320")
    assert [cascade.denoiser(str(scale)).network.receptive_field for scale in range(3)] == [13] * 3

    sample = ("sample", "--model", "runs/celeba-hq320", "--n", 1, "--steps", "4,2", "--show-scales", "--out", "drawn")
    assert run_cli(*sample).code == 0
    (picture,) = (path for path in Path("drawn").glob("*.png") if path.stem not in ("sheet", "walk"))
    with Image.open(picture) as image:
        assert image.size == (320, 320) and image.mode == "L"

    options = ("--no-bm3d", "--sigmas", "10/255", "--factors", "2,8", "--out", "report")
    assert run_cli("evaluate", "--model", "runs/celeba-hq320", *options).code == 0
    report = json.loads(Path("report/evaluation.json").read_text())
    files = [Path("hq") / held.label(index) for index in range(len(held))]
    images = in_library_units([resized(np.array(Image.open(file)), Image.Resampling.LANCZOS) for file in files])
    row = report["denoise"]["10/255"]
    assert row["noisy"]["psnr"] == pytest.approx(psnr(images + noise_of(images, 10 / 255), images), abs=1e-3)
    enlarged = report["upscale"]["x2"]["bicubic"]["psnr"]
    assert enlarged == pytest.approx(psnr(bicubic_from_halves(images), images), abs=2e-3)
    assert "runs/celeba-hq320 (mean)" in report["upscale"]["x8"]


# --- what is said of both --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["celeba160", "celeba-hq320"])
def test_the_low_pass_image_is_40x40_and_crops_hold_a_receptive_field(preset: str) -> None:
    config = from_mapping(read_mapping(preset))
    assert [side / 2**config.model.levels for side in config.model.image_size] == [40, 40]
    assert config.model.details.receptive_field == 13 and config.model.channels == 1
    assert config.training.detail_crop is not None
    assert config.training.detail_crop // 2**config.model.levels >= 13
    assert config.noise.image_max > 194 / 255 and config.noise.image_min < 3.2 / 255  # the paper's figure


def test_the_small_preset_sees_the_whole_of_the_crop_in_colour(celeba: Path) -> None:
    source = open_source("celeba", "heldout", data_dir=celeba, channels=3)
    (example,) = heldout_batch(source, **from_mapping(read_mapping("celeba64")).example_settings, limit=1)  # type: ignore[arg-type]
    file = celeba / "img_align_celeba" / name_of(SPLIT[2][0])
    with Image.open(file) as image:
        crop = image.crop((9, 29, 169, 189)).resize((64, 64), Image.Resampling.LANCZOS)
    theirs = torch.from_numpy(np.array(crop)).permute(2, 0, 1) / 127.5 - 1
    assert example.shape == (3, 64, 64) and float((example - theirs).abs().max()) < 3 / 127.5


@pytest.mark.parametrize("preset", ["celeba64", "celeba160", "celeba-hq320"])
def test_the_documented_size_is_what_a_dry_run_prints(preset: str, cli: Callable[..., Any]) -> None:
    config = from_mapping(read_mapping(preset))
    cascade = build_cascade(config, 1.0, [1.0] * config.model.levels)
    count = sum(parameter.numel() for parameter in cascade.parameters())
    outcome = cli("train", "--config", preset, "--dry-run")
    (said,) = (line for line in outcome.out.splitlines() if line.startswith("# total"))
    assert said == f"# total: {count:,} parameters, {cascade.multiply_adds_per_pixel():,.0f} multiply-adds per pixel"
    assert said.removeprefix("# total: ") in DOCUMENTATION.read_text(encoding="utf-8")
    assert preset in cli("train", "--help").out
