"""Files to tensors and back, without losing or inventing anything."""

import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
import torch
from picture_files import image_of_mode
from PIL import Image

from wavdiff.images import (
    LoadedImage,
    check_output_path,
    check_readable,
    image_grid,
    load_image,
    open_picture,
    read_pixels,
    resize,
    resize_crop,
    save_image,
    to_pil,
)
from wavdiff.system.errors import WavdiffError


def noise(*shape: int, high: int = 256, dtype: type = np.uint8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, high, size=shape).astype(dtype)


def write(path: Path, array: np.ndarray, **options: object) -> Path:
    Image.fromarray(array).save(path, **options)
    return path


def as_levels(pixels: torch.Tensor, maximum: int = 255) -> np.ndarray:
    return ((pixels.double() + 1) * maximum / 2).round().numpy().astype(np.int64)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp", "ppm"])
def test_rgb_round_trip_is_exact(tmp_path: Path, suffix: str) -> None:
    array = noise(13, 17, 3)
    array[0, 0], array[0, 1] = 0, 255
    loaded = load_image(write(tmp_path / "a.png", array))
    assert loaded.pixels.dtype == torch.float32 and loaded.pixels.shape == (3, 13, 17)
    assert loaded.pixels.min() == -1 and loaded.pixels.max() == 1
    save_image(tmp_path / f"b.{suffix}", loaded.pixels, loaded)
    np.testing.assert_array_equal(read_pixels(tmp_path / f"b.{suffix}"), array)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "pgm"])
def test_every_gray_level_survives(tmp_path: Path, suffix: str) -> None:
    array = np.arange(256, dtype=np.uint8).reshape(16, 16)
    loaded = load_image(write(tmp_path / "a.png", array))
    assert (loaded.mode, loaded.bits, loaded.alpha) == ("L", 8, None)
    save_image(tmp_path / f"b.{suffix}", loaded.pixels, loaded)
    np.testing.assert_array_equal(read_pixels(tmp_path / f"b.{suffix}"), array)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_gray_keeps_all_levels(tmp_path: Path, suffix: str) -> None:
    array = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    loaded = load_image(write(tmp_path / f"a.{suffix}", array))
    assert loaded.bits == 16
    np.testing.assert_array_equal(as_levels(loaded.pixels[0], 65535), array)
    save_image(tmp_path / f"b.{suffix}", loaded.pixels, loaded)
    with Image.open(tmp_path / f"b.{suffix}") as image:
        assert image.mode.startswith("I")
        np.testing.assert_array_equal(np.array(image), array)
    eight = read_pixels(tmp_path / f"b.{suffix}")
    np.testing.assert_array_equal(eight, np.round(array / 257.0).astype(np.uint8))


def test_16_bit_gray_becomes_8_bits_where_the_format_has_no_more(tmp_path: Path) -> None:
    loaded = load_image(write(tmp_path / "a.png", noise(8, 8, high=65536, dtype=np.uint16)))
    save_image(tmp_path / "b.bmp", loaded.pixels, loaded)
    assert load_image(tmp_path / "b.bmp").bits == 8


@pytest.mark.parametrize("shape", [(9, 7, 4), (9, 7, 2)])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_transparency_is_kept_apart_and_put_back(tmp_path: Path, shape: tuple[int, ...], suffix: str) -> None:
    array = noise(*shape)
    loaded = load_image(write(tmp_path / f"a.{suffix}", array))
    assert loaded.alpha is not None and loaded.alpha.shape == (1, 9, 7)
    np.testing.assert_allclose(loaded.alpha[0].numpy(), array[..., -1] / 255, atol=1e-6)
    np.testing.assert_array_equal(as_levels(loaded.pixels), array[..., :-1].transpose(2, 0, 1))
    save_image(tmp_path / f"b.{suffix}", loaded.pixels, loaded)
    with Image.open(tmp_path / f"b.{suffix}") as image:
        np.testing.assert_array_equal(np.array(image), array)


def test_transparency_grows_with_the_picture(tmp_path: Path) -> None:
    array = noise(8, 8, 4)
    array[..., 3] = 128
    loaded = load_image(write(tmp_path / "a.png", array))
    save_image(tmp_path / "b.png", torch.zeros(3, 16, 24), loaded)
    alpha = load_image(tmp_path / "b.png").alpha
    assert alpha is not None and alpha.shape == (1, 16, 24)
    torch.testing.assert_close(alpha, torch.full_like(alpha, 128 / 255))


def test_transparent_pixels_show_white_in_training(tmp_path: Path) -> None:
    array = np.zeros((2, 2, 4), dtype=np.uint8)
    array[0, :, 3] = 255
    pixels = read_pixels(write(tmp_path / "a.png", array))
    assert (pixels[0] == 0).all() and (pixels[1] == 255).all() and pixels.shape == (2, 2, 3)
    gray = read_pixels(write(tmp_path / "b.png", array[..., 2:]))
    assert gray.shape == (2, 2) and (gray[1] == 255).all()


def unless_pillow_cannot(mode: str) -> Any:
    """Pillow 12 cannot read the YCbCr TIFF files that it writes."""
    old = mode == "YCbCr" and int(PIL.__version__.split(".")[0]) < 13
    return pytest.param(mode, marks=pytest.mark.skipif(old, reason="Pillow 12 cannot read its own YCbCr TIFF files"))


@pytest.mark.parametrize("mode", map(unless_pillow_cannot, ["1", "L", "P", "RGB", "CMYK", "YCbCr", "LA", "RGBA", "PA"]))
def test_every_mode_has_one_or_three_channels(tmp_path: Path, mode: str) -> None:
    suffix = "tif" if mode in ("CMYK", "YCbCr", "PA") else "png"
    source = Image.fromarray(noise(12, 10, 3))
    Image.Image.save(source.convert(mode), tmp_path / f"a.{suffix}")
    loaded = load_image(tmp_path / f"a.{suffix}")
    channels = 1 if mode in ("1", "L", "LA") else 3
    assert loaded.pixels.shape == (channels, 12, 10)
    assert loaded.pixels.abs().max() <= 1
    assert loaded.bits == 8
    pixels = read_pixels(tmp_path / f"a.{suffix}")
    assert pixels.dtype == np.uint8 and pixels.shape == ((12, 10) if channels == 1 else (12, 10, 3))


def test_palette_with_a_transparent_entry(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putdata([0, 1])
    image.save(tmp_path / "a.png", transparency=1)
    loaded = load_image(tmp_path / "a.png")
    assert loaded.alpha is not None and loaded.alpha.flatten().tolist() == [1, 0]
    assert loaded.pixels[:, 0, 0].tolist() == [1, -1, -1]


@pytest.mark.parametrize(
    "orientation, expected",
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (6, lambda a: np.rot90(a, -1)),
        (8, lambda a: np.rot90(a)),
    ],
)
def test_exif_orientation_is_applied_and_not_written_again(tmp_path: Path, orientation: int, expected) -> None:
    array = noise(6, 9)
    exif = Image.Exif()
    exif[0x0112] = orientation
    loaded = load_image(write(tmp_path / "a.png", array, exif=exif))
    np.testing.assert_array_equal(as_levels(loaded.pixels[0]), expected(array))
    np.testing.assert_array_equal(read_pixels(tmp_path / "a.png"), expected(array))
    save_image(tmp_path / "b.png", loaded.pixels, loaded)
    np.testing.assert_array_equal(read_pixels(tmp_path / "b.png"), expected(array))


def test_icc_profile_is_carried_along_for_equal_channels_only(tmp_path: Path) -> None:
    profile = b"a profile that nobody interprets"
    loaded = load_image(write(tmp_path / "a.png", noise(4, 4, 3), icc_profile=profile))
    assert loaded.icc_profile == profile
    save_image(tmp_path / "b.png", loaded.pixels, loaded)
    assert load_image(tmp_path / "b.png").icc_profile == profile
    save_image(tmp_path / "c.png", loaded.pixels[:1], loaded)
    assert load_image(tmp_path / "c.png").icc_profile is None


def test_cmyk_profile_is_void_after_conversion(tmp_path: Path) -> None:
    Image.new("CMYK", (4, 4)).save(tmp_path / "a.jpg", icc_profile=b"for CMYK")
    assert load_image(tmp_path / "a.jpg").icc_profile is None


@pytest.mark.parametrize(
    "mode, suffix", [("L", "png"), ("LA", "tif"), ("RGB", "jpg"), ("RGBA", "webp"), ("I;16", "png")]
)
def test_whole_pictures_are_read_as_rectangles_are(tmp_path: Path, mode: str, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image_of_mode(mode).save(tmp_path / f"a.{suffix}", exif=exif)
    loaded = load_image(tmp_path / f"a.{suffix}")
    with open_picture(tmp_path / f"a.{suffix}") as reader:
        planes = reader.read_all()
    assert torch.equal(loaded.pixels, planes.colour) and (loaded.alpha is None) == (planes.alpha is None)
    if planes.alpha is not None:
        assert loaded.alpha is not None and torch.equal(loaded.alpha, planes.alpha)


def damaged_png(path: Path) -> Path:
    write(path, noise(64, 64, 3))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def animated(path: Path) -> Path:
    frames = [Image.fromarray(noise(8, 8, 3, seed=k)) for k in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    return path


def huge_png(path: Path) -> Path:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def content(value: bytes):
    def make(path: Path) -> Path:
        path.write_bytes(value)
        return path

    return make


@pytest.mark.parametrize(
    "name, make, rule",
    [
        ("missing.png", lambda path: path, "no such file"),
        ("folder.png", folder, "is a folder"),
        ("empty.png", content(b""), "empty"),
        ("text.png", content(b"hello, world"), "not an image"),
        ("script.png", content(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "not an image"),
        ("half.png", damaged_png, "damaged"),
        ("huge.png", huge_png, "too many pixels"),
        ("moving.gif", animated, "holds 3 pictures"),
        ("moving.png", animated, "holds 3 pictures"),
        ("moving.webp", animated, "holds 3 pictures"),
        ("pages.tif", animated, "holds 3 pictures"),
        ("float.tif", lambda path: write(path, np.ones((4, 4), dtype=np.float32)), "floating-point"),
        ("deep.tif", lambda path: write(path, np.full((4, 4), 70_000, dtype=np.int32)), "within 16 bits"),
    ],
)
@pytest.mark.parametrize("read", [load_image, read_pixels])
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, make, rule: str, read) -> None:
    path = make(tmp_path / name)
    with pytest.raises(WavdiffError, match=rule) as caught:
        read(path)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_check_readable_needs_no_decoding(tmp_path: Path) -> None:
    check_readable(write(tmp_path / "a.png", noise(4, 4)))
    with pytest.raises(WavdiffError, match="half.png"):
        check_readable(damaged_png(tmp_path / "half.png"))


def test_phone_photographs_with_a_second_picture_are_read(tmp_path: Path) -> None:
    first, second = (Image.fromarray(noise(16, 16, 3, seed=k)) for k in range(2))
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[second])
    assert load_image(tmp_path / "a.jpg").pixels.shape == (3, 16, 16)


def test_values_outside_the_range_are_limited_and_rounded(tmp_path: Path) -> None:
    values = torch.tensor([[[-3.0, -1.0, 0.0, 1.0, 3.0, 2 * 100.4 / 255 - 1]]])
    save_image(tmp_path / "a.png", values)
    assert read_pixels(tmp_path / "a.png").tolist() == [[0, 0, 128, 255, 255, 100]]


def test_saving_leaves_one_file_with_ordinary_permissions(tmp_path: Path) -> None:
    save_image(tmp_path / "deep" / "er" / "a.png", torch.zeros(3, 4, 4))
    assert [p.name for p in (tmp_path / "deep" / "er").iterdir()] == ["a.png"]
    reference = tmp_path / "reference"
    reference.touch()
    assert os.stat(tmp_path / "deep" / "er" / "a.png").st_mode == os.stat(reference).st_mode


def test_an_interrupted_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    save_image(path, torch.zeros(1, 4, 4))
    before = path.read_bytes()

    def interrupted(self: Image.Image, file, **options: object) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_image(path, torch.ones(1, 4, 4))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_a_full_disk_is_the_users_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Image.Image, file, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(WavdiffError, match=r"a\.png.*No space left"):
        save_image(tmp_path / "a.png", torch.zeros(1, 4, 4))
    assert list(tmp_path.iterdir()) == []


def test_the_output_path_is_checked_before_the_work(tmp_path: Path) -> None:
    like = LoadedImage(torch.zeros(3, 2, 2), torch.ones(1, 2, 2), "RGBA", 8, None)
    check_output_path(tmp_path / "a.PNG", like)
    check_output_path(tmp_path / "a.jpg")
    with pytest.raises(WavdiffError, match="cannot hold the transparency"):
        check_output_path(tmp_path / "a.jpg", like)
    with pytest.raises(WavdiffError, match=r"must end in one of .*'\.xyz'"):
        save_image(tmp_path / "a.xyz", torch.zeros(1, 2, 2))
    (tmp_path / "b.png").mkdir()
    with pytest.raises(WavdiffError, match="is a folder"):
        save_image(tmp_path / "b.png", torch.zeros(1, 2, 2))
    (tmp_path / "file").touch()
    with pytest.raises(WavdiffError, match="cannot be written"):
        save_image(tmp_path / "file" / "a.png", torch.zeros(1, 2, 2))


def test_wrong_tensors_are_refused() -> None:
    with pytest.raises(WavdiffError, match=r"\(2, 4, 4\)"):
        to_pil(torch.zeros(2, 4, 4))
    with pytest.raises(WavdiffError, match="NaN"):
        to_pil(torch.full((1, 4, 4), torch.nan))
    with pytest.raises(WavdiffError, match="mode must be one of RGB"):
        to_pil(torch.zeros(3, 4, 4), mode="I;16")
    with pytest.raises(WavdiffError, match="alpha"):
        to_pil(torch.zeros(3, 4, 4), torch.ones(1, 5, 4))


def test_grid_places_every_picture() -> None:
    batch = torch.linspace(-1, 0.5, 5)[:, None, None, None].expand(5, 3, 4, 6)
    grid = image_grid(batch, columns=3, padding=2)
    assert grid.shape == (3, 2 * 6 + 2, 3 * 8 + 2)
    for index in range(5):
        top, left = 2 + 6 * (index // 3), 2 + 8 * (index % 3)
        assert torch.equal(grid[:, top : top + 4, left : left + 6], batch[index])
    covered = 5 * 4 * 6
    assert (grid[0] == 1).sum() == grid[0].numel() - covered
    assert image_grid(batch, padding=0).shape == (3, 8, 18)
    with pytest.raises(WavdiffError, match="batch"):
        image_grid(batch[:0])
    with pytest.raises(WavdiffError, match="columns"):
        image_grid(batch, columns=0)


def test_resize_keeps_constants_and_means() -> None:
    pixels = torch.from_numpy(noise(2, 3, 8, 12).astype(np.float32))
    half = resize(pixels, (4, 6), "box")
    torch.testing.assert_close(half, torch.nn.functional.avg_pool2d(pixels, 2))
    for method in ("bicubic", "lanczos", "box"):
        constant = resize(torch.full((1, 5, 7), 0.3), (11, 13), method)
        torch.testing.assert_close(constant, torch.full((1, 11, 13), 0.3))
    with pytest.raises(WavdiffError, match="method"):
        resize(pixels, (4, 4), "nearest")  # type: ignore[arg-type]
    with pytest.raises(WavdiffError, match="0 x 4"):
        resize(pixels, (0, 4))


def test_resize_crop_is_pillows() -> None:
    array = noise(20, 30, 3)
    expected = Image.fromarray(array).crop((5, 3, 21, 19)).resize((8, 8), Image.Resampling.LANCZOS)
    actual = resize_crop(array, (5, 3, 21, 19), (8, 8))
    # A box may look over its own border where a crop cannot; inside they are one.
    np.testing.assert_array_equal(actual[3:-3, 3:-3], np.array(expected)[3:-3, 3:-3])
