"""Writing a picture by rectangles, of which only one needs to be in memory."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from wavdiff.images.codecs.encoding import encodable_info, encode
from wavdiff.images.disk_array import SPOOL_BYTES, DiskArray, temporary_file
from wavdiff.images.formats import format_of
from wavdiff.images.picture import PictureInfo, Planes, bands_from_planes
from wavdiff.images.rectangle import Rectangle, at, whole
from wavdiff.images.written_form import check_picture_path, written_info
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
        size: (height, width) in pixels; None for that of `info`.
        format: Pillow's name of the format, which a stream needs; None for the one that the suffix asks for.
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
        target = Path(target)
        name = name or str(target)
        format = format or format_of(target)
        check_picture_path(target, info, format=format)
    name = name or "stdout"
    if format is None:
        raise WavdiffError(f"{name}: a stream has no suffix; its format must be named, such as PNG")
    return PictureWriter(target, written_info(info, format, name), spool_bytes, name)


class PictureWriter:
    """A picture that is written by rectangles; `create_picture` makes it.

    Attributes:
        info: the picture as its format will hold it.

    Args:
        target: the file, or a binary stream.
        info: as `written_info` gives it.
        spool_bytes: integers up to this size stay in memory.
        name: what messages call it.
    """

    def __init__(self, target: Path | BinaryIO, info: PictureInfo, spool_bytes: int, name: str) -> None:
        self.info = encodable_info(info)
        self._target = target
        self._name = name
        self._spool = DiskArray(info.size, info.bands, info.dtype, spool_bytes)
        self._missing = info.size[0] * info.size[1]

    def write(self, where: Rectangle | int, planes: Planes | int, last: Planes | None = None) -> None:
        """Write a rectangle, or (top, left, planes). Every pixel is written once, in any order.

        Args:
            where: the rectangle.
            planes: of its size and of the kinds that `info` has; values outside their range are limited.
            last: the planes, where `where` and `planes` are the place of their first pixel.

        Raises:
            WavdiffError: planes of wrong kinds or shapes, values that are not finite, or no space for the temporary
                file.
            ValueError: a rectangle that is not inside the picture.
        """
        if isinstance(where, int) and isinstance(planes, int) and last is not None:
            where, planes = at(where, planes, last.colour), last
        assert isinstance(where, Rectangle) and isinstance(planes, Planes)
        if planes.size != where.size or not where.is_inside(self.info.size):
            (height, width), size = planes.size, self.info.size
            raise ValueError(f"{height} x {width} pixels at {where.top}, {where.left} are not inside {size}")
        self._spool.write(where, bands_from_planes(planes, self.info, self._name))
        self._missing -= where.height * where.width

    def write_all(self, planes: Planes) -> None:
        """Write the whole picture."""
        self.write(whole(self.info.size), planes)

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
