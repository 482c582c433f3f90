"""Reading any rectangle of a picture, of which only that rectangle needs to be in memory."""

import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np

from wavdiff.images.codecs.decoding import decode
from wavdiff.images.codecs.headers import describe
from wavdiff.images.codecs.opening import opened
from wavdiff.images.disk_array import SPOOL_BYTES, Spool, temporary_file
from wavdiff.images.picture import PictureInfo, Planes, planes_from_bands
from wavdiff.system.errors import WavdiffError

# EXIF orientation -> (rows and columns are exchanged, then rows are reversed, then columns are reversed)
_TURNS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


def read_info(source: str | os.PathLike[str]) -> PictureInfo:
    """Describe a picture without decoding its pixels.

    Args:
        source: the file.

    Returns:
        Its size, mode and metadata.

    Raises:
        WavdiffError: as for :func:`open_picture`, apart from damaged pixels.
    """
    with opened(source) as image:
        return describe(image, str(source)).info


def open_picture(
    source: str | os.PathLike[str] | BinaryIO, *, spool_bytes: int = SPOOL_BYTES, name: str | None = None
) -> "PictureReader":
    """Open a picture to read it by rectangles. The pixels are decoded at once, and checked so.

    Args:
        source: a PNG, JPEG, WebP, TIFF, BMP, PGM/PPM or single-picture GIF file, or a binary stream, which is read to
            its end.
        spool_bytes: decoded integers up to this size stay in memory; more lie in a temporary file.
        name: what messages call it; None for the path, or "stdin".

    Returns:
        The picture, a context manager.

    Raises:
        WavdiffError: the file is missing, a folder, empty, damaged, of an unknown format, animated or of several
            pages, of floating-point pixels, or suspiciously small for its number of pixels.
    """
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        name = name or str(path)
        with opened(path, name) as image:
            header = describe(image, name)
            spool, turn = decode(path, image, header, name, spool_bytes)
    else:
        name = name or "stdin"
        with temporary_file() as file:
            try:
                shutil.copyfileobj(source, file)
                file.flush()
            except OSError as error:
                raise WavdiffError(f"{name}: cannot be read: {error.strerror or error}") from error
            with opened(file, name) as image:
                header = describe(image, name)
                spool, turn = decode(file, image, header, name, spool_bytes)
    return PictureReader(header.info, spool, turn)


class PictureReader:
    """A picture that is read by rectangles; :func:`open_picture` makes it. Several threads may read at once.

    Attributes:
        info: what kind of picture it is.

    Args:
        info: the picture, upright.
        spool: its bands as they lie in the file. It is closed with the reader.
        orientation: 1 to 8, how they have to be turned.
    """

    def __init__(self, info: PictureInfo, spool: Spool, orientation: int = 1) -> None:
        self.info = info
        self._spool = spool
        self._turn = _TURNS[orientation]

    def read(self, top: int, bottom: int, left: int, right: int) -> Planes:
        """Read rows top..bottom-1 and columns left..right-1 of the upright picture.

        Args:
            top: the first row, >= 0.
            bottom: the row behind the last, at most the height.
            left: the first column, >= 0.
            right: the column behind the last, at most the width.

        Returns:
            Planes of size (bottom - top, right - left).

        Raises:
            ValueError: a rectangle that is empty or not inside the picture.
        """
        return planes_from_bands(self.read_bands(top, bottom, left, right), self.info)

    def read_bands(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        """Read the integers of a rectangle, as :meth:`read`: (bottom - top, right - left, ``info.bands``)."""
        height, width = self.info.size
        if not (0 <= top < bottom <= height and 0 <= left < right <= width):
            raise ValueError(f"rows {top}:{bottom}, columns {left}:{right} are not inside {height} x {width}")
        exchanged, rows_reversed, columns_reversed = self._turn
        if rows_reversed:
            top, bottom = height - bottom, height - top
        if columns_reversed:
            left, right = width - right, width - left
        if exchanged:
            bands = self._spool.read(left, right, top, bottom).transpose(1, 0, 2)
        else:
            bands = self._spool.read(top, bottom, left, right)
        return bands[:: -1 if rows_reversed else 1, :: -1 if columns_reversed else 1]

    def read_all(self) -> Planes:
        """Read the whole picture."""
        return self.read(0, self.info.size[0], 0, self.info.size[1])

    def close(self) -> None:
        """Give memory and disk back."""
        self._spool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
