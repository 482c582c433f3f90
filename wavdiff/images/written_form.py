"""In which form a picture is written, decided before the work is done.

What a format cannot hold for good (transparency in JPEG, inks in PNG, 70,000 columns in WebP) is refused. What it holds
in another form is written in that form: a palette becomes RGB in JPEG, and 16 bits become 8, of which a note tells.
"""

import os
from dataclasses import replace
from pathlib import Path

from wavdiff.images.formats import FORMATS, FileFormat, format_of
from wavdiff.images.picture import PictureInfo
from wavdiff.system.errors import WavdiffError


def written_info(info: PictureInfo, kind: str, name: str) -> PictureInfo:
    """A picture as one format will hold it.

    Args:
        info: the picture, with the size that it will have.
        kind: Pillow's name of the format.
        name: what messages call the file.

    Returns:
        `info` in the nearest mode that the format has, without what it cannot carry beside the pixels.

    Raises:
        WavdiffError: the format cannot hold the picture's transparency, its inks, its colours or its size.
    """
    if kind not in FORMATS:
        raise WavdiffError(f"{name}: the format must be one of {', '.join(FORMATS)}, not {kind!r}")
    held = FORMATS[kind]
    _check_held(info, held, kind, name)
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
        notes.append(f"{path}: {format} holds 8 bits per sample; the input's 16 are rounded")
    if info.icc_profile and written.icc_profile is None:
        notes.append(f"{path}: {format} cannot hold the colour profile of the input")
    return tuple(notes)
