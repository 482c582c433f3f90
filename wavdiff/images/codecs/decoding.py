"""Decoding a file into a disk array, whole by Pillow or by rows by libvips.

Pillow holds the whole picture while it decodes, which is right for pictures of ordinary size and necessary for modes
that need interpretation (palettes, one bit, tints of two bits, inverted gray, YCbCr). libvips holds some rows. It
decodes PNG, JPEG and TIFF with plain samples to the same integers (the tests compare), and it is the only one of the
two that keeps all 16 bits of colour pictures. Binary PGM and PPM files are rows already.
"""

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from wavdiff.images.codecs.headers import Header
from wavdiff.images.codecs.pillow_modes import bands_from_image
from wavdiff.images.codecs.vips import decode_rows
from wavdiff.images.disk_array import DiskArray
from wavdiff.system.errors import WavdiffError


def decode(
    source: Path | BinaryIO, image: Image.Image, header: Header, name: str, limit_bytes: int, page: int = 0
) -> tuple[DiskArray, int]:
    """Decode a picture: its bands as they lie in the file, and the orientation, 1 to 8, that they still need.

    Args:
        source: the file, or an open one that can seek.
        image: the same file, opened by Pillow and not loaded.
        header: its description.
        limit_bytes: pixels up to this size stay in memory and are decoded by Pillow.
        page: of a TIFF file, at which `image` is.

    Raises:
        WavdiffError: the pixels are damaged, or the temporary file cannot be written.
    """
    info = header.info
    if header.needs_rows and not header.by_rows:
        raise WavdiffError(f"{name}: 16-bit {info.mode.partition(';')[0]} stored in this way is not supported")
    is_large = info.size[0] * info.size[1] * info.bands * info.dtype.itemsize > limit_bytes
    by_rows = header.needs_rows or (is_large and header.by_rows)
    # Pillow turns TIFF while it loads.
    turn = 1 if info.format == "TIFF" and not by_rows else header.orientation
    height, width = info.size if turn <= 4 else info.size[::-1]
    spool = DiskArray((height, width), info.bands, info.dtype, limit_bytes)
    try:
        if not by_rows:
            _decode_whole(image, header, name, spool)
        else:
            with open(source, "rb") if isinstance(source, Path) else nullcontext(source) as file:
                if header.raw is not None:
                    _decode_raw(file, header.raw, spool, name)
                else:
                    decode_rows(file, info, spool, name, page)
    except BaseException:
        spool.close()
        raise
    return spool, turn


def _decode_whole(image: Image.Image, header: Header, name: str, spool: DiskArray) -> None:
    with _quiet() if image.format == "TIFF" else nullcontext():
        image.load()
    for strip in spool.strips():
        part = image.crop((0, strip.top, strip.right, strip.bottom))
        bands = bands_from_image(part, header.info, name)
        spool.write(strip, 65535 - bands if header.inverted else bands)


def _decode_raw(file: BinaryIO, raw: tuple[int, int], spool: DiskArray, name: str) -> None:
    """Read the pixels of a binary PGM or PPM file, big-endian, and scale them to the largest value of 8 or 16 bits."""
    offset, largest = raw
    maximum = np.iinfo(spool.dtype).max
    stored = np.dtype(np.uint8 if largest < 256 else ">u2")
    file.seek(offset)
    for strip in spool.strips():
        shape = (*strip.size, spool.bands)
        content = file.read(math.prod(shape) * stored.itemsize)
        if len(content) < math.prod(shape) * stored.itemsize:
            raise WavdiffError(f"{name}: damaged image: the file ends before row {strip.bottom} of {spool.size[0]}")
        bands: np.ndarray = np.frombuffer(content, dtype=stored).reshape(shape)
        if largest != maximum:
            bands = np.minimum(np.round(bands / largest * maximum), maximum)
        spool.write(strip, bands.astype(spool.dtype))


@contextmanager
def _quiet() -> Iterator[None]:
    """Send to nowhere what libtiff writes to standard error past Python: its complaints arrive as exceptions, too."""
    try:
        kept = os.dup(2)
    except OSError:  # no standard error at all
        kept = None
    if kept is None:
        yield
        return
    if sys.stderr is not None:
        sys.stderr.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
