"""Data larger than memory: indices that are right, streams that go on where they stopped, memory that does not grow."""

import gc
import io
import itertools
import os
import sys
import tarfile
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_training import assert_same_tensors, interrupted, last, tiny

import wavdiff.data.sources.index as indexing
from wavdiff.data import count_images, images_from, open_source, source_digest
from wavdiff.data.cache import DecodedCache
from wavdiff.data.protocols import ArraySource, EncodedImage
from wavdiff.data.sources.index import Names, index_folder
from wavdiff.data.splits import heldout_below
from wavdiff.data.stream import read_ahead
from wavdiff.evaluation.drawn import _chosen
from wavdiff.models.cascade.training.standardisation import measure_rms
from wavdiff.system.errors import WavdiffError
from wavdiff.training.batches import open_data, training_batches
from wavdiff.training.config import RunConfig
from wavdiff.training.trainer import Trainer


def picture(seed: int, side: int = 20) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size=(side, side, 3), dtype=np.uint8)


def encoded(seed: int, kind: str = "png", side: int = 20) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture(seed, side)).save(file, format=kind)
    return file.getvalue()


def write_folder(folder: Path, count: int) -> None:
    for k in range(count):
        (folder / f"part{k % 3}").mkdir(parents=True, exist_ok=True)
        (folder / f"part{k % 3}" / f"{k:03d}.png").write_bytes(encoded(k))


def write_tar(file: Path, members: list[tuple[str, bytes]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def write_shard(file: Path, numbers: range) -> None:
    """Write numbered pictures, the odd ones as WebP, each with a .json file beside it."""
    members = []
    for k in numbers:
        kind = ("png", "webp")[k % 2]
        members += [(f"{k:04d}.{kind}", encoded(k, kind)), (f"{k:04d}.json", b"{}")]
    write_tar(file, members)


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four shards of 10, 11, 12 and 13 images."""
    folder = tmp_path_factory.mktemp("shards")
    first = 0
    for number in range(4):
        write_shard(folder / f"train-{number:04d}.tar", range(first, first + 10 + number))
        first += 10 + number
    return folder


@pytest.fixture(scope="session")
def hub_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 images in parquet files, without a split to hold out."""
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    folder = tmp_path_factory.mktemp("hub")
    for part in range(2):
        rows = [{"bytes": encoded(k), "path": None} for k in range(20 * part, 20 * part + 20)]
        table = datasets.Dataset.from_dict(
            {"label": list(range(20)), "photo": rows},
            features=datasets.Features({"label": datasets.Value("int64"), "photo": datasets.Image()}),
        )
        table.to_parquet(str(folder / f"train-{part}.parquet"))
    return folder


@pytest.fixture(params=["shards", "hub"])
def streamed(request: pytest.FixtureRequest) -> str:
    """The name of a small streamed set of data."""
    if request.param == "hub":
        return f"hub:{request.getfixturevalue('hub_folder')}"
    pytest.importorskip("webdataset")
    return str(request.getfixturevalue("shards"))


def counted_checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are opened to be checked, from now on."""
    checked: list[str] = []
    check = indexing.check_readable

    def counting(path: Path) -> None:
        checked.append(path.name)
        check(path)

    monkeypatch.setattr(indexing, "check_readable", counting)
    return checked


# --- the index -----------------------------------------------------------------------------------------------------


def test_an_index_is_built_once_and_only_changes_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path, 9)
    (tmp_path / "bad.png").write_bytes(b"no image")
    checked = counted_checks(monkeypatch)
    with pytest.warns(UserWarning, match="bad.png"):
        first = index_folder(tmp_path)
    assert len(checked) == 10 and len(first) == 9 and list(first.names) == sorted(first.names)
    checked.clear()
    with pytest.warns(UserWarning, match="bad.png"):  # known to be bad, and still said
        again = index_folder(tmp_path)
    assert checked == [] and again.digest == first.digest and list(again.names) == list(first.names)
    (tmp_path / "bad.png").unlink()
    (tmp_path / "new.png").write_bytes(encoded(99))
    (tmp_path / "part0" / "000.png").unlink()
    (tmp_path / "part1" / "001.png").write_bytes(encoded(77))
    changed = index_folder(tmp_path)
    assert sorted(checked) == ["001.png", "new.png"] and changed.digest != first.digest
    assert set(changed.names) == (set(first.names) | {"new.png"}) - {"part0/000.png"}
    checked.clear()
    assert index_folder(tmp_path).digest == changed.digest and checked == []
    os.utime(tmp_path / "new.png", ns=(1, 1))
    assert index_folder(tmp_path).digest == changed.digest and checked == ["new.png"]  # looked at, and found the same


def test_a_damaged_index_is_built_again(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAVDIFF_CACHE", str(tmp_path / "cache"))
    write_folder(tmp_path / "data", 5)
    digest = index_folder(tmp_path / "data").digest
    (file,) = (tmp_path / "cache" / "folders").iterdir()
    checked = counted_checks(monkeypatch)
    content = file.read_bytes()
    for damage in (b"", b"nonsense", content[: len(content) // 2], content[:200] + b"\xff" * 50 + content[250:]):
        checked.clear()
        file.write_bytes(damage)
        assert index_folder(tmp_path / "data").digest == digest and len(checked) == 5
    checked.clear()
    assert index_folder(tmp_path / "data").digest == digest and not checked


def test_a_cache_that_cannot_be_written_costs_only_the_caching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("WAVDIFF_CACHE", str(tmp_path / "file" / "below"))
    write_folder(tmp_path / "data", 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(index_folder(tmp_path / "data")) == len(index_folder(tmp_path / "data")) == 4


def test_names_are_kept_as_they_are() -> None:
    texts = ["a.png", "", "ü/日本.png", os.fsdecode(b"latin\xe9.png")]
    names = Names(texts)
    assert list(names) == texts and names[-1] == texts[-1] and names[1:3] == texts[1:3] and len(Names()) == 0
    with pytest.raises(IndexError):
        names[4]


def test_digests_tell_sources_apart(tmp_path: Path) -> None:
    write_folder(tmp_path, 12)
    train, held = open_source(str(tmp_path), "train"), open_source(str(tmp_path), "heldout")
    assert source_digest(train) != source_digest(held)
    assert source_digest(train) == source_digest(open_source(str(tmp_path), "train"))
    one, other = (ArraySource("arrays", "nobody", [picture(k)]) for k in (1, 2))
    assert source_digest(one) != source_digest(other) != None  # noqa: E711


def test_progress_is_told_when_it_takes_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(indexing.reported(range(3), "checking")) == [0, 1, 2] and capsys.readouterr().err == ""
    monkeypatch.setattr(indexing, "QUIET_SECONDS", 0.0)
    assert list(indexing.reported(range(3), "checking")) == [0, 1, 2]
    assert "checking: 0 of 3" in capsys.readouterr().err


# --- decoded images on disk ------------------------------------------------------------------------------------------


def test_decoded_images_come_from_disk_and_follow_their_files(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", 6)
    cache = tmp_path / "decoded"
    plain = open_source(str(tmp_path / "data"), "train", channels=3)
    kept = open_source(str(tmp_path / "data"), "train", channels=3, decoded_cache=cache)
    gray = open_source(str(tmp_path / "data"), "train", channels=1, decoded_cache=cache)
    for _ in range(2):
        for k in range(len(plain)):
            np.testing.assert_array_equal(plain[k], kept[k])
            assert gray[k].ndim == 2
    assert isinstance(kept[0], np.memmap)
    entries = sorted(cache.rglob("*.npy"))
    assert len(entries) == 2 * len(plain)
    for entry in entries:  # damaged: decoded again
        entry.write_bytes(entry.read_bytes()[:140])
    np.testing.assert_array_equal(plain[1], kept[1])
    file = tmp_path / "data" / kept.label(2)
    file.write_bytes(encoded(555))
    np.testing.assert_array_equal(kept[2], picture(555))
    file.write_bytes(b"gone")
    with pytest.warns(UserWarning, match=file.name):
        np.testing.assert_array_equal(kept[2], kept[3])


def test_a_decoded_cache_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WavdiffError, match="data.decoded_cache"):
        DecodedCache(tmp_path / "file" / "below")


def test_the_decoded_cache_changes_no_batch(pictures: Path, tmp_path: Path) -> None:
    for workers in (0, 2):
        configs = tiny(pictures), tiny(pictures, f"data.decoded_cache={tmp_path}", f"data.workers={workers}")
        for one, other in zip(batches(configs[0], 0, 4), batches(configs[1], 0, 4), strict=True):
            assert_same_tensors(one, other)


# --- streams ---------------------------------------------------------------------------------------------------------


def stream_config(name: str, *overrides: str) -> RunConfig:
    return tiny(Path("x"), f"data.name={name}", "data.shuffle_buffer=7", "training.batch_size=8", *overrides)


def batches(config: RunConfig, start: int, stop: int, rank: int = 0, processes: int = 1) -> list[dict]:
    source, _ = open_data(config)
    return list(training_batches(config, source, start=start, stop=stop, rank=rank, processes=processes))  # type: ignore[arg-type]


def first_images(name: str, count: int, start: int = 0, seed: int = 3) -> list[bytes]:
    stream = open_source(name, "train", channels=3, shuffle_buffer=7)
    return [image.data for image in itertools.islice(images_from(stream, seed, start), count)]  # type: ignore[arg-type]


def test_every_epoch_holds_every_image_once_and_none_that_is_held_out(streamed: str) -> None:
    held = open_source(streamed, "heldout", channels=3)
    apart = {held[k].tobytes() for k in range(len(held))}
    everything = {picture(k).tobytes() for k in range(46 if "hub:" not in streamed else 40)}
    per_epoch = len(everything) - len(apart)
    run = first_images(streamed, 2 * per_epoch)
    epochs = [
        [np.array(Image.open(io.BytesIO(data))).tobytes() for data in run[at : at + per_epoch]] for at in (0, per_epoch)
    ]
    assert 1 <= len(apart) == len(held) < per_epoch
    for epoch in epochs:
        assert len(set(epoch)) == per_epoch and not set(epoch) & apart
    assert len(set(epochs[0]) ^ set(epochs[1])) == 0 and epochs[0] != epochs[1]
    if "hub:" in streamed:  # webp loses
        assert set(epochs[0]) | apart == everything
    assert first_images(streamed, 20, seed=4) != run[:20]


def test_a_stream_goes_on_at_any_position(streamed: str) -> None:
    run = first_images(streamed, 130)
    for start in (1, 7, 20, 36, 41, 42, 83, 110):
        assert first_images(streamed, 10, start) == run[start : start + 10], start


def test_stream_batches_do_not_depend_on_workers_processes_and_interruptions(streamed: str) -> None:
    config = stream_config(streamed, "data.augmentation.shift=0.1")
    alone = batches(config, 0, 8)
    for one, other in zip(
        alone, batches(stream_config(streamed, "data.augmentation.shift=0.1", "data.workers=2"), 0, 8), strict=True
    ):
        assert_same_tensors(one, other)
    for one, other in zip(alone[5:], batches(config, 5, 8), strict=True):
        assert_same_tensors(one, other)
    ranks = [batches(config, 0, 8, rank, 2) for rank in range(2)]
    for whole, *parts in zip(alone, *ranks, strict=True):
        labels = whole.pop("label")
        assert labels == [label for pair in zip(*(part["label"] for part in parts), strict=True) for label in pair]
        for name, value in whole.items():
            assert torch.equal(torch.stack([part[name] for part in parts], dim=1).flatten(0, 1), value), name


def test_a_run_on_shards_continues_bit_for_bit(shards: Path, tmp_path: Path) -> None:
    config = stream_config(str(shards), "training.steps=4", "training.log_every=1", "training.checkpoint_every=2")
    model = Trainer(config, tmp_path / "whole").run()
    interrupted(config, tmp_path / "parts", 3)
    Trainer(config, tmp_path / "parts").run()
    for one, other in zip(last(tmp_path / "whole")[:3], last(tmp_path / "parts")[:3], strict=True):
        assert_same_tensors(one, other)
    assert "images to train on" in (model / "README.md").read_text()


def test_the_rms_of_a_stream_is_that_of_its_images(shards: Path, tmp_path: Path) -> None:
    stream = open_source(str(shards), "train")
    for number, image in enumerate(stream.epoch(0, 0)):  # type: ignore[union-attr]
        (tmp_path / "train").mkdir(exist_ok=True)
        (tmp_path / "train" / f"{number:03d}{Path(image.label).suffix}").write_bytes(image.data)
    write_folder(tmp_path / "val", 1)
    config = stream_config(str(shards))
    low, details = measure_rms(stream, config)
    same_low, same_details = measure_rms(open_source(str(tmp_path), "train"), config)
    assert low == pytest.approx(same_low, abs=2e-6) and details == pytest.approx(same_details, abs=2e-6)


def test_reports_compare_with_images_of_a_stream(shards: Path) -> None:
    stream, settings = open_source(str(shards), "train"), stream_config(str(shards)).example_settings
    chosen = _chosen(stream, 1000, settings)
    assert len(chosen) == count_images(stream) and torch.equal(_chosen(stream, 5, settings), chosen[:5])


def test_reading_ahead_keeps_order_and_errors_and_stops() -> None:
    made: list[int] = []

    def images():
        for k in range(1000):
            made.append(k)
            if k == 500:
                raise WavdiffError("image 500 is bad")
            yield EncodedImage(b"", str(k))

    labels = [image.label for image in itertools.islice(read_ahead(images(), 4), 100)]
    assert labels == [str(k) for k in range(100)] and len(made) < 120
    with pytest.raises(WavdiffError, match="image 500"):
        list(read_ahead(images(), 4))


# --- shards ----------------------------------------------------------------------------------------------------------


def test_shards_by_pattern_and_by_folder_are_the_same(shards: Path) -> None:
    streams = [
        open_source(name, "train") for name in (f"{shards}/train-{{0000..0003}}.tar", f"{shards}/*.tar", str(shards))
    ]
    assert len({source_digest(stream) for stream in streams}) == 1 and count_images(streams[0]) == count_images(
        streams[2]
    )
    with pytest.raises(WavdiffError, match="train-0004.tar: no such shard"):
        open_source(f"{shards}/train-{{0003..0004}}.tar", "train")
    with pytest.raises(WavdiffError, match="decoded_cache"):
        open_source(str(shards), "train", decoded_cache=shards)


def test_shards_in_train_and_val_are_split_as_they_say(tmp_path: Path) -> None:
    write_shard(tmp_path / "train" / "a.tar", range(6))
    write_shard(tmp_path / "val" / "a.tar", range(6, 10))
    assert count_images(open_source(str(tmp_path), "train")) == 6
    held = open_source(str(tmp_path), "heldout", channels=3)
    assert len(held) == 4 and held.label(0) == "a.tar/0006.png"
    np.testing.assert_array_equal(held[0], picture(6))


def test_held_out_ranks_are_a_tenth_and_never_nothing_or_all() -> None:
    ranks = np.random.default_rng(0).integers(0, 2**64, size=5000, dtype=np.uint64)
    assert abs((ranks < heldout_below(ranks)).mean() - 0.1) < 0.02
    for few in (ranks[:2], np.array([2**63, 2**63 + 1], np.uint64), np.array([1, 2, 3], np.uint64)):
        assert 1 <= sum(rank < heldout_below(few) for rank in few.tolist()) < len(few)
    assert heldout_below(ranks[:1]) == 0


def test_damaged_shards_and_members_are_named_and_replaced(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", range(20))
    write_shard(tmp_path / "b.tar", range(20, 40))
    name = str(tmp_path / "{a,b}.tar")
    config = stream_config(name)
    length = count_images(open_source(name, "train"))
    for file in ("a.tar", "b.tar"):
        content = (tmp_path / file).read_bytes()
        if file == "a.tar":  # cut off
            (tmp_path / file).write_bytes(content[: len(content) // 2])
        else:  # one image overwritten, the archive whole
            with tarfile.open(tmp_path / file) as archive:
                at = archive.getmember("0024.png").offset_data
            (tmp_path / file).write_bytes(content[:at] + b"?" * 200 + content[at + 200 :])
    with pytest.warns(UserWarning) as caught:
        source, _ = open_data(config)
        got = list(training_batches(config, source, start=0, stop=6))
    said = " ".join(str(warning.message) for warning in caught)
    assert "a.tar" in said and "0024.png" in said and "replaced by another image" in said
    assert len(got) == 6 and all(bool(torch.isfinite(batch["image"]).all()) for batch in got)
    assert 10 < (count_images(source) or 0) < (length or 0)  # the end of a.tar is not counted
    (tmp_path / "b.tar").unlink()  # during the run: the positions stay what they are
    with pytest.warns(UserWarning, match="b.tar"):
        assert len(list(training_batches(config, source, start=0, stop=6))) == 6


def test_shards_without_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"no archive")
    with pytest.warns(UserWarning, match="a.tar"), pytest.raises(WavdiffError, match="no image to train on"):
        open_source(str(tmp_path), "train")


def test_missing_libraries_are_named(shards: Path, hub_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "webdataset", None)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(WavdiffError, match=r'pip install "wavdiff\[shards\]"'):
        open_source(str(shards), "train")
    with pytest.raises(WavdiffError, match=r'pip install "wavdiff\[hub\]".*by hand'):
        open_source(f"hub:{hub_folder}", "train")


# --- the hub ---------------------------------------------------------------------------------------------------------


def test_a_data_set_that_cannot_be_had_says_how_to_provide_it(
    monkeypatch: pytest.MonkeyPatch, hub: dict[str, Exception]
) -> None:
    def offline(name: str, subset: str | None, streaming: bool) -> None:
        assert (name, subset, streaming) == ("somebody/pictures", "small", True)
        raise ConnectionError("no network")

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=offline))
    with pytest.raises(WavdiffError, match="no network.*copy its files .* write hub:FOLDER"):
        open_source("hub:somebody/pictures#small", "train")


def test_a_folder_of_images_through_datasets_with_its_own_held_out_split(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    for k in range(8):
        place = tmp_path / ("train" if k < 5 else "test")
        place.mkdir(exist_ok=True)
        (place / f"{k}.png").write_bytes(encoded(k))
    train, held = (open_source(f"hub:{tmp_path}", split, channels=3) for split in ("train", "heldout"))
    assert len(held) == 3 and count_images(train) is None  # type: ignore[arg-type]
    assert {held[k].tobytes() for k in range(3)} == {picture(k).tobytes() for k in range(5, 8)}
    assert sorted(Path(image.label).name for image in train.epoch(0, 0)) == [f"{k}.png" for k in range(5)]  # type: ignore[union-attr]
    digest = source_digest(train)
    (tmp_path / "train" / "9.png").write_bytes(encoded(9))
    assert source_digest(open_source(f"hub:{tmp_path}", "train")) != digest


def test_data_sets_without_training_images_are_refused(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_dict({"text": ["a", "b"]}).to_parquet(str(tmp_path / "train.parquet"))
    with pytest.raises(WavdiffError, match="no column of images, only text"):
        open_source(f"hub:{tmp_path}", "train")


# --- memory ----------------------------------------------------------------------------------------------------------


def resident_bytes() -> int:
    """Memory of this process, bytes."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="needs Linux's /proc")
@pytest.mark.parametrize("kind", ["folder", "shards", "hub"])
def test_memory_does_not_grow_with_the_number_of_batches(kind: str, tmp_path: Path) -> None:
    pytest.importorskip({"folder": "torch", "shards": "webdataset", "hub": "datasets"}[kind])
    files = [encoded(k, side=200) for k in range(12)]  # 120 kB each: 240 of them kept would be 29 MB
    if kind == "shards":
        write_tar(tmp_path / "a.tar", [(f"{k}.png", data) for k, data in enumerate(files)])
    else:
        for k, data in enumerate(files):
            (tmp_path / f"{k}.png").write_bytes(data)
    config = stream_config(f"hub:{tmp_path}" if kind == "hub" else str(tmp_path))
    source, _ = open_data(config)
    feed = training_batches(config, source, start=0, stop=41)
    for _ in range(10):
        next(feed)
    before = resident_bytes()
    for _ in range(30):
        next(feed)
    grown = resident_bytes() - before
    assert grown < 12e6, f"{grown:,} bytes in 30 batches of 8"
