"""Pictures in files of arrays: .npy and FITS, in and out, and what becomes of their numbers."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Outcome, run_piped, scene
from PIL import Image

import wavdiff
from wavdiff.images import create_picture, find_pages, open_picture, read_info
from wavdiff.system.errors import WavdiffError

NUMBERS = ["uint8", "<u2", ">u2", "int16", "int32", "float16", "<f4", ">f8"]


def picture(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).random(shape)
    kind = np.dtype(dtype)
    return (values * 250).round().astype(kind) if kind.kind in "ui" else values.astype(kind)


def copied(path: Path, target: Path) -> None:
    """Read by rectangles and written again."""
    with open_picture(path) as reader, create_picture(target, reader.info) as writer:
        writer.write_all(reader.read_all())


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 1), (9, 7, 3)])
def test_numpy_files_come_back(shape: tuple[int, ...], dtype: str, tmp_path: Path) -> None:
    array = picture(shape, dtype)
    np.save(tmp_path / "a.npy", array)
    copied(tmp_path / "a.npy", tmp_path / "b.npy")
    found = np.load(tmp_path / "b.npy")
    assert found.dtype == array.dtype and found.shape == array.shape
    np.testing.assert_allclose(found.astype(float), array.astype(float), atol=2e-7 * float(array.max()))
    assert read_info(tmp_path / "a.npy").size == (9, 7) and find_pages(tmp_path / "a.npy").pages == (0,)


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("shape", [(9, 7), (3, 9, 7)])
def test_fits_files_come_back_with_their_header(shape: tuple[int, ...], dtype: str, tmp_path: Path) -> None:
    fits = pytest.importorskip("astropy.io.fits")
    array = picture(shape, dtype if dtype != "float16" else "<f4")
    header = fits.Header([("OBJECT", "M51", "what it is"), ("CRPIX1", 3.0), ("CDELT1", 0.5)])
    fits.PrimaryHDU(array, header).writeto(tmp_path / "a.fits", checksum=True)
    copied(tmp_path / "a.fits", tmp_path / "b.fits")
    with fits.open(tmp_path / "b.fits", checksum=True) as units:
        found, cards = units[0].data, units[0].header
        assert found.shape == array.shape and found.dtype.kind == array.dtype.kind
        assert found.dtype.itemsize == array.dtype.itemsize
        np.testing.assert_allclose(found.astype(float), array.astype(float), atol=2e-7 * float(array.max()))
        assert (cards["OBJECT"], cards["CRPIX1"], cards["CDELT1"]) == ("M51", 3.0, 0.5)
        assert cards.comments["OBJECT"] == "what it is"


def test_the_first_image_of_a_fits_file_is_meant_also_where_it_is_scaled_or_packed(tmp_path: Path) -> None:
    fits = pytest.importorskip("astropy.io.fits")
    array = (picture((40, 50), "float32") * 1000).astype("int16")
    scaled = fits.ImageHDU(array)
    scaled.header["BSCALE"], scaled.header["BZERO"] = 0.5, 10.0
    fits.HDUList([fits.PrimaryHDU(), scaled]).writeto(tmp_path / "scaled.fits")
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(array)]).writeto(tmp_path / "packed.fits")
    for name, expected in (("scaled", 0.5 * array + 10), ("packed", array)):
        copied(tmp_path / f"{name}.fits", tmp_path / "out.npy")
        np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, rtol=1e-5, atol=1e-3)
        copied(tmp_path / f"{name}.fits", tmp_path / f"{name}-again.fits")
        np.testing.assert_allclose(fits.getdata(tmp_path / f"{name}-again.fits"), expected, rtol=1e-5, atol=1e-3)


def test_an_enlarged_fits_picture_points_to_the_same_sky(tmp_path: Path) -> None:
    fits = pytest.importorskip("astropy.io.fits")
    wcs = pytest.importorskip("astropy.wcs")
    header = fits.Header()
    for key, value in {
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 202.4, "CRVAL2": 47.2, "CRPIX1": 6.5, "CRPIX2": 4.0,
        "CD1_1": -1e-4, "CD1_2": 2e-5, "CD2_1": 2e-5, "CD2_2": 1e-4,
    }.items():  # fmt: skip
        header[key] = value
    array = (1000 * np.asarray(scene(12, 16, 1), dtype="float32") / 255).astype("float32")
    fits.PrimaryHDU(array, header).writeto(tmp_path / "a.fits")
    assert run_cli_on(tmp_path, "upscale", "a.fits", "--model", "faces").code == 0
    with fits.open(tmp_path / "a_x2.fits") as units:
        assert units[0].data.shape == (24, 32)
        large = wcs.WCS(units[0].header)
        means = units[0].data.astype(float).reshape(12, 2, 16, 2).mean(axis=(1, 3))
        np.testing.assert_allclose(means, array, atol=0.01)
    small = wcs.WCS(header)
    # The middle of a pixel is the corner where four of the new ones meet.
    np.testing.assert_allclose(small.wcs_pix2world([[3, 5]], 0), large.wcs_pix2world([[6.5, 10.5]], 0), rtol=1e-12)


def run_cli_on(folder: Path, *arguments: object) -> Outcome:
    from conftest import run_cli

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return run_cli(*arguments)


def test_floating_point_is_denoised_in_its_own_units_and_neither_rounded_nor_cut_off(tmp_path: Path) -> None:
    clean = (np.asarray(scene(48, 64, 2), dtype="float64") - 80) / 160
    noisy = clean + np.random.default_rng(0).normal(0, 0.1, clean.shape)
    expected = wavdiff.denoise(noisy, 0.1, model="faces", declip=False)
    np.save(tmp_path / "unit.npy", noisy)
    np.save(tmp_path / "counts.npy", 4000 * noisy)
    options = ("--model", "faces", "--sigma", "0.1", "--no-declip")
    assert run_cli_on(tmp_path, "denoise", "unit.npy", *options).code == 0
    found = np.load(tmp_path / "unit_denoised.npy")
    assert found.dtype == np.float64 and found.min() < 0
    np.testing.assert_allclose(found, expected, atol=1e-5)
    named = run_cli_on(tmp_path, "denoise", "counts.npy", *options, "--white", "4000")
    assert named.code == 0 and "white" not in named.err
    np.testing.assert_allclose(np.load(tmp_path / "counts_denoised.npy") / 4000, expected, atol=1e-4)
    measured = run_cli_on(tmp_path, "denoise", "counts.npy", "--model", "faces", "--overwrite")
    assert f"white is taken to be the largest value, {4000 * noisy.max():g}; else give --white" in measured.err
    better = ((np.load(tmp_path / "counts_denoised.npy") / 4000 - clean) ** 2).mean()
    assert better < 0.25 * ((noisy - clean) ** 2).mean()


def test_from_pictures_to_arrays_and_back(tmp_path: Path) -> None:
    array = picture((20, 24, 3), "uint8")
    Image.fromarray(array).save(tmp_path / "a.png")
    options = ("--model", "faces", "--sigma", "0.05", "--no-declip")
    assert run_cli_on(tmp_path, "denoise", "a.png", *options, "--ext", "npy").code == 0
    floats = np.load(tmp_path / "a_denoised.npy")
    assert floats.dtype == np.float32 and floats.shape == array.shape
    expected = wavdiff.denoise(array / 255, 0.05, model="faces", declip=False)
    np.testing.assert_allclose(floats, expected, atol=1e-5)
    np.save(tmp_path / "b.npy", floats)
    said = run_cli_on(tmp_path, "denoise", "b.npy", *options, "-o", "b.png")
    assert (
        said.code == 0 and "PNG holds 16 bits per sample; the input's floats are cut off at black and white" in said.err
    )
    assert read_info(tmp_path / "b.png").mode == "RGB;16"
    said = run_cli_on(tmp_path, "denoise", "b.npy", *options, "-o", "b.jpg")
    assert "JPEG holds 8 bits" in said.err and Image.open(tmp_path / "b.jpg").mode == "RGB"


def test_opacity_goes_into_an_array(tmp_path: Path) -> None:
    Image.fromarray(picture((8, 9, 4), "uint8")).save(tmp_path / "a.png")
    copied(tmp_path / "a.png", tmp_path / "a.npy")
    np.testing.assert_allclose(np.load(tmp_path / "a.npy"), np.asarray(Image.open(tmp_path / "a.png")) / 255, atol=1e-6)
    np.save(tmp_path / "b.npy", picture((8, 9, 4), "uint8"))
    copied(tmp_path / "b.npy", tmp_path / "b.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "b.png")), np.load(tmp_path / "b.npy"))
    with pytest.raises(WavdiffError, match="transparency"):
        copied(tmp_path / "a.png", tmp_path / "a.fits")


def test_an_array_through_a_pipe(tmp_path: Path) -> None:
    array = picture((16, 16), "float32")
    buffer = io.BytesIO()
    np.save(buffer, array)
    done = run_piped(buffer.getvalue(), "denoise", "-", "-o", "-", "--model", "faces", "--sigma", "0.1")
    assert done[0] == 0, done[2]
    found = np.load(io.BytesIO(done[1]))
    assert found.shape == array.shape and found.dtype == array.dtype


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 9, 7, 3)), "is no picture"),
        (np.zeros((9,)), "is no picture"),
        (np.zeros((0, 7)), "is no picture"),
        (np.ones((3, 9, 7)), "is no picture"),
        (np.ones((9, 7), dtype=complex), "must be real numbers, got complex128"),
        (np.full((9, 7), np.nan), "not finite"),
        (np.zeros((9, 7)), "largest value must be above 0, got 0"),
        (-np.ones((9, 7)), "largest value must be above 0, got -1"),
        (np.ones((9, 7, 2)), "opacity is for arrays of uint8 and uint16"),
        (np.array([["a"]]), "must be real numbers"),
        (np.array([[{}]], dtype=object), "damaged NPY file"),
    ],
)
def test_what_is_no_picture_is_named(array: Any, message: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(WavdiffError, match=f"a.npy: .*{message}"):
        open_picture(tmp_path / "a.npy")
    outcome = run_cli_on(tmp_path, "denoise", "a.npy")
    assert outcome.code == 1 and outcome.err.startswith("wavdiff: a.npy: ") and outcome.err.count("\n") == 1


@pytest.mark.parametrize("content", [b"\x93NUMPY", b"\x93NUMPY\x01\x00\xff\xff", b"SIMPLE  =", b"SIMPLE" + bytes(100)])
def test_damaged_files_are_named(content: bytes, tmp_path: Path) -> None:
    for name in ("a.npy", "a.fits", "a.png"):
        (tmp_path / name).write_bytes(content)
        outcome = run_cli_on(tmp_path, "denoise", name)
        assert outcome.code == 1 and outcome.err.startswith(f"wavdiff: {name}: "), outcome.err
        assert outcome.err.count("\n") == 1
    np.save(tmp_path / "cut.npy", np.ones((64, 64)))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:1000])
    with pytest.raises(WavdiffError, match="cut.npy: damaged"):
        open_picture(tmp_path / "cut.npy")


def test_without_astropy_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    (tmp_path / "a.fits").write_bytes(b"SIMPLE  =                    T")
    monkeypatch.setitem(sys.modules, "astropy.io.fits", None)
    with pytest.raises(WavdiffError, match=r'pip install "wavdiff\[science\]"'):
        open_picture(tmp_path / "a.fits")
