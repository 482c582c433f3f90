"""Pictures that do not fit into memory: two decoders and two encoders that agree, spools, and files that are whole."""

import io
import itertools
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from picture_files import BOTH, BY_ROWS, WHOLE, copy, noise, smooth, write_png
from PIL import Image

from wavdiff.images import Planes, create_picture, from_pil, open_picture, plain_info, read_info
from wavdiff.images.codecs import encoding
from wavdiff.images.codecs.decoding import decode
from wavdiff.images.codecs.headers import describe
from wavdiff.images.codecs.opening import opened
from wavdiff.images.disk_array import DiskArray, temporary_file
from wavdiff.images.rectangle import Rectangle, whole
from wavdiff.system.errors import WavdiffError

JPEG = [{"subsampling": s, "progressive": p} for s in (0, 1, 2) for p in (False, True)]


def decoded(path: Path, spool_bytes: int) -> np.ndarray:
    with open_picture(path, spool_bytes=spool_bytes) as reader:
        return reader.read_bands(whole(reader.info.size))


def assert_decoders_agree(path: Path) -> np.ndarray:
    with opened(path) as image:
        assert describe(image, "").by_rows
    whole = decoded(path, WHOLE)
    np.testing.assert_array_equal(decoded(path, BY_ROWS), whole)
    return whole


class TestDecoders:
    @pytest.mark.parametrize("channels", [1, 3, 4])
    @pytest.mark.parametrize("options", JPEG, ids=str)
    def test_of_jpeg(self, tmp_path: Path, channels: int, options: dict[str, int]) -> None:
        array = (smooth(channels)[:45, :61] // 2 + noise(45, 61, channels) // 2).squeeze()
        image = Image.frombytes("CMYK", (61, 45), array.tobytes()) if channels == 4 else Image.fromarray(array)
        image.save(tmp_path / "a.jpg", quality=80, **options)
        assert_decoders_agree(tmp_path / "a.jpg")

    @pytest.mark.parametrize("interlaced", [False, True])
    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    def test_of_png(self, tmp_path: Path, channels: int, interlaced: bool) -> None:
        array = noise(45, 61, channels)
        write_with_vips(tmp_path / "a.png", array, interlace=interlaced)
        np.testing.assert_array_equal(assert_decoders_agree(tmp_path / "a.png"), array)

    @pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
    def test_of_compressed_tiff(self, tmp_path: Path, compression: str) -> None:
        Image.fromarray(smooth(3)).save(tmp_path / "a.tif", compression=compression)
        assert_decoders_agree(tmp_path / "a.tif")

    @pytest.mark.parametrize(
        "options", [{"tile": (16, 16)}, {"byteorder": ">"}, {"bigtiff": True}, {"rowsperstrip": 7}], ids=str
    )
    def test_of_tiff_layouts(self, tmp_path: Path, options: dict[str, object]) -> None:
        for array in (noise(45, 61, 3), noise(45, 61, 3, high=65536, dtype=np.uint16)):
            tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", **options)
            np.testing.assert_array_equal(assert_decoders_agree(tmp_path / "a.tif"), array)

    def test_of_separate_planes(self, tmp_path: Path) -> None:
        array = noise(45, 61, 3, high=65536, dtype=np.uint16)
        tifffile.imwrite(tmp_path / "a.tif", array.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
        np.testing.assert_array_equal(decoded(tmp_path / "a.tif", BY_ROWS), array)

    def test_of_samples_beside_the_colours(self, tmp_path: Path) -> None:
        array = noise(45, 61, 4, high=65536, dtype=np.uint16)
        array[..., 3] = 32768 + array[..., 3] // 2
        tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", extrasamples=[2])
        np.testing.assert_array_equal(decoded(tmp_path / "a.tif", BY_ROWS), array)
        opacity = array[..., 3:] / 65535
        tifffile.imwrite(
            tmp_path / "a.tif",
            np.concatenate([(array[..., :3] * opacity).round().astype(np.uint16), array[..., 3:]], axis=-1),
            photometric="rgb",
            extrasamples=[1],  # colours multiplied by their opacity
        )
        assert np.abs(decoded(tmp_path / "a.tif", BY_ROWS).astype(int) - array).max() <= 1

    @pytest.mark.parametrize("largest", [100, 255, 1000, 65535])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_of_pgm_and_ppm(self, tmp_path: Path, channels: int, largest: int) -> None:
        array = noise(9, 8, channels, high=largest + 1, dtype=np.uint16)
        content = array.astype(">u2").tobytes() if largest > 255 else array.astype(np.uint8).tobytes()
        head = f"P{5 if channels == 1 else 6}\n# a comment\n8 9\n{largest}\n".encode()
        (tmp_path / "a.ppm").write_bytes(head + content)
        maximum = 255 if largest < 256 else 65535
        expected = np.round(array / largest * maximum)
        np.testing.assert_array_equal(assert_decoders_agree(tmp_path / "a.ppm"), expected)

    def test_white_is_zero(self, tmp_path: Path) -> None:
        for dtype, maximum in ((np.uint8, 255), (np.uint16, 65535)):
            array = noise(5, 6, high=maximum + 1, dtype=dtype)
            tifffile.imwrite(tmp_path / "a.tif", array, photometric="miniswhite")
            for spool in BOTH:
                np.testing.assert_array_equal(decoded(tmp_path / "a.tif", spool)[..., 0], maximum - array)

    @pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "ppm"])
    @pytest.mark.parametrize("spool", BOTH)
    def test_half_a_file_is_damaged(self, tmp_path: Path, suffix: str, spool: int) -> None:
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(noise(64, 64, 3)).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(WavdiffError, match=rf"a\.{suffix}: damaged image") as caught:
            open_picture(path, spool_bytes=spool)
        assert "\n" not in str(caught.value)


def write_with_vips(path: Path, array: np.ndarray, **options: object) -> None:
    import pyvips

    height, width, bands = array.shape
    image = pyvips.Image.new_from_memory(np.ascontiguousarray(array).data, width, height, bands, "uchar")
    image.copy(interpretation="srgb" if bands > 2 else "b-w").write_to_file(str(path), **options)


class TestEncoders:
    @pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
    @pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK"])
    def test_agree(self, tmp_path: Path, suffix: str, mode: str) -> None:
        if (suffix, mode) in (("jpg", "RGBA"), ("png", "CMYK")):
            return
        array = smooth(len(mode)).squeeze()
        image = Image.frombytes("CMYK", (64, 48), array.tobytes()) if mode == "CMYK" else Image.fromarray(array)
        exif = Image.Exif()
        exif[0x010F] = "a maker"
        image.save(tmp_path / "a.tif", icc_profile=b"profile" * 20_000, dpi=(200, 100), exif=exif.tobytes())
        for name, spool in (("rows", BY_ROWS), ("whole", WHOLE)):
            copy(tmp_path / "a.tif", tmp_path / f"{name}.{suffix}", (WHOLE, spool))
        with Image.open(tmp_path / f"rows.{suffix}") as by_rows, Image.open(tmp_path / f"whole.{suffix}") as whole:
            assert by_rows.mode == whole.mode == mode
            allowed = 1 if suffix == "jpg" else 0
            assert np.abs(np.array(by_rows).astype(int) - np.array(whole).astype(int)).max() <= allowed
            assert by_rows.info == whole.info
            assert len(by_rows.info["icc_profile"]) == 140_000
            assert by_rows.getexif()[0x010F] == "a maker"

    def test_jpeg_is_not_subsampled(self, tmp_path: Path) -> None:
        for spool in BOTH:
            with create_picture(tmp_path / "a.jpg", plain_info((16, 16), 3), spool_bytes=spool) as writer:
                writer.write_all(Planes(torch.zeros(3, 16, 16)))
            with Image.open(tmp_path / "a.jpg") as image:
                assert [layer[1:3] for layer in image.layer] == [(1, 1)] * 3  # type: ignore[attr-defined]

    def test_a_tiff_beyond_4_gigabytes_is_a_bigtiff(self) -> None:
        info = plain_info((2**16, 2**15), 3)
        head = encoding.tiff_head(
            encoding._sample_file(encoding.replace(info, format="TIFF")), info, info.size, 3 * 2**15
        )
        assert head[:4] == b"II+\0"
        (directory,) = struct.unpack_from("<Q", head, 8)
        (count,) = struct.unpack_from("<Q", head, directory)
        entries = [struct.unpack_from("<HHQQ", head, directory + 8 + 20 * index) for index in range(count)]
        offsets = next(entry for entry in entries if entry[0] == 273)
        places = struct.unpack_from(f"<{offsets[2]}Q", head, offsets[3])
        assert places[0] == len(head) and places[-1] > 2**32
        assert max(np.diff(places)) == min(np.diff(places))


class TestWholeFiles:
    @pytest.mark.parametrize("spool", BOTH)
    def test_an_exception_leaves_what_was_there(self, tmp_path: Path, spool: int) -> None:
        (tmp_path / "a.png").write_bytes(b"precious")
        with pytest.raises(KeyboardInterrupt), create_picture(tmp_path / "a.png", plain_info((2, 2), 1)) as writer:
            writer.write_all(Planes(torch.zeros(1, 2, 2)))
            raise KeyboardInterrupt
        assert (tmp_path / "a.png").read_bytes() == b"precious"
        assert len(list(tmp_path.iterdir())) == 1

    @pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
    @pytest.mark.parametrize("problem", [KeyboardInterrupt(), OSError(28, "No space left on device")], ids=repr)
    def test_so_does_one_while_encoding_by_rows(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, problem: BaseException
    ) -> None:
        path = tmp_path / f"a.{suffix}"
        path.write_bytes(b"precious")

        def stored_bytes(*_: object) -> bytes:
            raise problem

        monkeypatch.setattr(encoding, "stored_bytes", stored_bytes)
        expected = KeyboardInterrupt if isinstance(problem, KeyboardInterrupt) else WavdiffError
        with pytest.raises(expected), create_picture(path, plain_info((64, 64), 3), spool_bytes=BY_ROWS) as writer:
            writer.write_all(Planes(torch.zeros(3, 64, 64)))
        assert path.read_bytes() == b"precious"
        assert len(list(tmp_path.iterdir())) == 1

    @pytest.mark.parametrize("problem", [KeyboardInterrupt(), OSError(5, "Input/output error")], ids=repr)
    def test_what_goes_wrong_while_libvips_reads_is_raised(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: BaseException
    ) -> None:
        class Broken(io.BytesIO):
            def readinto(self, _: object) -> int:
                raise problem

        monkeypatch.setattr(encoding, "temporary_file", iter([Broken(), temporary_file()]).__next__)
        path = tmp_path / "a.png"
        expected = KeyboardInterrupt if isinstance(problem, KeyboardInterrupt) else WavdiffError
        with pytest.raises(expected), create_picture(path, plain_info((64, 64), 3), spool_bytes=BY_ROWS) as writer:
            writer.write_all(Planes(torch.zeros(3, 64, 64)))
        assert not list(tmp_path.iterdir())

    def test_every_pixel_is_written_once(self, tmp_path: Path) -> None:
        info = plain_info((4, 6), 1)
        with pytest.raises(ValueError, match="every pixel"), create_picture(tmp_path / "a.png", info) as writer:
            writer.write(Rectangle(0, 4, 0, 5), Planes(torch.zeros(1, 4, 5)))
        with pytest.raises(ValueError, match="not inside"), create_picture(tmp_path / "a.png", info) as writer:
            writer.write(Rectangle(0, 4, 2, 7), Planes(torch.zeros(1, 4, 5)))
        assert not list(tmp_path.iterdir())

    def test_wrong_planes_are_named(self, tmp_path: Path) -> None:
        info = plain_info((2, 2), 3, has_alpha=True)
        opaque, colour = torch.ones(1, 2, 2), torch.zeros(3, 2, 2)
        wrong = [
            (Planes(colour), "needs alpha"),
            (Planes(colour, opaque, opaque), "has no key"),
            (Planes(colour[:1], opaque), r"colour must be \(3, 2, 2\), not \(1, 2, 2\)"),
            (Planes(colour / 0, opaque), "NaN or infinity"),
            (Planes(colour, opaque / 0), "alpha holds NaN or infinity"),
        ]
        for planes, rule in wrong:
            with (
                pytest.raises(WavdiffError, match=f"a.png.*{rule}"),
                create_picture(tmp_path / "a.png", info) as writer,
            ):
                writer.write_all(planes)

    def test_values_outside_the_range_are_limited(self, tmp_path: Path) -> None:
        with create_picture(tmp_path / "a.png", plain_info((1, 3), 1, has_alpha=True)) as writer:
            writer.write_all(Planes(torch.tensor([[[-9.0, 0, 9]]]), torch.tensor([[[-9.0, 0.5, 9]]])))
        with Image.open(tmp_path / "a.png") as image:
            assert np.array(image)[0].tolist() == [[0, 0], [128, 128], [255, 255]]


class TestSpools:
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_a_file_is_an_array(self, dtype: type) -> None:
        generator = np.random.default_rng(0)
        reference = np.zeros((23, 31, 3), dtype=dtype)
        spools = [DiskArray((23, 31), 3, np.dtype(dtype), limit) for limit in BOTH]
        assert [spool.array is None for spool in spools] == [True, False]
        for _ in range(40):
            top, left = (int(generator.integers(0, limit)) for limit in (23, 31))
            bottom, right = (int(generator.integers(low + 1, high + 1)) for low, high in ((top, 23), (left, 31)))
            left, right = (0, 31) if generator.random() < 0.3 else (left, right)
            values = generator.integers(0, 2**16, (bottom - top, right - left, 3)).astype(dtype)
            reference[top:bottom, left:right] = values
            where = Rectangle(top, bottom, left, right)
            for spool in spools:
                spool.write(where, values)
                np.testing.assert_array_equal(spool.read(Rectangle(0, 23, 0, 31)), reference)
                np.testing.assert_array_equal(spool.read(where), values)
        for spool in spools:
            spool.close()
            spool.close()

    def test_the_file_has_no_name_and_obeys_tmpdir(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        monkeypatch.setattr("tempfile.tempdir", None)
        spool = DiskArray((4, 4), 1, np.dtype(np.uint8), BY_ROWS)
        assert list(tmp_path.iterdir()) == [] and spool.array is None
        spool.close()

    def test_a_full_disk_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setenv("TMPDIR", str(tmp_path))
        monkeypatch.setattr("tempfile.tempdir", None)
        monkeypatch.setattr(os, "pwrite", full)
        spool = DiskArray((4, 4), 1, np.dtype(np.uint8), BY_ROWS)
        with pytest.raises(WavdiffError, match=f"{tmp_path}.*No space left.*TMPDIR"):
            spool.write(Rectangle(0, 4, 0, 4), np.zeros((4, 4, 1), np.uint8))
        spool.close()

    def test_rectangles_that_are_not_inside_are_bugs(self, tmp_path: Path) -> None:
        Image.fromarray(noise(4, 6)).save(tmp_path / "a.png")
        with open_picture(tmp_path / "a.png") as reader:
            for rectangle in ((0, 5, 0, 6), (-1, 4, 0, 6), (2, 2, 0, 6), (0, 4, 0, 7)):
                with pytest.raises(ValueError, match="not inside 4 x 6"):
                    reader.read(Rectangle(*rectangle))


class TestHugeClaims:
    def claim(self, path: Path, width: int, height: int, length: int) -> Path:
        header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
        write_png(path, [(b"IHDR", header), (b"IDAT", bytes(length)), (b"IEND", b"")])
        return path

    def test_photographs_of_today_are_not_bombs(self, tmp_path: Path) -> None:
        assert read_info(self.claim(tmp_path / "a.png", 10_000, 10_000, 1000)).size == (10_000, 10_000)
        assert read_info(self.claim(tmp_path / "a.png", 40_000, 20_000, 160_000)).size == (20_000, 40_000)

    def test_bombs_are_refused(self, tmp_path: Path) -> None:
        for width, height, length in ((40_000, 20_000, 100_000), (50_000, 50_000, 600_000)):
            with pytest.raises(WavdiffError, match="too many pixels"):
                open_picture(self.claim(tmp_path / "a.png", width, height, length))

    def test_pillows_own_limit_is_left_as_it_was(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 123_456)
        path = self.claim(tmp_path / "a.png", 10_000, 10_000, 1000)
        with opened(path) as first, opened(path):
            assert first.size == (10_000, 10_000)
        assert Image.MAX_IMAGE_PIXELS == 123_456


def test_tiles_need_only_themselves(tmp_path: Path) -> None:
    """Every rectangle of a turned picture equals that part of the whole."""
    array = noise(9, 12, 3)
    exif = Image.Exif()
    for orientation, spool in itertools.product(range(1, 9), BOTH):
        exif[0x0112] = orientation
        Image.fromarray(array).save(tmp_path / "a.png", exif=exif)
        with open_picture(tmp_path / "a.png", spool_bytes=spool) as reader:
            height, width = reader.info.size
            whole = reader.read_bands(Rectangle(0, height, 0, width))
            for top, left in itertools.product(range(height), range(width)):
                part = reader.read_bands(Rectangle(top, height, left, width))
                np.testing.assert_array_equal(part, whole[top:, left:])


def test_opened_pictures_of_pillow_are_taken_as_they_lie(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(4, 6, 3)).save(tmp_path / "a.jpg", exif=exif)
    with Image.open(tmp_path / "a.jpg") as image:
        planes, info = from_pil(image)
        assert planes.size == info.size == (4, 6) and info.exif == image.info["exif"]


def test_memory_is_given_back_when_decoding_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    monkeypatch.setattr(DiskArray, "close", lambda self: closed.append(self))
    path = tmp_path / "a.png"
    Image.fromarray(noise(64, 64, 3)).save(path)
    path.write_bytes(path.read_bytes()[:3000])
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    with pytest.raises(WavdiffError), opened(path) as image:
        decode(path, image, describe(image, "a"), "a", BY_ROWS)
    assert len(closed) == 1
    closed.clear()
    after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert after <= before + 1
