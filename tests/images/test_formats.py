"""To add a file format that Pillow reads and writes is one row of the table."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import run_cli
from picture_files import noise
from PIL import Image

from wavdiff.batch import jobs, sources
from wavdiff.data.sources import folder, index
from wavdiff.images import check_output_path, load_image, open_picture, plain_info, read_info, read_pixels, save_image
from wavdiff.images.formats import FORMATS, FileFormat, readable_suffixes, training_suffixes, writable_formats
from wavdiff.system.errors import WavdiffError

ROW = 'FileFormat("Targa", (".tga",), holds=("gray", "alpha"), modes=("P",))'


@pytest.fixture
def targa(monkeypatch: pytest.MonkeyPatch) -> None:
    """The row is there as if it had been before anything was imported."""
    monkeypatch.setitem(FORMATS, "TGA", eval(ROW, {"FileFormat": FileFormat}))
    monkeypatch.setattr(index, "SUFFIXES", training_suffixes())
    for module in (jobs, sources):
        monkeypatch.setattr(module, "WRITABLE_SUFFIXES", tuple(writable_formats()))
        monkeypatch.setattr(module, "READABLE_SUFFIXES", readable_suffixes())


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P"])
def test_a_row_is_a_format(targa: None, tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(noise(9, 14, 3)).convert("RGB" if mode == "P" else mode)
    image = image.quantize(64) if mode == "P" else image
    image.save(tmp_path / "a.tga")
    assert read_info(tmp_path / "a.tga").mode == mode
    outcome = run_cli("denoise", tmp_path, "--sigma", "0", "--out", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    with Image.open(tmp_path / "out" / "a.tga") as made:
        assert (made.format, made.mode) == ("TGA", mode)
        np.testing.assert_array_equal(np.array(made.convert("RGBA")), np.array(image.convert("RGBA")))
    with open_picture(tmp_path / "out" / "a.tga") as reader:
        assert reader.info.format == "TGA" and reader.info.size == (9, 14)


def test_training_and_samples_take_it_too(targa: None, tmp_path: Path) -> None:
    array = noise(8, 8, 3)
    pixels = torch.from_numpy(array.transpose(2, 0, 1) / 127.5 - 1)
    for number in range(4):
        save_image(tmp_path / f"{number}.tga", pixels)
    np.testing.assert_array_equal(read_pixels(tmp_path / "0.tga"), array)
    assert load_image(tmp_path / "0.tga").pixels.shape == (3, 8, 8)
    assert len(folder.open_folder(tmp_path, "train", 3)) == 3


def test_what_it_cannot_hold_is_refused_or_told(targa: None, tmp_path: Path) -> None:
    assert check_output_path(tmp_path / "a.tga", plain_info((2, 2), 1, bits=16)) != ()
    with pytest.raises(WavdiffError, match=r"must end in one of .*\.fts, \.tga, not '\.xyz'"):
        check_output_path(tmp_path / "a.xyz")
    (tmp_path / "a.tga").write_bytes(b"no picture")
    with pytest.raises(WavdiffError, match="not an image that can be read .*GIF, Targa"):
        read_info(tmp_path / "a.tga")


def test_the_command_line_knows_it_without_torch_and_pillow() -> None:
    code = f"""if True:
        import sys
        from wavdiff.images.formats import FORMATS, FileFormat
        FORMATS["TGA"] = {ROW}
        from wavdiff.batch.sources import READABLE_SUFFIXES, WRITABLE_SUFFIXES
        assert ".tga" in READABLE_SUFFIXES and ".tga" in WRITABLE_SUFFIXES
        assert not set(sys.modules) & {{"torch", "PIL", "numpy", "pyvips"}}
    """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
