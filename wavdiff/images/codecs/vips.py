"""libvips, which decodes and encodes by rows.

Pixels to be encoded reach it through a Python file: given a path it would map the file, and mapped pages count as
memory of the process. One thread and no cache of past operations keep its own memory to some rows, about 60 MB.

PNG files are compressed at level 3 with the best filter for each row: on photographs 2 % larger than Pillow's at level
6, and four times as fast.
"""

import io
import os
from collections.abc import Callable
from types import ModuleType
from typing import Any, BinaryIO, Literal

import numpy as np

from wavdiff.images.codecs.opening import one_line
from wavdiff.images.codecs.segments import HeaderSplice, tiff_head
from wavdiff.images.disk_array import Spool
from wavdiff.images.picture import PictureInfo
from wavdiff.system.errors import WavdiffError

_LOADERS = {"PNG": "pngload_source", "JPEG": "jpegload_source", "TIFF": "tiffload_source"}
_STRICT = {"access": "sequential", "fail_on": "error"}
_ALL_FILTERS = 0xF8  # of PNG, the best for each row
_TYPES = {8: "uchar", 16: "ushort"}


def decode_rows(file: BinaryIO, info: PictureInfo, spool: Spool, name: str) -> None:
    """Decode a PNG, JPEG or TIFF file of plain samples.

    Args:
        file: the file, with a descriptor.
        info: its description.
        spool: of the size that the picture has in the file; it is filled.
        name: what messages call it.

    Raises:
        WavdiffError: the pixels are damaged, or the temporary file cannot be written.
    """
    pyvips = _vips()
    height, width = spool.size
    try:
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        source = pyvips.Source.new_from_descriptor(file.fileno())
        picture = getattr(pyvips.Image, _LOADERS[str(info.format)])(source, **_STRICT)
        if picture.bands > spool.bands:  # samples without a meaning, or gray that became RGB beside its opacity
            first = picture[: spool.bands - info.has_alpha]
            picture = first.bandjoin(picture[-1]) if info.has_alpha else first
        expected = (width, height, spool.bands, _TYPES[info.bits])
        found = (picture.width, picture.height, picture.bands, picture.format)
        if found != expected:
            raise WavdiffError(f"{name}: damaged image: its header promises {expected}, its pixels are {found}")
        region = pyvips.Region.new(picture)
        for top, bottom in spool.strips():
            content = region.fetch(0, top, width, bottom - top)
            bands = np.frombuffer(content, dtype=spool.dtype).reshape(bottom - top, width, spool.bands)
            if info.has_key:
                bands = info.maximum - bands
            spool.write(top, 0, bands)
    except pyvips.Error as error:
        raise WavdiffError(f"{name}: damaged image: {one_line(error)}") from error


def encode_rows(spool: Spool, info: PictureInfo, sample: bytes, tiff: bytes, file: BinaryIO, name: str) -> None:
    """Encode a PNG or JPEG file.

    Args:
        spool: the bands of the picture.
        info: what they mean; its format is "PNG" or "JPEG".
        sample: a small file of that format, whose segments around the pixels are taken over.
        tiff: a small TIFF file of the same kind of pixels, in whose form libvips is given them.
        file: open for writing.
        name: what messages call it.

    Raises:
        WavdiffError: libvips cannot write the picture.
        OSError: the disk is full.
    """
    pyvips = _vips()
    splice = HeaderSplice(str(info.format), sample, file)
    pixels = SpoolFile(spool, info, tiff_head(tiff, info, spool.size, spool.row_bytes))
    calls = _Calls()
    source, target = pyvips.SourceCustom(), pyvips.TargetCustom()
    source.signal_connect("read", calls.guarded(pixels.readinto))
    source.signal_connect("seek", calls.guarded(pixels.seek))
    target.signal_connect("write", calls.guarded(splice.write))
    try:
        picture = pyvips.Image.tiffload_source(source, **_STRICT)
        if info.format == "PNG":
            picture.pngsave_target(target, compression=3, filter=_ALL_FILTERS, keep="none", bitdepth=info.bits)
        else:
            picture.jpegsave_target(target, Q=95, subsample_mode="off", keep="none")
    except pyvips.Error as error:
        if calls.error is not None:
            raise calls.error from None
        raise WavdiffError(f"{name}: the picture cannot be written: {one_line(error)}") from error
    splice.finish()


def stored_bytes(bands: np.ndarray, info: PictureInfo, order: Literal["<", ">"]) -> bytes:
    """Give bands as a file stores them: ink rather than light, in byte order "<" or ">"."""
    values = info.maximum - bands if info.has_key else bands
    return values.astype(values.dtype.newbyteorder(order), copy=False).tobytes()


class SpoolFile(io.RawIOBase):
    """A TIFF file that is not there: a head, then the rows of a spool. For reading.

    Args:
        spool: the bands of the picture.
        info: what they mean.
        head: from :func:`wavdiff.images.codecs.segments.tiff_head`.
    """

    def __init__(self, spool: Spool, info: PictureInfo, head: bytes) -> None:
        self._spool = spool
        self._info = info
        self._head = head
        self._place = 0
        self._length = len(head) + spool.size[0] * spool.row_bytes

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that it can seek."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move, as files do."""
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._length}[whence]
        return self._place

    def readinto(self, buffer: Any) -> int:
        """Read, as files do."""
        content = self._content(self._place, min(self._place + len(buffer), self._length))
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)

    def _content(self, start: int, end: int) -> bytes:
        if start >= end:
            return b""
        if start < len(self._head):
            return self._head[start:end]
        start, end = start - len(self._head), end - len(self._head)
        top, bottom = start // self._spool.row_bytes, -(-end // self._spool.row_bytes)
        bands = self._spool.read(top, bottom, 0, self._spool.size[1])
        skipped = top * self._spool.row_bytes
        return stored_bytes(bands, self._info, "<")[start - skipped : end - skipped]


def _vips() -> ModuleType:
    import pyvips  # type: ignore[import-untyped]

    pyvips.concurrency_set(1)
    pyvips.cache_set_max(0)
    return pyvips


class _Calls:
    """Keeps what goes wrong in functions that libvips calls; an exception cannot pass through it."""

    def __init__(self) -> None:
        self.error: BaseException | None = None

    def guarded(self, function: Callable[..., int]) -> Callable[..., int]:
        def call(*arguments: Any) -> int:
            try:
                return -1 if self.error is not None else function(*arguments)
            except BaseException as error:  # an interruption by the keyboard, too
                self.error = error
                return -1

        return call
