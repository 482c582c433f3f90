"""TIFF files of several pages, and what TIFF files say beside their pixels, through the commands that restore."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from wavdiff.images import find_pages, open_picture, read_pages
from wavdiff.images.rectangle import whole
from wavdiff.system.errors import WavdiffError

Cli = Callable[..., Any]


def noise(*shape: int, high: int = 256, dtype: Any = np.uint8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, high, shape).astype(dtype)


def stack(path: Path, count: int = 3, **settings: Any) -> list[np.ndarray]:
    """Pages of different sizes, kinds and depths."""
    pages = [noise(16, 20), noise(12, 24, 3, seed=1), noise(20, 16, high=65536, dtype=np.uint16, seed=2)][:count]
    with tifffile.TiffWriter(path) as file:
        for page in pages:
            file.write(page, photometric="rgb" if page.ndim == 3 else "minisblack", **settings)
    return pages


def read_back(path: Path) -> list[np.ndarray]:
    with tifffile.TiffFile(path) as file:
        return [page.asarray() for page in file.pages]


@pytest.mark.parametrize("spool_bytes", [1 << 28, 0], ids=["in memory", "by rows"])
def test_every_page_can_be_read(tmp_path: Path, spool_bytes: int) -> None:
    pages = stack(tmp_path / "a.tif")
    assert find_pages(tmp_path / "a.tif").pages == (0, 1, 2)
    for number, page in enumerate(pages):
        with open_picture(tmp_path / "a.tif", page=number, spool_bytes=spool_bytes) as reader:
            bands = reader.read_bands(whole(reader.info.size))
        assert np.array_equal(bands.squeeze(), page)
    with pytest.raises(WavdiffError, match="holds 3 pictures"), open_picture(tmp_path / "a.tif"):
        pass
    with pytest.raises(WavdiffError, match="pages are numbered from 0 to 2, got 3"):
        open_picture(tmp_path / "a.tif", page=3)


def test_a_stack_is_restored_page_by_page(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    pages = stack(tmp_path / "a.tif")
    before = (tmp_path / "a.tif").read_bytes()
    outcome = cli("denoise", tmp_path / "a.tif", "--sigma", 0, "--model", tiny_model)
    assert outcome.code == 0, outcome.err
    made = read_back(tmp_path / "a_denoised.tif")
    assert len(made) == 3 and all(np.array_equal(one, other) for one, other in zip(made, pages, strict=True))
    # Each page is what it would be alone; pages in the order that is asked for.
    assert (
        cli(
            "denoise",
            tmp_path / "a.tif",
            "--sigma",
            0.1,
            "--model",
            tiny_model,
            "--pages",
            "2,0",
            "-o",
            tmp_path / "b.tif",
        ).code
        == 0
    )
    made = read_back(tmp_path / "b.tif")
    for page, result in zip((2, 0), made, strict=True):
        single = tmp_path / f"{page}.tif"
        outcome = cli(
            "denoise", tmp_path / "a.tif", "--sigma", 0.1, "--model", tiny_model, "--pages", page, "-o", single
        )
        assert outcome.code == 0, outcome.err
        assert np.array_equal(read_back(single)[0], result) and result.dtype == pages[page].dtype
        assert not np.array_equal(result, pages[page])
    outcome = cli("upscale", tmp_path / "a.tif", "--model", tiny_model, "--factor", 1.5)
    assert outcome.code == 0 and [page.shape[:2] for page in read_back(tmp_path / "a_x1.5.tif")] == [
        (24, 30),
        (18, 36),
        (30, 24),
    ]
    assert "page 0: enlarged by 2" in outcome.err
    outcome = cli("upscale", tmp_path / "a.tif", "--model", tiny_model, "--dry-run")
    assert "20x16 L -> 40x32, 3 pages" in outcome.out
    assert (tmp_path / "a.tif").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--pages", "3"), ["pages", "0 to 2", "3"]),
        (("--pages", "2-1"), ["pages", "2-1"]),
        (("--pages", "one"), ["pages", "one"]),
        (("--pages", "1,1"), ["once", "1,1"]),
        (("--ext", "png"), ["3 pages", ".tif"]),
        (("--samples", 2), ["samples", "one page"]),
    ],
)
def test_what_a_stack_cannot_be_is_refused(
    cli: Cli, tiny_model: Path, tmp_path: Path, options: tuple[Any, ...], words: list[str]
) -> None:
    stack(tmp_path / "a.tif")
    outcome = cli("denoise", tmp_path / "a.tif", "--sigma", 0.1, "--model", tiny_model, *options)
    assert outcome.code != 0 and "Traceback" not in outcome.err
    assert all(word in outcome.err for word in words), outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_a_damaged_page_leaves_nothing(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    stack(tmp_path / "a.tif", compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        place = file.pages[2].dataoffsets[0]
    content = bytearray((tmp_path / "a.tif").read_bytes())
    content[place : place + 40] = bytes(40)
    (tmp_path / "a.tif").write_bytes(content)
    outcome = cli("denoise", tmp_path / "a.tif", "--sigma", 0.1, "--model", tiny_model)
    assert outcome.code == 1 and "damaged" in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_smaller_copies_are_no_pages(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(noise(32, 32), subfiletype=0)
        file.write(noise(16, 16), subfiletype=1)
    outcome = cli("denoise", tmp_path / "a.tif", "--sigma", 0, "--model", tiny_model)
    assert outcome.code == 0 and "smaller copies" in outcome.err
    (made,) = read_back(tmp_path / "a_denoised.tif")
    assert np.array_equal(made, noise(32, 32))


def test_numbers_of_pages() -> None:
    assert read_pages("0,3-5, 9") == (0, 3, 4, 5, 9)


def test_imagej_scales_and_descriptions_are_kept_while_true(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif", noise(2, 16, 20), imagej=True, resolution=(4.0, 5.0), metadata={"unit": "um", "axes": "ZYX"}
    )
    for command, output, scale in (("denoise", "a_denoised.tif", (4, 5)), ("upscale", "a_x2.tif", (8, 10))):
        options = ("--sigma", 0) if command == "denoise" else ()
        assert cli(command, tmp_path / "a.tif", "--model", tiny_model, *options).code == 0
        with tifffile.TiffFile(tmp_path / output) as file:
            tags = file.pages[0].tags
            assert tags["ResolutionUnit"].value == 1 and file.is_imagej
            assert [np.divide(*tags[name].value) for name in ("XResolution", "YResolution")] == list(scale)
            assert file.imagej_metadata["unit"] == "um" and len(file.pages) == 2
    outcome = cli(
        "denoise", tmp_path / "a.tif", "--sigma", 0, "--model", tiny_model, "--pages", 0, "-o", tmp_path / "b.tif"
    )
    assert outcome.code == 0 and "ImageJ's description" in outcome.err
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert not file.is_imagej and file.pages[0].tags["ResolutionUnit"].value == 1


def test_pages_without_a_directory_are_not_passed_over(tmp_path: Path) -> None:
    """ImageJ writes large stacks as one page, with the others' pixels behind it."""
    note = "ImageJ=1.53t\nimages=7\nslices=7\n"
    tifffile.imwrite(tmp_path / "a.tif", noise(16, 20), description=note, metadata=None)  # else it writes two
    with pytest.raises(WavdiffError, match="7 pictures, but a directory of 1"):
        find_pages(tmp_path / "a.tif")


def test_ome_xml_never_names_another_size(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.ome.tif", noise(16, 20), ome=True)
    outcome = cli("denoise", tmp_path / "a.ome.tif", "--sigma", 0, "--model", tiny_model, "-o", tmp_path / "b.tif")
    assert outcome.code == 0
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert 'SizeX="20"' in file.pages[0].description
    outcome = cli("upscale", tmp_path / "a.ome.tif", "--model", tiny_model, "-o", tmp_path / "c.tif")
    assert outcome.code == 0 and "OME-XML" in outcome.err
    with tifffile.TiffFile(tmp_path / "c.tif") as file:
        assert "SizeX" not in file.pages[0].description


@pytest.mark.parametrize("dtype", [np.int8, np.int16])
def test_signed_integers_are_refused(tmp_path: Path, dtype: Any) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise(8, 8, high=100, dtype=dtype))
    with pytest.raises(WavdiffError, match="signed integers are not supported"):
        open_picture(tmp_path / "a.tif")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("bands", "photometric"), [(2, "minisblack"), (4, "rgb"), (5, "rgb")])
def test_samples_without_a_meaning_are_refused(tmp_path: Path, bands: int, photometric: str, dtype: Any) -> None:
    extra = [0] * (bands - (3 if photometric == "rgb" else 1))
    tifffile.imwrite(tmp_path / "a.tif", noise(8, 8, bands, dtype=dtype), photometric=photometric, extrasamples=extra)
    with pytest.raises(WavdiffError, match="samples a pixel|not an image that can be read"):
        open_picture(tmp_path / "a.tif")


def test_avif(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    smooth = np.linspace(0, 255, 32 * 24 * 3).reshape(24, 32, 3).round().astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.avif", quality=95)
    outcome = cli("denoise", tmp_path / "a.avif", "--sigma", 0, "--model", tiny_model)
    assert outcome.code == 0, outcome.err
    with Image.open(tmp_path / "a_denoised.avif") as image:
        assert image.format == "AVIF" and np.abs(np.array(image).astype(int) - smooth).max() < 12
