"""libvips, which decodes and encodes by rows.

Pixels to be encoded reach it through a Python file: given a path it would map the file, and mapped pages count as
memory of the process. One thread and no cache of past operations keep its own memory to some rows, about 60 MB.

PNG files are compressed at level 3 with the best filter for each row: on photographs 2 % larger than Pillow's at level
6, and four times as fast.
"""

import os
from collections.abc import Callable
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np

from wavdiff.images.codecs.opening import one_line
from wavdiff.images.disk_array import DiskArray
from wavdiff.images.formats import FORMATS
from wavdiff.images.picture import PictureInfo
from wavdiff.system.errors import WavdiffError

_LOADERS = {"PNG": "pngload_source", "JPEG": "jpegload_source", "TIFF": "tiffload_source"}
_STRICT = {"access": "sequential", "fail_on": "error"}
_ALL_FILTERS = 0xF8  # of PNG, the best for each row
_TYPES = {8: "uchar", 16: "ushort"}


def decode_rows(file: BinaryIO, info: PictureInfo, spool: DiskArray, name: str, page: int = 0) -> None:
    """Decode a PNG, JPEG or TIFF file of plain samples.

    Args:
        file: the file, with a descriptor.
        spool: filled; of the size that the picture has in the file.
        page: of a TIFF file.

    Raises:
        WavdiffError: the pixels are damaged, or the temporary file cannot be written.
    """
    pyvips = _vips()
    height, width = spool.size
    try:
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        source = pyvips.Source.new_from_descriptor(file.fileno())
        chosen = {"page": page} if info.format == "TIFF" else {}
        picture = getattr(pyvips.Image, _LOADERS[str(info.format)])(source, **_STRICT, **chosen)
        if picture.bands > spool.bands:  # samples without a meaning, or gray that became RGB beside its opacity
            first = picture[: spool.bands - info.has_alpha]
            picture = first.bandjoin(picture[-1]) if info.has_alpha else first
        expected = (width, height, spool.bands, _TYPES[info.bits])
        found = (picture.width, picture.height, picture.bands, picture.format)
        if found != expected:
            raise WavdiffError(f"{name}: damaged image: its header promises {expected}, its pixels are {found}")
        region = pyvips.Region.new(picture)
        for strip in spool.strips():
            content = region.fetch(0, strip.top, width, strip.height)
            bands = np.frombuffer(content, dtype=spool.dtype).reshape(strip.height, width, spool.bands)
            spool.write(strip, info.maximum - bands if info.has_key else bands)
    except pyvips.Error as error:
        raise WavdiffError(f"{name}: damaged image: {one_line(error)}") from error


def encode_rows(pixels: BinaryIO, info: PictureInfo, file: BinaryIO, name: str) -> None:
    """Encode a PNG or JPEG file without profile and notes.

    Args:
        pixels: the picture as an uncompressed TIFF file, at its start. It is read through Python, so that the keyboard
            interrupts.
        file: open for writing, with a descriptor.

    Raises:
        WavdiffError: libvips cannot write the picture.
    """
    pyvips = _vips()
    failures: list[BaseException] = []  # an exception cannot pass through libvips

    def guarded(function: Callable[..., int]) -> Callable[..., int]:
        def call(*arguments: Any) -> int:
            try:
                return -1 if failures else function(*arguments)
            except BaseException as error:
                failures.append(error)
                return -1

        return call

    source = pyvips.SourceCustom()
    source.signal_connect("read", guarded(pixels.readinto))  # type: ignore[attr-defined]
    source.signal_connect("seek", guarded(pixels.seek))
    target = pyvips.Target.new_to_descriptor(file.fileno())
    try:
        picture = pyvips.Image.tiffload_source(source, **_STRICT)
        if info.format == "PNG":
            picture.pngsave_target(target, compression=3, filter=_ALL_FILTERS, keep="none", bitdepth=info.bits)
        else:
            picture.jpegsave_target(
                target, Q=FORMATS["JPEG"].save_options["quality"], subsample_mode="off", keep="none"
            )
    except pyvips.Error as error:
        if failures:
            raise failures[0] from None
        raise WavdiffError(f"{name}: the picture cannot be written: {one_line(error)}") from error


def _vips() -> ModuleType:
    import pyvips  # type: ignore[import-untyped]

    pyvips.concurrency_set(1)
    pyvips.cache_set_max(0)
    return pyvips
