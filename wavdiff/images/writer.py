"""Writing a picture by rectangles, of which only one needs to be in memory."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from wavdiff.images.codecs.encoding import encodable_info, encode
from wavdiff.images.disk_array import SPOOL_BYTES, Spool, temporary_file
from wavdiff.images.formats import check_picture_path, format_of, written_info
from wavdiff.images.picture import PictureInfo, Planes, bands_from_planes
from wavdiff.system.atomic import written_whole
from wavdiff.system.errors import WavdiffError


def create_picture(
    target: str | os.PathLike[str] | BinaryIO,
    info: PictureInfo,
    size: tuple[int, int] | None = None,
    *,
    format: str | None = None,
    spool_bytes: int = SPOOL_BYTES,
    name: str | None = None,
) -> "PictureWriter":
    """Begin a picture like another, to be written by rectangles.

    Args:
        target: the file, or a binary stream.
        info: what kind of picture it shall be.
        size: (height, width) in pixels; None for that of ``info``.
        format: Pillow's name of the format, such as "PNG", which a stream needs; None for the one that the suffix asks
            for.
        spool_bytes: integers up to this size stay in memory; more lie in a temporary file.
        name: what messages call it; None for the path, or "stdout".

    Returns:
        A context manager. Leaving it writes the file, completely or not at all: beside its place under a temporary
        name, then moved there. Leaving it with an exception writes nothing.

    Raises:
        WavdiffError: an unknown suffix, a folder in the way, a picture that the format cannot hold, or no temporary
            file can be made.
    """
    info = replace(info, size=size or info.size)
    if isinstance(target, str | os.PathLike):
        path = Path(target)
        name = name or str(path)
        format = format or format_of(path)
        check_picture_path(path, info, format=format)
        return PictureWriter(path, written_info(info, format, name), spool_bytes, name)
    name = name or "stdout"
    if format is None:
        raise WavdiffError(f"{name}: a stream has no suffix; its format must be named, such as PNG")
    return PictureWriter(target, written_info(info, format, name), spool_bytes, name)


class PictureWriter:
    """A picture that is written by rectangles; :func:`create_picture` makes it.

    Attributes:
        info: the picture as its format will hold it.

    Args:
        target: the file, or a binary stream.
        info: as :func:`wavdiff.images.formats.written_info` gives it.
        spool_bytes: integers up to this size stay in memory.
        name: what messages call it.
    """

    def __init__(self, target: Path | BinaryIO, info: PictureInfo, spool_bytes: int, name: str) -> None:
        self.info = encodable_info(info)
        self._target = target
        self._name = name
        self._spool = Spool(info.size, info.bands, info.dtype, spool_bytes)
        self._missing = info.size[0] * info.size[1]

    def write(self, top: int, left: int, planes: Planes) -> None:
        """Write a rectangle with its first pixel at (top, left). Every pixel is written once, in any order.

        Args:
            top: its first row.
            left: its first column.
            planes: of the kinds that ``info`` has; values outside their range are limited.

        Raises:
            WavdiffError: planes of wrong kinds or shapes, values that are not finite, or no space for the temporary
                file.
            ValueError: a rectangle that is not inside the picture.
        """
        height, width = planes.size
        if top < 0 or left < 0 or top + height > self.info.size[0] or left + width > self.info.size[1]:
            raise ValueError(f"{height} x {width} pixels at {top}, {left} are not inside {self.info.size}")
        self._spool.write(top, left, bands_from_planes(planes, self.info, self._name))
        self._missing -= height * width

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._spool.close()

    def _finish(self) -> None:
        if self._missing != 0:
            raise ValueError(f"{self._name}: every pixel must be written once; the count is off by {self._missing}")
        if isinstance(self._target, Path):
            with written_whole(self._target) as file:
                encode(self._spool, self.info, file, self._name)
            return
        try:
            with temporary_file() as file:
                encode(self._spool, self.info, file, self._name)
                file.seek(0)
                shutil.copyfileobj(file, self._target)
                self._target.flush()
        except OSError as error:
            raise WavdiffError(f"{self._name}: the picture cannot be written: {error.strerror or error}") from error
