"""What each file format can hold, decided before the work is done.

What a format cannot hold for good (transparency in JPEG, inks in PNG, 70,000 columns in WebP) is refused. What it holds
in another form is written in that form: a palette becomes RGB in JPEG, and 16 bits become 8, of which a note tells.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from wavdiff.images.picture import PictureInfo
from wavdiff.system.errors import WavdiffError

WRITABLE_FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".pgm": "PPM",
    ".ppm": "PPM",
    ".gif": "GIF",
}
FORMATS_WITH_ALPHA = ("PNG", "WEBP", "TIFF", "GIF")
FORMATS_WITH_16_BITS = ("PNG", "TIFF", "PPM")
FORMATS_WITH_PROFILE = ("PNG", "JPEG", "WEBP", "TIFF")
SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True, "exact": True},
}
_LARGEST_WEBP = 2**25
_LONGEST_SIDE = {"JPEG": 65_500, "WEBP": 16_383, "GIF": 65_535}


# Modes that are written as they are; others of 8 bits become the plain mode of their layout.
_MODES = {
    "PNG": ("1", "P"),
    "TIFF": ("1", "P", "PA", "YCbCr", "CMYK", "I", "I;16B"),
    "JPEG": ("CMYK",),
    "BMP": ("1", "P"),
    "PPM": ("1",),
    "WEBP": (),
    "GIF": ("1", "P"),
}


def format_of(path: str | os.PathLike[str]) -> str:
    """Name the format that a file's suffix asks for.

    Args:
        path: the file to be written.

    Returns:
        Pillow's name, such as "PNG".

    Raises:
        WavdiffError: an unknown suffix.
    """
    target = Path(path)
    kind = WRITABLE_FORMATS.get(target.suffix.lower())
    if kind is None:
        raise WavdiffError(
            f"{target}: the file to write must end in one of {', '.join(WRITABLE_FORMATS)}, not {target.suffix!r}"
        )
    return kind


def written_info(info: PictureInfo, kind: str, name: str) -> PictureInfo:
    """Describe a picture as one format will hold it.

    Args:
        info: the picture, with the size that it will have.
        kind: Pillow's name of the format.
        name: what messages call the file.

    Returns:
        ``info`` in the nearest mode that the format has, without what it cannot carry beside the pixels.

    Raises:
        WavdiffError: the format cannot hold the picture's transparency, its inks, its colours or its size.
    """
    if kind not in WRITABLE_FORMATS.values():
        raise WavdiffError(f"{name}: the format must be one of {', '.join(_MODES)}, not {kind!r}")
    if info.has_alpha and kind not in FORMATS_WITH_ALPHA:
        raise WavdiffError(f"{name}: {kind} cannot hold the transparency of the input; write .png, .webp or .tif")
    if info.has_key and kind not in ("JPEG", "TIFF"):
        raise WavdiffError(f"{name}: {kind} cannot hold the CMYK inks of the input; write .tif or .jpg")
    if kind == "GIF" and not (info.mode == "P" or (info.channels == 1 and not info.has_alpha)):
        raise WavdiffError(f"{name}: GIF holds 256 colours, too few for an input of mode {info.mode}; write .png")
    limit = _LONGEST_SIDE.get(kind, 2**31 - 1)
    if max(info.size) > limit:
        raise WavdiffError(
            f"{name}: {kind} holds at most {limit} pixels a side, not {info.size[0]} x {info.size[1]}; "
            "write .png or .tif"
        )
    if kind == "WEBP" and info.size[0] * info.size[1] > _LARGEST_WEBP:
        raise WavdiffError(
            f"{name}: WebP is for at most {_LARGEST_WEBP} pixels, not {info.size[0]} x {info.size[1]}: encoding takes "
            "40 bytes of memory for each; write .png or .tif"
        )
    bits = info.bits if kind in FORMATS_WITH_16_BITS else 8
    mode = info.mode.partition(";")[0] if bits < info.bits else info.mode
    if bits == 8:
        is_held = mode in _MODES[kind] and not (mode == "P" and info.has_alpha and kind in ("TIFF", "BMP"))
        if not is_held:
            layout = "L" if info.channels == 1 and kind != "WEBP" else "RGB"
            mode = "CMYK" if info.has_key else layout + ("A" if info.has_alpha else "")
    elif mode.startswith("I") and mode not in _MODES[kind]:
        mode = "I;16"
    profile = info.icc_profile if kind in FORMATS_WITH_PROFILE else None
    return replace(info, mode=mode, bits=bits, format=kind, icc_profile=profile)


def check_place(target: Path) -> None:
    """Check that a file can be made, and missing folders above it.

    Raises:
        WavdiffError: the file is a folder, or the nearest folder above it is a file or may not be written.
    """
    if target.is_dir():
        raise WavdiffError(f"{target}: the file to write is a folder")
    above = next(folder for folder in target.absolute().parents if folder.exists())
    if not above.is_dir():
        raise WavdiffError(f"{target}: the picture cannot be written: {above} is a file, not a folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise WavdiffError(f"{target}: the picture cannot be written: the folder {above} may not be written")


def check_picture_path(
    path: str | os.PathLike[str], info: PictureInfo, size: tuple[int, int] | None = None, format: str | None = None
) -> tuple[str, ...]:
    """Check, before the work is done, that :func:`create_picture` will be able to write a picture.

    Args:
        path: the file to be written.
        info: the picture that it shall be like.
        size: (height, width) of the new picture; None for that of ``info``.
        format: Pillow's name of the format; None for the one that the suffix asks for.

    Returns:
        Notes, one line each, on what will be written in another form than it was read.

    Raises:
        WavdiffError: an unknown suffix, a folder in the way or that may not be written, or a picture that the format
            cannot hold.
    """
    format = format or format_of(path)
    check_place(Path(path))
    written = written_info(replace(info, size=size or info.size), format, str(path))
    notes = []
    if written.bits < info.bits:
        notes.append(f"{path}: {format} holds 8 bits per sample; the input's 16 are rounded")
    if info.icc_profile and written.icc_profile is None:
        notes.append(f"{path}: {format} cannot hold the colour profile of the input")
    return tuple(notes)
