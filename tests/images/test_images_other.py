"""Files that are nearly pictures: of other kinds, with damaged notes, under other names; and closed streams."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wavdiff.images import open_picture
from wavdiff.images.formats import OTHERS, format_of
from wavdiff.system.errors import WavdiffError


def picture(path: Path, mode: str = "RGB") -> Path:
    shape = (24, 32, 3) if mode == "RGB" else (24, 32)
    values = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    Image.fromarray(values).save(path, format=None if path.suffix in (".png", ".tif") else "TIFF")
    return path


def with_chunk(path: Path, name: bytes, content: bytes, *, damaged: bool) -> Path:
    """The PNG file with a chunk behind its header."""
    checksum = zlib.crc32(name + content) ^ int(damaged)
    data = path.read_bytes()
    chunk = struct.pack(">L4s", len(content), name) + content + struct.pack(">L", checksum)
    target = path.with_name(f"with_{path.name}")
    target.write_bytes(data[:33] + chunk + data[33:])
    return target


@pytest.mark.parametrize("suffix", sorted(OTHERS))
def test_what_opens_other_files_is_said(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"not a picture at all")
    with pytest.raises(WavdiffError, match="not an image that can be read, but") as found, open_picture(path):
        pass
    assert str(path) in str(found.value)
    assert OTHERS[suffix] in str(found.value)


def test_the_thumbnail_of_a_raw_file_is_not_the_picture(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.nef")  # it looks like TIFF
    with pytest.raises(WavdiffError, match="raw file: develop it first"), open_picture(path):
        pass


def test_a_picture_under_the_name_of_another_kind_is_read(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png").rename(tmp_path / "a.heic")
    with open_picture(path) as reader:
        assert reader.info.format == "PNG"


def test_jfif_is_jpeg(tmp_path: Path, cli: Callable[..., Any]) -> None:
    assert format_of("a.JFIF") == "JPEG"
    (tmp_path / "in").mkdir()
    Image.open(picture(tmp_path / "a.png")).save(tmp_path / "in" / "a.jfif", format="JPEG")
    done = cli("denoise", tmp_path / "in", "--sigma", 0.05, "--model", "faces", "--out", tmp_path / "out")
    assert done.code == 0, done.err
    assert Image.open(tmp_path / "out" / "a.jfif").format == "JPEG"


@pytest.mark.parametrize("name", [b"tEXt", b"tIME", b"iCCP", b"zzZz"])
def test_damaged_notes_of_a_png_are_left_out_with_a_word(tmp_path: Path, name: bytes) -> None:
    whole = picture(tmp_path / "a.png")
    damaged = with_chunk(whole, name, b"Title\0hello", damaged=True)
    before = damaged.read_bytes()
    with pytest.warns(UserWarning, match=rf"with_a.png: damaged notes \({name.decode()}\) are left out"):  # noqa: SIM117
        with open_picture(damaged) as one, open_picture(whole) as two:
            assert (one.read_all().colour == two.read_all().colour).all()
    assert damaged.read_bytes() == before


def test_damage_that_matters_is_still_an_error(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    data = bytearray(path.read_bytes())
    data[29] ^= 1  # of the header's checksum
    path.write_bytes(data)
    with pytest.raises(WavdiffError), open_picture(path):
        pass


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", ">&- 2>/dev/null"])
def test_a_closed_standard_output_is_no_error(tmp_path: Path, closed: str) -> None:
    path = picture(tmp_path / "a.png")
    command = f"'{sys.executable}' -m wavdiff.cli denoise '{path}' --sigma 0.05 --model faces -o '{tmp_path}/b.png'"
    assert subprocess.run(f"{command} {closed}", shell=True, check=False).returncode == 0
    assert Image.open(tmp_path / "b.png").size == (32, 24)


def test_a_result_for_a_closed_standard_output_is_an_error(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    command = f"'{sys.executable}' -m wavdiff.cli denoise '{path}' --sigma 0.05 --model faces -o - >&-"
    done = subprocess.run(command, shell=True, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "wavdiff: --out -: standard output is closed\n"
