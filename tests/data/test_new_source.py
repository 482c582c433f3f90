"""To add a source of images is one row: it opens, trains and evaluates through the public functions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import scene

from wavdiff.data import catalog, count_images, find_source, open_source
from wavdiff.data.catalog import SourceKind
from wavdiff.data.protocols import ArraySource, Split
from wavdiff.system.errors import WavdiffError


def open_scenes(split: Split, data_dir: Path | None) -> ArraySource:
    """Eight pictures of 24x20 to train on, three others held out."""
    seeds = range(8) if split == "train" else range(8, 11)
    return ArraySource("scenes", f"nobody, in {data_dir}", [scene(24, 20, seed) for seed in seeds])


@pytest.fixture
def scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    row = SourceKind("scenes", open_scenes, ("data_dir",), crop=18)
    monkeypatch.setattr(catalog, "SOURCES", [row, *catalog.SOURCES])


def test_a_new_row_opens_like_the_others(scenes: None, tmp_path: Path) -> None:
    source = open_source("scenes", "heldout", data_dir=tmp_path)
    assert count_images(source) == 3 and source.credit.endswith(str(tmp_path))
    np.testing.assert_array_equal(source[0], scene(24, 20, 8))  # type: ignore[index]
    assert find_source("scenes").crop == 18
    with pytest.raises(WavdiffError, match="'scenes' has the splits train and heldout, not validation"):
        open_source("scenes", "validation")
    with pytest.raises(
        WavdiffError, match="only 'faces' and 'fashion-mnist' have groups to leave out; 'scenes' was asked for"
    ):
        open_source("scenes", "train", validation=("s1",))
    with pytest.raises(WavdiffError, match="data.decoded_cache: is for folders of images, not for 'scenes'"):
        open_source("scenes", "train", decoded_cache=tmp_path)
    with pytest.raises(WavdiffError, match="names scenes, celeba, faces, fashion-mnist, a folder"):
        open_source("nowhere at all", "train")
    with pytest.raises(
        WavdiffError, match="for the sources scenes, celeba, faces, fashion-mnist; .* is a folder itself"
    ):
        open_source(str(tmp_path), "train", data_dir=tmp_path)
    with pytest.raises(WavdiffError, match="for the sources scenes, celeba, faces, fashion-mnist, not for 'hub:some'"):
        open_source("hub:some", "train", data_dir=tmp_path)


def test_a_new_row_trains_and_evaluates(
    scenes: None, tiny_config: Path, tiny_run: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    run, report = tmp_path / "run", tmp_path / "report"
    outcome = cli("train", "--config", tiny_config, "--data", "scenes", "--steps", 2, "--out", run)
    assert outcome.code == 0, outcome.err
    assert "on 8 images of scenes" in outcome.err
    assert "scenes: 8 images to train on, 3 held out. nobody" in (run / "model" / "README.md").read_text()
    pytest.importorskip("matplotlib")
    pytest.importorskip("skimage")
    options = ("--no-bm3d", "--sigmas", "0.1", "--factors", "", "--out", report)
    outcome = cli("evaluate", "--model", tiny_run, "--data", "scenes", *options)  # which was trained on other images
    assert outcome.code == 0, outcome.err
    assert "3 held-out images of scenes, 16x16" in (report / "evaluation.md").read_text()


@pytest.mark.parametrize(
    "name, crop, pad", [("celeba", None, False), ("faces", 92, False), ("fashion-mnist", None, True)]
)
def test_an_evaluation_knows_how_to_cut_a_source(name: str, crop: int | None, pad: bool) -> None:
    assert (find_source(name).crop, find_source(name).pad) == (crop, pad)


@pytest.mark.parametrize(
    "name, kind", [("hub:x", "hub"), ("a/b-{000..9}.tar", "shards"), ("shards", "shards"), ("pictures", "folder")]
)
def test_other_sources_are_recognised(name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "0.tar").touch()
    (tmp_path / "pictures").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_source(name).name == kind
