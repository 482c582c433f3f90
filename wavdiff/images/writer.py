"""Writing a picture by rectangles, of which only one needs to be in memory.

What a format cannot hold for good (transparency in JPEG, inks in PNG, 70,000 columns in WebP) is refused before the
work. What it holds in another form is written in that form: a palette becomes RGB in JPEG, and 16 bits become 8, of
which a note tells.
"""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Self

from wavdiff.images.codecs.arrays import MODES, PIXELS
from wavdiff.images.codecs.encoding import encodable_info, encode
from wavdiff.images.disk_array import SPOOL_BYTES, DiskArray, temporary_file
from wavdiff.images.formats import FORMATS, FileFormat, format_of
from wavdiff.images.picture import PictureInfo, Planes, bands_from_planes
from wavdiff.images.rectangle import Rectangle, whole
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
    info = of_size(info, size or info.size)
    if isinstance(target, str | os.PathLike):
        target = Path(target)
        name = name or str(target)
        format = format or format_of(target)
        check_picture_path(target, info, format=format)
    name = name or "stdout"
    if format is None:
        raise WavdiffError(f"{name}: a stream has no suffix; its format must be named, such as PNG")
    return PictureWriter(target, written_info(info, format, name), spool_bytes, name)


def of_size(info: PictureInfo, size: tuple[int, int]) -> PictureInfo:
    """The description of a picture of another size, (height, width)."""
    scale = info.resolution
    if scale:
        scale = scale[0] * size[1] / info.size[1], scale[1] * size[0] / info.size[0]
    return replace(info, size=size, resolution=scale)


class PictureWriter:
    """A picture that is written by rectangles; `create_picture` makes it.

    Args:
        target: the file, or a binary stream.
        info: the picture as its format will hold it, from `written_info`; an attribute, too.
        spool_bytes: integers up to this size stay in memory.
    """

    def __init__(self, target: Path | BinaryIO, info: PictureInfo, spool_bytes: int, name: str) -> None:
        self.info = encodable_info(info)
        self._target = target
        self._name = name
        self._spool = DiskArray(info.size, info.bands, info.dtype, spool_bytes)
        self._missing = info.size[0] * info.size[1]

    def write(self, where: Rectangle, planes: Planes) -> None:
        """Write a rectangle. Every pixel is written once, in any order.

        Args:
            where: the rectangle.
            planes: of its size and of the kinds that `info` has; values outside their range are limited.

        Raises:
            WavdiffError: planes of wrong kinds or shapes, values that are not finite, or no space for the temporary
                file.
            ValueError: a rectangle that is not inside the picture.
        """
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

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
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


def written_info(info: PictureInfo, kind: str, name: str) -> PictureInfo:
    """A picture in the nearest mode that a format has, without what it cannot carry beside the pixels.

    Args:
        info: the picture, with the size that it will have.
        kind: Pillow's name of the format.

    Raises:
        WavdiffError: the format cannot hold the picture's transparency, its inks, its colours or its size.
    """
    if kind not in FORMATS:
        raise WavdiffError(f"{name}: the format must be one of {', '.join(FORMATS)}, not {kind!r}")
    held = FORMATS[kind]
    _check_held(info, held, kind, name)
    if held.is_array and (info.array is None or info.is_float):
        note = info.array if info.array is not None and info.format == kind else None
        return replace(info, mode=MODES[info.bands], bits=32, format=kind, array=note, icc_profile=None)
    if info.is_float:  # to integers
        info = replace(info, mode=PIXELS[16][info.bands], bits=16, array=None)
    bits = info.bits if "16 bits" in held.holds else 8
    mode = info.mode.partition(";")[0] if bits < info.bits else info.mode
    if bits == 8:
        is_hidden = mode == "P" and info.has_alpha and "palette alpha" not in held.holds
        if mode not in held.modes or is_hidden:
            layout = "L" if info.channels == 1 and "gray" in held.holds else "RGB"
            mode = "CMYK" if info.has_key else layout + ("A" if info.has_alpha else "")
    elif mode.startswith("I") and mode not in held.modes:
        mode = "I;16"
    profile = info.icc_profile if "profile" in held.holds else None
    return replace(info, mode=mode, bits=bits, format=kind, icc_profile=profile)


def _check_held(info: PictureInfo, held: FileFormat, kind: str, name: str) -> None:
    height, width = info.size
    if info.has_alpha and "alpha" not in held.holds:
        raise WavdiffError(f"{name}: {kind} cannot hold the transparency of the input; write .png, .webp or .tif")
    if info.has_key and "CMYK" not in held.modes:
        raise WavdiffError(f"{name}: {kind} cannot hold the CMYK inks of the input; write .tif or .jpg")
    if info.has_alpha and info.is_float and not held.is_array:
        raise WavdiffError(f"{name}: opacity of a floating-point array cannot be written as {kind}; write .npy")
    if held.needs_palette and info.mode != "P" and (info.channels == 3 or info.has_alpha):
        raise WavdiffError(f"{name}: {kind} holds 256 colours, too few for an input of mode {info.mode}; write .png")
    if max(info.size) > held.longest_side:
        raise WavdiffError(
            f"{name}: {kind} holds at most {held.longest_side} pixels a side, not {height} x {width}; "
            "write .png or .tif"
        )
    if height * width > held.most_pixels:
        raise WavdiffError(
            f"{name}: {held.title} is for at most {held.most_pixels} pixels, not {height} x {width}: encoding takes "
            "40 bytes of memory for each; write .png or .tif"
        )


def check_picture_path(
    path: str | os.PathLike[str], info: PictureInfo, size: tuple[int, int] | None = None, format: str | None = None
) -> tuple[str, ...]:
    """Check, before the work is done, that `create_picture` will be able to write a picture.

    Args:
        path: the file to be written.
        info: the picture that it shall be like.
        size: (height, width) of the new picture; None for that of `info`.
        format: Pillow's name of the format; None for the one that the suffix asks for.

    Returns:
        Notes, one line each, on what will be written in another form than it was read.

    Raises:
        WavdiffError: an unknown suffix, a folder in the way or that may not be written, or a picture that the format
            cannot hold.
    """
    format = format or format_of(path)
    target = Path(path)
    if target.is_dir():
        raise WavdiffError(f"{target}: the file to write is a folder")
    above = next(folder for folder in target.absolute().parents if folder.exists())
    if not above.is_dir():
        raise WavdiffError(f"{target}: the picture cannot be written: {above} is a file, not a folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise WavdiffError(f"{target}: the picture cannot be written: the folder {above} may not be written")
    written = written_info(replace(info, size=size or info.size), format, str(path))
    notes = []
    if written.bits < info.bits:
        given = "floats are cut off at black and white, and" if info.is_float else "16 are"
        notes.append(f"{path}: {format} holds {written.bits} bits per sample; the input's {given} rounded")
    if info.icc_profile and written.icc_profile is None:
        notes.append(f"{path}: {format} cannot hold the colour profile of the input")
    return tuple(notes)
