"""What a file says beside its pixels, what its format can hold, and streams."""

import io
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from picture_files import (
    BOTH,
    HEIGHT,
    WIDTH,
    copy,
    image_of_mode,
    noise,
    write_png,
)
from PIL import Image, ImageOps, PngImagePlugin

from wavdiff.images import PictureInfo, Planes, check_output_path, create_picture, open_picture, plain_info, read_info
from wavdiff.images.rectangle import Rectangle
from wavdiff.system.errors import WavdiffError

TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


class TestNotes:
    @pytest.mark.parametrize("spool", BOTH)
    def test_texts_of_a_png_stay(self, tmp_path: Path, spool: int) -> None:
        texts = PngImagePlugin.PngInfo()
        texts.add_text("Title", "A picture")
        texts.add_text("Description", "long " * 100, zip=True)
        texts.add_itxt("Author", "Jürgen 東京", "de", "Autor")
        Image.fromarray(noise(HEIGHT, WIDTH, 3)).save(tmp_path / "a.png", pnginfo=texts)
        copy(tmp_path / "a.png", tmp_path / "b.png", (spool, spool))
        with Image.open(tmp_path / "a.png") as before, Image.open(tmp_path / "b.png") as after:
            before.load()
            after.load()
            assert dict(after.text) == dict(before.text)  # type: ignore[attr-defined]
            assert len(after.text) == 3  # type: ignore[attr-defined]

    @pytest.mark.parametrize("spool", BOTH)
    def test_a_comment_of_a_jpeg_stays(self, tmp_path: Path, spool: int) -> None:
        Image.fromarray(noise(HEIGHT, WIDTH, 3)).save(tmp_path / "a.jpg", comment="schöner Tag".encode("latin-1"))
        copy(tmp_path / "a.jpg", tmp_path / "b.jpg", (spool, spool))
        copy(tmp_path / "b.jpg", tmp_path / "c.png", (spool, spool))
        with Image.open(tmp_path / "b.jpg") as image:
            assert image.info["comment"] == "schöner Tag".encode("latin-1")
        with Image.open(tmp_path / "c.png") as image:
            image.load()
            assert image.text["Comment"] == "schöner Tag"  # type: ignore[attr-defined]

    def test_texts_without_end_are_left_out(self, tmp_path: Path) -> None:
        texts = PngImagePlugin.PngInfo()
        texts.add_text("Title", "x" * 2**21)
        Image.fromarray(noise(HEIGHT, WIDTH, 3)).save(tmp_path / "a.png", pnginfo=texts)
        assert read_info(tmp_path / "a.png").text_chunks == ()

    @pytest.mark.parametrize("spool", BOTH)
    @pytest.mark.parametrize("suffix", ["png", "tif", "webp", "jpg"])
    @pytest.mark.parametrize("orientation", TURNS)
    def test_orientation_is_applied_once(self, tmp_path: Path, orientation: int, suffix: str, spool: int) -> None:
        array = noise(HEIGHT, WIDTH, 3)
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(array).save(path, exif=exif, **({"lossless": True} if suffix == "webp" else {}))
        if suffix == "jpg":
            with Image.open(path) as image:
                array = np.array(image)
        expected = TURNS[orientation](array)
        assert read_info(path).size == expected.shape[:2]
        with open_picture(path, spool_bytes=spool) as reader:
            assert reader.info.size == expected.shape[:2]
            np.testing.assert_array_equal(reader.read_bands(Rectangle(3, 11, 4, 17)), expected[3:11, 4:17])
        copy(path, tmp_path / "b.png", (spool, spool))
        with Image.open(tmp_path / "b.png") as image:
            assert image.getexif().get(0x0112, 1) == 1
            np.testing.assert_array_equal(np.array(ImageOps.exif_transpose(image)), expected)

    @pytest.mark.parametrize("spool", BOTH)
    @pytest.mark.parametrize("target", ["png", "jpg", "tif", "webp"])
    @pytest.mark.parametrize("source", ["png", "jpg", "tif", "webp"])
    def test_exif_and_profile_pass_between_formats(self, tmp_path: Path, source: str, target: str, spool: int) -> None:
        exif = Image.Exif()
        exif[0x010F], exif[0x0112] = "a maker", 6
        exif[0x8769] = {0xA002: WIDTH, 0xA003: HEIGHT, 0x9003: "2026:01:02 03:04:05"}
        exif[0x8825] = {1: "N", 2: (48.0, 8.0, 1.5)}
        profile = b"a profile that nobody interprets"
        Image.fromarray(noise(HEIGHT, WIDTH, 3)).save(
            tmp_path / f"a.{source}", exif=exif.tobytes(), icc_profile=profile, dpi=(300, 300)
        )
        info = replace(read_info(tmp_path / f"a.{source}"))
        assert info.size == (WIDTH, HEIGHT)
        size = (2 * WIDTH, 2 * HEIGHT)
        with create_picture(tmp_path / f"b.{target}", info, size, spool_bytes=spool) as writer:
            writer.write_all(Planes(torch.zeros(3, *size)))
        with Image.open(tmp_path / f"b.{target}") as image:
            found = image.getexif()
            assert found.get(0x0112, 1) == 1 and found[0x010F] == "a maker"
            assert found.get_ifd(0x8769) == {0xA002: 2 * HEIGHT, 0xA003: 2 * WIDTH, 0x9003: "2026:01:02 03:04:05"}
            assert found.get_ifd(0x8825) == {1: "N", 2: (48.0, 8.0, 1.5)}
            assert image.info["icc_profile"] == profile
            if "webp" not in (source, target):
                assert image.info["dpi"] == pytest.approx((300, 300), abs=1e-3)

    def test_an_exif_block_is_kept_byte_for_byte_but_for_what_is_no_longer_true(self, tmp_path: Path) -> None:
        entries = [
            struct.pack("<HHLL", 0x010F, 2, 4, int.from_bytes(b"abc\0", "little")),
            struct.pack("<HHLHH", 0x0112, 3, 1, 8, 0),
            struct.pack("<HHLL", 0x8769, 4, 1, 50),
        ]
        block = b"II*\0" + struct.pack("<LH", 8, 3) + b"".join(entries) + struct.pack("<L", 90)
        camera = struct.pack("<HHHLL", 2, 0x927C, 7, 16, 80) + struct.pack("<HHLHH", 0xA002, 3, 1, 9, 0)
        block = block.ljust(50, b"\0") + camera.ljust(30, b"\0") + b"notes of a maker" + b"thumbnail"
        Image.fromarray(noise(6, 9, 3)).save(tmp_path / "a.jpg", exif=b"Exif\0\0" + block)
        copy(tmp_path / "a.jpg", tmp_path / "b.jpg")
        with Image.open(tmp_path / "b.jpg") as image:
            kept = image.info["exif"].removeprefix(b"Exif\0\0")
        changed = {index for index in range(len(block)) if kept[index] != block[index]}
        assert len(kept) == len(block)
        orientation, thumbnail, width = {30}, {46}, {50 + 2 + 12 + 2, 50 + 2 + 12 + 8}
        assert changed == orientation | thumbnail | width

    @pytest.mark.parametrize(
        "block", [b"", b"II", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff\0\0", b"nonsense" * 9]
    )
    def test_damaged_exif_does_not_spoil_the_picture(self, tmp_path: Path, block: bytes) -> None:
        array = noise(6, 9, 3)
        Image.fromarray(array).save(tmp_path / "a.png", exif=b"Exif\0\0" + block)
        for target in ("b.png", "b.tif", "b.jpg"):
            copy(tmp_path / "a.png", tmp_path / target)
        with Image.open(tmp_path / "b.png") as image:
            np.testing.assert_array_equal(np.array(image), array)

    def test_exif_behind_the_pixels_of_a_png_counts(self, tmp_path: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        array = noise(6, 9)
        raw = b"".join(b"\0" + row.tobytes() for row in array)
        header = struct.pack(">IIBBBBB", 9, 6, 8, 0, 0, 0, 0)
        block = exif.tobytes().removeprefix(b"Exif\0\0")
        write_png(
            tmp_path / "a.png", [(b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"eXIf", block), (b"IEND", b"")]
        )
        with open_picture(tmp_path / "a.png") as reader:
            np.testing.assert_array_equal(reader.read_bands(Rectangle(0, 9, 0, 6))[..., 0], np.rot90(array, -1))

    @pytest.mark.parametrize("spool", BOTH)
    @pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
    def test_xmp_is_kept_with_orientation_1(self, tmp_path: Path, suffix: str, spool: int) -> None:
        packet = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="6" dc:rights="me"/></x:xmpmeta>'
        extra = PngImagePlugin.PngInfo()
        extra.add_itxt("XML:com.adobe.xmp", packet)
        options = {"pnginfo": extra} if suffix == "png" else {"xmp": packet.encode()}
        Image.fromarray(noise(6, 9, 3)).save(tmp_path / f"a.{suffix}", **options)
        info = copy(tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}", (spool, spool))
        assert info.size == (9, 6)
        assert read_info(tmp_path / f"b.{suffix}").xmp == packet.replace('"6"', '"1"').encode()
        copy(tmp_path / f"a.{suffix}", tmp_path / "b.tif", (spool, spool))
        assert read_info(tmp_path / "b.tif").xmp == packet.replace('"6"', '"1"').encode()

    @pytest.mark.parametrize("spool", BOTH)
    def test_png_keeps_what_it_says_about_colours(self, tmp_path: Path, spool: int) -> None:
        extra = PngImagePlugin.PngInfo()
        extra.add(b"gAMA", (100_000).to_bytes(4, "big"))
        extra.add(b"cHRM", bytes(range(32)))
        Image.fromarray(noise(6, 9, 3)).save(tmp_path / "a.png", pnginfo=extra)
        copy(tmp_path / "a.png", tmp_path / "b.png", (spool, spool))
        assert dict(read_info(tmp_path / "b.png").colour_chunks) == {
            b"gAMA": (100_000).to_bytes(4, "big"),
            b"cHRM": bytes(range(32)),
        }


class TestFormats:
    def test_what_a_format_cannot_hold_is_refused_before_the_work(self, tmp_path: Path) -> None:
        see_through, inks = plain_info((4, 4), 3, has_alpha=True), PictureInfo((4, 4), 3, "CMYK", has_key=True)
        refusals = [
            ("a.jpg", see_through, None, "transparency"),
            ("a.bmp", see_through, None, "transparency"),
            ("a.png", inks, None, "CMYK"),
            ("a.gif", plain_info((4, 4), 3), None, "256 colours"),
            ("a.webp", plain_info((4, 4), 3), (4, 20_000), "16383 pixels a side"),
            ("a.webp", plain_info((4, 4), 3), (8000, 8000), "40 bytes of memory"),
            ("a.jpg", plain_info((4, 4), 3), (70_000, 4), "65500 pixels a side"),
            ("a.xyz", plain_info((4, 4), 3), None, "must end in one of"),
        ]
        for name, info, size, rule in refusals:
            with pytest.raises(WavdiffError, match=f"{name}.*{rule}"):
                check_output_path(tmp_path / name, info, size)
            with pytest.raises(WavdiffError, match=f"{name}.*{rule}"):
                create_picture(tmp_path / name, info, size)
        (tmp_path / "file").touch()
        with pytest.raises(WavdiffError, match="file.*is a file, not a folder"):
            check_output_path(tmp_path / "file" / "deep" / "a.png", plain_info((4, 4), 3))
        assert [path.name for path in tmp_path.iterdir()] == ["file"]

    def test_what_is_written_in_another_form_is_told(self, tmp_path: Path) -> None:
        deep = replace(plain_info((4, 4), 3, bits=16), icc_profile=b"profile")
        assert check_output_path(tmp_path / "a.png", deep) == ()
        (note,) = check_output_path(tmp_path / "a.jpg", deep)
        assert "8 bits" in note
        assert len(check_output_path(tmp_path / "a.bmp", deep)) == 2

    @pytest.mark.parametrize(
        "mode, suffix, expected",
        [("I;16", "jpg", "L"), ("P", "jpg", "RGB"), ("1", "jpg", "L"), ("LA", "webp", "RGBA"), ("I", "png", "I;16")],
    )
    def test_other_formats_get_the_nearest_mode(self, tmp_path: Path, mode: str, suffix: str, expected: str) -> None:
        image_of_mode(mode).save(tmp_path / "a.tif")
        copy(tmp_path / "a.tif", tmp_path / f"b.{suffix}")
        with Image.open(tmp_path / f"b.{suffix}") as image:
            assert image.mode == expected

    def test_a_16_bit_picture_is_rounded_once(self, tmp_path: Path) -> None:
        image_of_mode("I;16").save(tmp_path / "a.png")
        copy(tmp_path / "a.png", tmp_path / "b.bmp")
        with Image.open(tmp_path / "a.png") as before, Image.open(tmp_path / "b.bmp") as after:
            np.testing.assert_array_equal(np.array(after), np.round(np.array(before) / 257.0))


class TestStreams:
    @pytest.mark.parametrize("spool", BOTH)
    def test_pictures_pass_through_streams(self, spool: int) -> None:
        array = noise(HEIGHT, WIDTH, 3)
        source, target = io.BytesIO(), io.BytesIO()
        Image.fromarray(array).save(source, "PNG")
        source.seek(0)
        source.seekable = lambda: False  # type: ignore[method-assign]
        with open_picture(source, spool_bytes=spool) as reader:
            assert reader.info.format == "PNG"
            with create_picture(target, reader.info, format="TIFF", spool_bytes=spool) as writer:
                writer.write_all(reader.read_all())
        np.testing.assert_array_equal(np.array(Image.open(target)), array)

    def test_a_stream_needs_a_format_and_gets_nothing_after_an_exception(self) -> None:
        target = io.BytesIO()
        with pytest.raises(WavdiffError, match="stdout.*format must be named"):
            create_picture(target, plain_info((2, 2), 1))
        with pytest.raises(WavdiffError, match="stdout.*one of PNG"):
            create_picture(target, plain_info((2, 2), 1), format="XYZ")
        with pytest.raises(KeyError), create_picture(target, plain_info((2, 2), 1), format="PNG"):
            raise KeyError
        assert target.getvalue() == b""

    def test_an_empty_stream_is_named(self) -> None:
        with pytest.raises(WavdiffError, match="stdin: the file is empty"):
            open_picture(io.BytesIO())
        with pytest.raises(WavdiffError, match="camera: not an image"):
            open_picture(io.BytesIO(b"hello"), name="camera")
