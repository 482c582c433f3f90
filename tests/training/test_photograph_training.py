"""What training on photographs of any size adds: windows, gray examples, split folders, networks of several widths."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from wavdiff.data import Augmentation, ExampleDataset
from wavdiff.data.protocols import ArraySource
from wavdiff.data.sources.folder import open_folder
from wavdiff.models.cascade.noise import NoiseDistribution
from wavdiff.models.cascade.saved import load_cascade
from wavdiff.models.cascade.training.noisy_examples import NoisyExamples
from wavdiff.system.errors import WavdiffError
from wavdiff.training.batches import TrainingExamples
from wavdiff.training.config import RunConfig, from_mapping
from wavdiff.training.trainer import Trainer

ROWS, COLUMNS = (np.broadcast_to(grid, (200, 250)) for grid in np.ogrid[:200, :250])
GRADIENT = np.stack([ROWS, COLUMNS, 0 * ROWS], axis=2).astype(np.uint8)


def examples(window: float, count: int = 200) -> torch.Tensor:
    data = ExampleDataset(ArraySource("g", "", [GRADIENT]), (40, 40), 3, augmentation=Augmentation(window=window))
    return torch.stack([data[(0, seed, 1.0)] for seed in range(count)])


def spans(batch: torch.Tensor) -> torch.Tensor:
    """Pixels of the source between the first and the last row of an example; its rows are their own number."""
    return (batch[:, 0, -1, 20] - batch[:, 0, 0, 20]) * 127.5


def test_a_window_takes_boxes_from_one_to_so_many_times_the_example() -> None:
    factors = spans(examples(3.0)) / 39
    assert float(factors.min()) > 0.95 and float(factors.max()) <= 3.05
    assert 0.15 < float((factors < 1.01).float().mean()) < 0.4  # one in four are pixels as they are
    assert float((factors > 2).float().mean()) > 0.15


def test_windows_lie_anywhere() -> None:
    batch = examples(1.0)
    tops, lefts = (batch[:, 0, 0, 0] + 1) * 127.5, (batch[:, 1, 0, 0] + 1) * 127.5
    assert float(tops.min()) < 8 and float(tops.max()) > 152 and float(lefts.min()) < 10 and float(lefts.max()) > 200
    assert torch.allclose(tops, tops.round(), atol=1e-3)  # whole pixels


def test_a_window_is_limited_to_the_image() -> None:
    data = ExampleDataset(
        ArraySource("g", "", [GRADIENT[:45, :60]]), (40, 40), 3, augmentation=Augmentation(window=4.0)
    )
    batch = torch.stack([data[(0, seed, 1.0)] for seed in range(50)])
    assert batch.shape == (50, 3, 40, 40) and float(spans(batch).max()) <= 45
    small = ExampleDataset(
        ArraySource("g", "", [GRADIENT[:20, :30]]), (40, 40), 3, augmentation=Augmentation(window=2.0)
    )
    assert small[(0, 0, 1.0)].shape == (3, 40, 40)
    with pytest.raises(WavdiffError, match="window"):
        Augmentation(window=0.5)


def test_gray_examples_have_gray_noise() -> None:
    images = ExampleDataset(ArraySource("g", "", [GRADIENT]), (40, 40), 3)
    data = TrainingExamples(images, NoisyExamples(NoiseDistribution(), levels=1, low_repeats=2, gray=0.5).draw)
    gray = 0
    for seed in range(60):
        example = data[((0, seed, 1.0), True)]
        is_gray = torch.equal(example["image"][0], example["image"][1])
        for name in ("noise", "low_noise"):
            channels = example[name].unbind(-3)
            assert torch.equal(channels[0], channels[2]) == is_gray
            assert float(channels[0].std()) == pytest.approx(1, abs=0.15)
        gray += is_gray
    assert 15 < gray < 45
    with_none = TrainingExamples(images, NoisyExamples(NoiseDistribution(), levels=1, low_repeats=2).draw)
    assert torch.equal(with_none[((0, 3, 1.0), True)]["noise"], with_none[((0, 3, 1.0), False)]["noise"])


def write(folder: Path, name: str, value: int) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), value, dtype=np.uint8)).save(folder / name)


def test_a_folder_with_train_and_val_is_split_by_them(tmp_path: Path) -> None:
    for index in range(4):
        write(tmp_path, f"train/{index}.png", index)
    write(tmp_path, "val/a.png", 200)
    train, held = (open_folder(tmp_path, split, 3) for split in ("train", "heldout"))
    assert [train.label(k) for k in range(len(train))] == [f"train/{k}.png" for k in range(4)]
    assert [held.label(k) for k in range(len(held))] == ["val/a.png"]


def test_cached_images_are_read_once_and_only_as_long_as_they_fit(tmp_path: Path) -> None:
    for index in range(8):
        (tmp_path / "big").mkdir(exist_ok=True)
        Image.fromarray(np.full((400, 400, 3), index, dtype=np.uint8)).save(tmp_path / "big" / f"{index}.png")
    source = open_folder(tmp_path, "train", 3, cache_megabytes=1)  # room for two of 480 kB
    first = [source[k] for k in range(len(source))]
    for path in (tmp_path / "big").iterdir():
        path.unlink()
    assert len(source) == 7 and len(source._cache) == 2
    assert all(source[k] is first[k] for k in source._cache)


@pytest.fixture
def photograph_config(tmp_path: Path) -> RunConfig:
    folder = tmp_path / "photos"
    generator = np.random.default_rng(0)
    for index in range(4):
        path = folder / ("val" if index == 3 else "train") / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (60, 70, 3), dtype=np.uint8)).save(path)
    network = {
        "kind": "local",
        "width": 8,
        "depth": 4,
        "receptive_field": 5,
        "activation": "relu",
        "preactivated": False,
    }
    return from_mapping(
        {
            "model": {
                "image_size": [32, 32], "channels": 3, "levels": 2, "lowpass": network, "details": network,
                "scale_networks": {"1": {"width": 16}},
            },
            "data": {"name": str(folder), "cache_megabytes": 1,
                     "augmentation": {"window": 2.0, "gray": 0.3, "flip": True, "rotate90": True}},
            "training": {"steps": 4, "batch_size": 4, "checkpoint_every": 2, "sample_every": 0, "evaluate_every": 4},
        }
    )  # fmt: skip


def test_a_photograph_cascade_trains_resumes_and_loads(photograph_config: RunConfig, tmp_path: Path) -> None:
    Trainer(photograph_config, tmp_path / "run").run()
    cascade = load_cascade(tmp_path / "run")
    assert [cascade.denoiser(name).network.config["width"] for name in ("low", "1", "0")] == [8, 16, 8]
    # A run of a version without these settings continues.
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    del record["model"]["lowpass"]["stages"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    assert Trainer(photograph_config, tmp_path / "run").state.step == 4


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"scale_networks": {"5": {}}}, "scale_networks"),
        ({"scale_networks": {"0": 3}}, "scale_networks.0"),
        ({"scale_networks": {"0": {"wide": 3}}}, "wide"),
        ({"details": {"activation": "tanh"}}, "silu or relu"),
    ],
)
def test_wrong_networks_are_named(change: dict, named: str) -> None:
    with pytest.raises(WavdiffError, match=named):
        from_mapping({"model": {"levels": 1, **change}})
