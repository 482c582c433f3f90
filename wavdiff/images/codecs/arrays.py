"""Files of arrays, as scientists keep pictures: NumPy's .npy, and FITS.

Their samples are integers of 8 or 16 bits, which are treated as those of any picture, or numbers without a largest one.
Of these, white is 1 where the largest value lies between LEAST_WHITE and MOST_WHITE, as in arrays of [0, 1] with some
noise, and else the largest value itself. They are kept as they are: nothing is rounded or cut off at black and white.

A picture is an array (H, W) or (H, W, C) with C = 1 (gray), 2 (gray and opacity), 3 (RGB) or 4 (RGB and opacity); in
FITS (H, W) or (3, H, W). FITS keeps its header; where a picture is enlarged, its world coordinates are those of the new
pixels (Greisen and Calabretta, "Representations of world coordinates in FITS", 2002, equation 1).
"""

from __future__ import annotations

import importlib
import io
import math
import tokenize
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from wavdiff.images.disk_array import DiskArray
from wavdiff.images.picture import ArrayNote, PictureInfo
from wavdiff.images.rectangle import Rectangle
from wavdiff.system.errors import WavdiffError

STARTS = {b"\x93NUMPY": "NPY", b"SIMPLE": "FITS"}
LEAST_WHITE, MOST_WHITE = 0.25, 2.0
STORAGE = ("BSCALE", "BZERO", "BLANK", "CHECKSUM", "DATASUM")
"""Cards on how numbers were stored, which the writer makes anew."""
LARGEST_PIXELS = 2_000_000_000
MODES = {1: "F", 2: "F;LA", 3: "F;RGB", 4: "F;RGBA"}
PIXELS = {8: {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}, 16: {1: "I;16", 2: "LA;16", 3: "RGB;16", 4: "RGBA;16"}}


def array_format(source: str | Path | BinaryIO) -> str | None:
    """ "NPY" or "FITS" by how a file begins; None for anything else, or no file."""
    try:
        if isinstance(source, str | Path):
            if not Path(source).is_file():  # a pipe would wait for a writer
                return None
            with open(source, "rb") as file:
                start = file.read(6)
        else:
            source.seek(0)
            start = source.read(6)
            source.seek(0)
    except OSError:
        return None
    return STARTS.get(start)


def describe_array(source: Path | BinaryIO, kind: str, name: str) -> PictureInfo:
    """The description of a picture in such a file; floating-point samples are looked at for what is white.

    Raises:
        WavdiffError: the file is damaged, holds no picture, or values that are not finite.
    """
    with _opened(source, kind, name) as (bands, note):
        return _description(bands, note, kind, name)


def decode_array(source: Path | BinaryIO, kind: str, name: str, limit_bytes: int) -> tuple[PictureInfo, DiskArray]:
    """The description, and the bands; raises as `describe_array`."""
    with _opened(source, kind, name) as (bands, note):
        info = _description(bands, note, kind, name)
        spool = DiskArray(info.size, info.bands, info.dtype, limit_bytes)
        for strip in spool.strips():
            spool.write(strip, strip_of(bands, strip).astype(info.dtype))
    return info, spool


def strip_of(bands: np.ndarray, strip: Rectangle) -> np.ndarray:
    """Rows and columns of bands (H, W, C)."""
    return bands[strip.top : strip.bottom, strip.left : strip.right]


@contextmanager
def _opened(source: Path | BinaryIO, kind: str, name: str) -> Iterator[tuple[np.ndarray, ArrayNote]]:
    """Bands (H, W, C), not read yet where they lie in a file, and what else the file says."""
    try:
        if kind == "NPY":
            if isinstance(source, Path):
                found = np.load(source, mmap_mode="r", allow_pickle=False)
            else:
                found = np.lib.format.read_array(source, allow_pickle=False)
            bands = found[..., None] if found.ndim == 2 else found
            yield bands, ArrayNote(found.dtype.str, found.ndim == 2)
            return
        with (
            nullcontext(source) if not isinstance(source, Path) else open(source, "rb") as file,
            _fits(name).open(file, memmap=False) as units,
        ):
            unit = next((unit for unit in units if unit.is_image and unit.header["NAXIS"] >= 2), None)
            if unit is None:
                raise WavdiffError(f"{name}: holds no picture (no image of two axes)")
            found = unit.data
            if found.ndim == 3 and found.shape[0] not in (1, 3):
                raise WavdiffError(f"{name}: an image of {found.shape} is no picture; (H, W) and (3, H, W) are")
            bands = found[..., None] if found.ndim == 2 else np.moveaxis(found, 0, -1)
            header = unit.header.tostring(sep="\n")
            yield bands, ArrayNote(found.dtype.newbyteorder(">").str, found.ndim == 2, header)
    except (WavdiffError, MemoryError):
        raise
    except (ValueError, OSError, EOFError, KeyError, TypeError, SyntaxError, tokenize.TokenError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WavdiffError(f"{name}: damaged {kind} file: {reason}") from error


def _description(bands: np.ndarray, note: ArrayNote, kind: str, name: str) -> PictureInfo:
    shape, numbers = bands.shape, bands.dtype
    if bands.ndim != 3 or shape[2] not in MODES or 0 in shape:
        given = shape[:-1] if bands.ndim == 3 and note.is_flat else shape
        raise WavdiffError(f"{name}: an array {given} is no picture; (H, W) and (H, W, C) with C = 1, 2, 3 or 4 are")
    if numbers.kind not in "uif":
        raise WavdiffError(f"{name}: samples must be real numbers, got {numbers}")
    if shape[0] * shape[1] > LARGEST_PIXELS:
        raise WavdiffError(f"{name}: {shape[0]}x{shape[1]} pixels are too many; at most {LARGEST_PIXELS}")
    has_alpha, bits = shape[2] in (2, 4), 8 * numbers.itemsize
    common: dict[str, Any] = {"size": shape[:2], "channels": shape[2] - has_alpha, "has_alpha": has_alpha}
    if numbers.kind == "u" and bits in (8, 16):
        return PictureInfo(**common, mode=PIXELS[bits][shape[2]], bits=bits, format=kind, array=note)
    if has_alpha:
        raise WavdiffError(f"{name}: opacity is for arrays of uint8 and uint16, got {shape[2]} channels of {numbers}")
    largest = -math.inf
    for top in range(0, shape[0], 256):
        part = np.asarray(bands[top : top + 256], dtype=np.float64)
        if not np.isfinite(part).all():
            raise WavdiffError(f"{name}: {(~np.isfinite(part)).sum()} values or more are not finite; fill them first")
        largest = max(largest, float(part.max()))
    if not 0 < largest < 1e30:
        raise WavdiffError(f"{name}: the largest value must be above 0, got {largest:g}; add a constant to the array")
    white = 1.0 if LEAST_WHITE <= largest <= MOST_WHITE else largest
    return PictureInfo(**common, mode=MODES[shape[2]], bits=32, format=kind, white=white, array=note)


def encode_array(spool: DiskArray, info: PictureInfo, file: BinaryIO, name: str) -> None:
    """Write bands, floats in units of their own, as the array that `info.array` describes."""
    note = info.array or ArrayNote("<f4" if info.bits == 32 else f"<u{info.bits // 8}", info.bands == 1)
    numbers, (height, width) = np.dtype(note.dtype), info.size
    if info.format == "NPY":
        shape = (height, width) if note.is_flat else (height, width, info.bands)
        header = {"descr": np.lib.format.dtype_to_descr(numbers), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for strip in spool.strips():
            file.write(_samples(spool.read(strip), numbers).tobytes())
        return
    fits = _fits(name)
    values = np.concatenate([_samples(spool.read(strip), numbers) for strip in spool.strips()])
    data = values[..., 0] if note.is_flat else np.moveaxis(values, -1, 0)
    cards = fits.Header.fromstring(note.header, sep="\n") if note.header else None
    if cards is not None:
        if data.shape[-2:] != (cards["NAXIS2"], cards["NAXIS1"]):
            _scale_coordinates(cards, data.shape[-1] / cards["NAXIS1"], data.shape[-2] / cards["NAXIS2"])
        for key in STORAGE:
            cards.remove(key, ignore_missing=True)
    written = io.BytesIO()  # it asks files how they were opened
    fits.PrimaryHDU(np.ascontiguousarray(data), cards).writeto(written)
    file.write(written.getbuffer())


def _samples(values: np.ndarray, numbers: np.dtype[Any]) -> np.ndarray:
    """Numbers of a type; integers are rounded and limited to what it holds."""
    if numbers.kind == "f":
        return values.astype(numbers)
    limits = np.iinfo(numbers)
    return np.clip(np.rint(values.astype(np.float64)), limits.min, limits.max).astype(numbers)


def _scale_coordinates(header: Any, across: float, down: float) -> None:
    """World coordinates of an enlarged picture: pixel p of the small one has its middle at (p - 0.5) f + 0.5."""
    for axis, factor in ((1, across), (2, down)):
        if f"CRPIX{axis}" in header:
            header[f"CRPIX{axis}"] = (header[f"CRPIX{axis}"] - 0.5) * factor + 0.5
        for key in (f"CDELT{axis}", f"CD1_{axis}", f"CD2_{axis}"):
            if key in header:
                header[key] /= factor


def _fits(name: str) -> Any:
    try:
        return importlib.import_module("astropy.io.fits")
    except ImportError as error:
        raise WavdiffError(f'{name}: FITS needs astropy: pip install "wavdiff[science]"') from error
