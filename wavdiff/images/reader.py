"""Reading any rectangle of a picture, of which only that rectangle needs to be in memory."""

import os
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np

from wavdiff.images.codecs.arrays import array_format, decode_array, describe_array
from wavdiff.images.codecs.decoding import decode
from wavdiff.images.codecs.exif import turns
from wavdiff.images.codecs.headers import describe
from wavdiff.images.codecs.opening import opened
from wavdiff.images.disk_array import SPOOL_BYTES, DiskArray, temporary_file
from wavdiff.images.picture import PictureInfo, Planes, planes_from_bands
from wavdiff.images.rectangle import Rectangle, whole
from wavdiff.system.errors import WavdiffError


def read_info(source: str | os.PathLike[str], page: int | None = None) -> PictureInfo:
    """Describe a picture without decoding its pixels; `page` as for `open_picture`.

    Raises:
        WavdiffError: as for `open_picture`, apart from damaged pixels.
    """
    if kind := array_format(Path(source)):
        return describe_array(Path(source), kind, str(source))
    with opened(source, page=page) as image:
        return describe(image, str(source)).info


def open_picture(
    source: str | os.PathLike[str] | BinaryIO,
    *,
    spool_bytes: int = SPOOL_BYTES,
    name: str | None = None,
    page: int | None = None,
) -> "PictureReader":
    """Open a picture to read it by rectangles. The pixels are decoded at once, and checked so.

    Args:
        source: a file of one picture, in any of `FORMATS`, or a binary stream, which is read to its end.
        spool_bytes: decoded integers up to this size stay in memory; more lie in a temporary file.
        name: what messages call it; None for the path, or "stdin".
        page: of a TIFF file, from 0; None: it must be the only one.

    Returns:
        The picture, a context manager.

    Raises:
        WavdiffError: the file is missing, a folder, empty, damaged, of an unknown format, animated or of several
            pages, of floating-point pixels that are no array, or suspiciously small for its number of pixels.
    """
    with ExitStack() as stack:
        file: Path | BinaryIO
        if isinstance(source, str | os.PathLike):
            file = Path(source)
            name = name or str(file)
        else:
            name = name or "stdin"
            file = stack.enter_context(temporary_file())
            try:
                shutil.copyfileobj(source, file)
                file.flush()
            except OSError as error:
                raise WavdiffError(f"{name}: cannot be read: {error.strerror or error}") from error
        if kind := array_format(file):
            return PictureReader(*decode_array(file, kind, name, spool_bytes))
        image = stack.enter_context(opened(file, name, page))
        header = describe(image, name)
        spool, turn = decode(file, image, header, name, spool_bytes, page or 0)
    return PictureReader(header.info, spool, turn)


class PictureReader:
    """A picture that is read by rectangles; `open_picture` makes it. Several threads may read at once.

    Args:
        info: what kind of picture it is, upright; an attribute, too.
        spool: its bands as they lie in the file. It is closed with the reader.
        orientation: 1 to 8, how they have to be turned.
    """

    def __init__(self, info: PictureInfo, spool: DiskArray, orientation: int = 1) -> None:
        self.info = info
        self._spool = spool
        self._turn = turns(orientation)

    def read(self, where: Rectangle) -> Planes:
        """Planes of a rectangle of the upright picture.

        Raises:
            ValueError: a rectangle that is empty or not inside the picture.
        """
        return planes_from_bands(self.read_bands(where), self.info)

    def read_bands(self, where: Rectangle) -> np.ndarray:
        """The integers (h, w, `info.bands`) of a rectangle, as `read`; not to be written to."""
        height, width = self.info.size
        if not where.is_inside(self.info.size):
            sides = f"rows {where.top}:{where.bottom}, columns {where.left}:{where.right}"
            raise ValueError(f"{sides} are not inside {height} x {width}")
        top, bottom, left, right = where.top, where.bottom, where.left, where.right
        exchanged, rows_reversed, columns_reversed = self._turn
        if rows_reversed:
            top, bottom = height - bottom, height - top
        if columns_reversed:
            left, right = width - right, width - left
        if exchanged:
            bands = self._spool.read(Rectangle(left, right, top, bottom)).transpose(1, 0, 2)
        else:
            bands = self._spool.read(Rectangle(top, bottom, left, right))
        return bands[:: -1 if rows_reversed else 1, :: -1 if columns_reversed else 1]

    def read_all(self) -> Planes:
        """Read the whole picture."""
        return self.read(whole(self.info.size))

    def close(self) -> None:
        """Give memory and disk back."""
        self._spool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
