"""What comes in goes out: the same mode, depth, profile, resolution and notes, through both decoders and encoders."""

import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pyvips
import torch
from picture_files import ALL_PATHS, BOTH, HEIGHT, WIDTH, copy, image_of_mode, noise, shown, smooth, write_png
from PIL import Image

from wavdiff.images import PictureInfo, Planes, create_picture, from_pil, open_picture, read_info, to_pil_like
from wavdiff.images.codecs.palette import choose_palette
from wavdiff.images.rectangle import Rectangle
from wavdiff.system.errors import WavdiffError

KINDS = {
    "png": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"],
    "tif": ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "I;16", "I;16B", "I"],
    "ppm": ["RGB"],
    "pgm": ["L", "I;16"],
    "bmp": ["1", "L", "P", "RGB"],
    "webp": ["RGB", "RGBA"],
    "gif": ["L", "P"],
}


@pytest.mark.parametrize("spools", ALL_PATHS)
@pytest.mark.parametrize("suffix, mode", [(suffix, mode) for suffix, modes in KINDS.items() for mode in modes])
def test_every_kind_comes_out_as_it_went_in(tmp_path: Path, suffix: str, mode: str, spools: tuple[int, int]) -> None:
    options = {"lossless": True, "exact": True} if suffix == "webp" else {"dpi": (300, 150)}
    image_of_mode(mode).save(tmp_path / f"a.{suffix}", **options)
    info = copy(tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}", spools)
    assert info.size == (HEIGHT, WIDTH)
    with Image.open(tmp_path / f"a.{suffix}") as before, Image.open(tmp_path / f"b.{suffix}") as after:
        assert after.mode == before.mode
        np.testing.assert_array_equal(shown(after), shown(before))
        assert after.info.get("dpi") == before.info.get("dpi")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"a.{suffix}", f"b.{suffix}"]


@pytest.mark.parametrize("spool", BOTH)
@pytest.mark.parametrize(
    "suffix, mode",
    [("png", "LA"), ("png", "RGB"), ("png", "RGBA"), ("tif", "RGB"), ("tif", "RGBA"), ("tif", "CMYK"), ("ppm", "RGB")],
)
def test_16_bit_colour_keeps_all_levels(tmp_path: Path, suffix: str, mode: str, spool: int) -> None:
    meaning = {"LA": "grey16", "CMYK": "cmyk"}.get(mode, "rgb16")
    if (
        (suffix == "ppm" and mode != "RGB")
        or (suffix == "png" and mode == "CMYK")
        or (suffix == "tif" and mode == "LA")
    ):
        pytest.skip("the format does not have it, or neither library reads it")
    array = noise(HEIGHT, WIDTH, len(mode), high=65536, dtype=np.uint16)
    source, target = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    if suffix == "ppm":
        source.write_bytes(f"P6\n{WIDTH} {HEIGHT}\n65535\n".encode() + array.astype(">u2").tobytes())
    else:
        memory = pyvips.Image.new_from_memory(array.data, WIDTH, HEIGHT, len(mode), "ushort")
        memory.copy(interpretation=meaning).write_to_file(str(source))
    info = copy(source, target, (spool, spool))
    assert (info.mode, info.bits, info.bands) == (f"{mode};16", 16, len(mode))
    if suffix == "ppm":
        assert target.read_bytes() == source.read_bytes()
    else:
        np.testing.assert_array_equal(pyvips.Image.new_from_file(str(target)).numpy(), array)
    with Image.open(target) as image:  # Pillow sees the upper 8 bits of the same picture
        assert image.size == (WIDTH, HEIGHT)


@pytest.mark.parametrize("name", ["rgb", "gray"])
def test_a_transparent_colour_of_16_bits_becomes_opacity(tmp_path: Path, name: str) -> None:
    channels = 3 if name == "rgb" else 1
    array = noise(5, 4, channels, high=65536, dtype=">u2")  # type: ignore[arg-type]
    raw = b"".join(b"\0" + row.tobytes() for row in array)
    header = struct.pack(">IIBBBBB", 4, 5, 16, 2 if channels == 3 else 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"tRNS", array[2, 3].tobytes()), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    write_png(tmp_path / "a.png", chunks)
    with open_picture(tmp_path / "a.png") as reader:
        bands = reader.read_bands(Rectangle(0, 5, 0, 4))
    np.testing.assert_array_equal(bands[..., :channels], array)
    expected = np.full((5, 4), 65535)
    expected[2, 3] = 0
    np.testing.assert_array_equal(bands[..., channels], expected)


def test_cmyk_is_light_in_the_colours_and_a_key_beside_them(tmp_path: Path) -> None:
    inks = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 255, 255, 51]]], dtype=np.uint8)
    Image.frombytes("CMYK", (3, 1), inks.tobytes()).save(tmp_path / "a.tif")
    with open_picture(tmp_path / "a.tif") as reader:
        planes = reader.read_all()
    assert planes.colour[:, 0].T.tolist() == [[1, 1, 1], [-1, 1, 1], [1, -1, -1]]
    assert planes.key is not None
    torch.testing.assert_close(planes.key, torch.tensor([[[1.0, 1.0, 0.6]]]))


@pytest.mark.parametrize("spools", ALL_PATHS)
@pytest.mark.parametrize("has_mark", [True, False])
def test_cmyk_jpeg_keeps_inks_and_profile(tmp_path: Path, spools: tuple[int, int], has_mark: bool) -> None:
    profile = b"a profile of inks" * 9000  # of several segments
    image = Image.frombytes("CMYK", (64, 48), smooth(4).tobytes())
    image.save(tmp_path / "a.jpg", quality=95, subsampling=0, icc_profile=profile, dpi=(240, 240))
    if not has_mark:  # without Adobe's segment inks are not inverted in the file
        content = (tmp_path / "a.jpg").read_bytes()
        start = content.index(b"\xff\xee")
        end = start + 2 + int.from_bytes(content[start + 2 : start + 4], "big")
        (tmp_path / "a.jpg").write_bytes(content[:start] + content[end:])
    info = copy(tmp_path / "a.jpg", tmp_path / "b.jpg", spools)
    assert (info.mode, info.channels, info.has_key, info.icc_profile) == ("CMYK", 3, True, profile)
    with Image.open(tmp_path / "a.jpg") as before, Image.open(tmp_path / "b.jpg") as after:
        assert (after.mode, after.info["dpi"], after.info["icc_profile"]) == ("CMYK", (240, 240), profile)
        assert np.abs(np.array(after).astype(int) - np.array(before).astype(int)).max() <= 2


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "I;16", "I;16B", "I"]
)
def test_pillow_images_in_memory_keep_their_mode(mode: str) -> None:
    image = image_of_mode(mode)
    image.info.update(icc_profile=b"profile", dpi=(96, 96), exif=b"Exif\0\0II*\0")
    planes, info = from_pil(image)
    assert planes.colour.shape == (info.channels, HEIGHT, WIDTH)
    back = to_pil_like(planes, info)
    assert back.mode == mode
    np.testing.assert_array_equal(shown(back), shown(image))
    assert {key: back.info[key] for key in image.info if key != "transparency"} == image.info
    large = Planes(
        *(None if p is None else p.repeat_interleave(2, -1) for p in (planes.colour, planes.alpha, planes.key))
    )  # type: ignore[arg-type]
    assert to_pil_like(large, info).size == (2 * WIDTH, HEIGHT)


@pytest.mark.parametrize("mode", ["YCbCr", "HSV"])
def test_other_colour_spaces_come_back_within_their_own_rounding(mode: str) -> None:
    image = Image.fromarray(smooth(3)).convert(mode)
    planes, info = from_pil(image)
    back = to_pil_like(planes, info)
    assert back.mode == mode
    seen = [np.array(x.convert("RGB")).astype(int) for x in (image, back)]
    assert np.abs(seen[0] - seen[1]).max() <= (3 if mode == "YCbCr" else 6)


def test_what_is_no_light_per_channel_is_refused(tmp_path: Path) -> None:
    for image, rule in ((Image.new("F", (2, 2)), "floating-point"), (Image.new("LAB", (2, 2)), "LAB")):
        image.save(tmp_path / "a.tif")
        with pytest.raises(WavdiffError, match=rule):
            from_pil(image)
        with pytest.raises(WavdiffError, match=f"a.tif.*{rule}"):
            open_picture(tmp_path / "a.tif")


class TestPalettes:
    def test_a_changed_picture_gets_the_best_256_colours(self, tmp_path: Path) -> None:
        array = smooth(3)
        Image.fromarray(array).quantize(256).save(tmp_path / "a.png")
        planes = Planes(torch.from_numpy(array).permute(2, 0, 1) / 127.5 - 1)
        with create_picture(tmp_path / "b.png", replace(read_info(tmp_path / "a.png"), size=(48, 64))) as writer:
            writer.write_all(planes)
        with Image.open(tmp_path / "b.png") as image:
            assert image.mode == "P" and len(image.getcolors() or []) <= 256
            error = ((np.array(image.convert("RGB")).astype(float) - array) ** 2).mean()
        median_cut = Image.fromarray(array).quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        assert error < ((np.array(median_cut.convert("RGB")).astype(float) - array) ** 2).mean()

    def test_opacity_takes_part_and_what_is_not_seen_costs_nothing(self) -> None:
        array = np.concatenate([smooth(3), np.full((48, 64, 1), 255, np.uint8)], axis=-1)
        array[:24, :, 3] = 0
        array[:24, :, :3] = noise(24, 64, 3)
        palette = choose_palette([array], PictureInfo((48, 64), 3, "P", has_alpha=True))
        assert (palette.colours[:, 3] == 0).sum() == 1
        result = np.array(palette.image(array).convert("RGBA"))
        np.testing.assert_array_equal(result[..., 3], array[..., 3])

    def test_gray_palettes_are_one_channel_and_stay_gray(self, tmp_path: Path) -> None:
        image = Image.fromarray(noise(9, 9, high=40)).convert("P")
        image.putpalette([v for gray in range(256) for v in 3 * [(gray * 7) % 256]])
        image.save(tmp_path / "a.gif")
        with open_picture(tmp_path / "a.gif") as reader:
            assert (reader.info.channels, reader.info.mode) == (1, "P")
        copy(tmp_path / "a.gif", tmp_path / "b.gif")
        with Image.open(tmp_path / "b.gif") as back:
            np.testing.assert_array_equal(np.array(back.convert("RGB")), np.array(image.convert("RGB")))

    def test_gif_has_no_half_opacity(self, tmp_path: Path) -> None:
        image = Image.new("P", (4, 1))
        image.putpalette([0, 0, 0, 250, 10, 10])
        image.putdata([0, 1, 1, 0])
        image.save(tmp_path / "a.gif", transparency=0)
        with (
            open_picture(tmp_path / "a.gif") as reader,
            create_picture(tmp_path / "b.gif", reader.info) as writer,
        ):
            planes = reader.read_all()
            writer.write_all(replace(planes, alpha=torch.tensor([[[0.1, 0.6, 0.9, 0.4]]])))
        with Image.open(tmp_path / "b.gif") as back:
            assert np.array(back.convert("RGBA"))[0, :, 3].tolist() == [0, 255, 255, 0]
