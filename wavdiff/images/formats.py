"""What each file format can hold, one row a format: to add one that Pillow reads and writes is a row.

Neither Pillow nor torch is imported here, so that the command line may list suffixes without them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from wavdiff.system.errors import WavdiffError

Trait = Literal["gray", "alpha", "palette alpha", "16 bits", "floats", "profile", "dpi"]


@dataclass(frozen=True)
class FileFormat:
    """A file format. What it has not is converted or refused before a picture is written.

    Attributes:
        title: its name in messages.
        suffixes: of its files; `read_suffixes` are more, of files that are read only.
        holds: kinds of pictures and notes ("palette alpha": colours of a palette may be transparent).
        modes: modes of Pillow's that are written as they are, beside L, LA, RGB and RGBA.
        row_modes: those that can be written by rows, without the whole picture in memory.
        needs_palette: whether there is no colour but that of a palette.
        longest_side, most_pixels: limits of the size, in pixels.
        longest_note: bytes of an EXIF block or XMP packet; 0 where there is neither.
        save_options: for Pillow.
        is_training_data: whether folders of training data are searched for it.
        is_array: whether it holds an array of numbers, which Pillow does not read (see `codecs.arrays`).
    """

    title: str
    suffixes: tuple[str, ...]
    holds: tuple[Trait, ...] = ("gray",)
    modes: tuple[str, ...] = ()
    row_modes: tuple[str, ...] = ()
    read_suffixes: tuple[str, ...] = ()
    needs_palette: bool = False
    longest_side: int = 2**31 - 1
    most_pixels: int = 2**62
    longest_note: int = 0
    save_options: dict[str, Any] = field(default_factory=dict)
    is_training_data: bool = True
    is_array: bool = False


FORMATS = {
    "PNG": FileFormat(
        "PNG",
        (".png",),
        holds=("gray", "alpha", "palette alpha", "16 bits", "profile", "dpi"),
        modes=("1", "P"),
        row_modes=("L", "LA", "RGB", "RGBA", "I;16", "LA;16", "RGB;16", "RGBA;16"),
        longest_note=2**31,
    ),
    "JPEG": FileFormat(
        "JPEG",
        (".jpg", ".jpeg", ".jfif"),
        holds=("gray", "profile", "dpi"),
        modes=("CMYK",),
        row_modes=("L", "RGB", "CMYK"),
        longest_side=65_500,
        longest_note=65_000,  # a segment holds no more
        save_options={"quality": 99, "subsampling": 0},
    ),
    "WEBP": FileFormat(
        "WebP",
        (".webp",),
        holds=("alpha", "profile"),
        longest_side=16_383,
        most_pixels=2**25,  # its encoder takes 40 bytes of memory for each
        longest_note=2**31,
        save_options={"lossless": True, "exact": True},
    ),
    "AVIF": FileFormat(
        "AVIF",
        (".avif",),
        holds=("alpha", "profile"),
        longest_side=65_536,
        most_pixels=2**25,
        longest_note=2**31,
        save_options={"quality": 95, "subsampling": "4:4:4"},
    ),
    "TIFF": FileFormat(
        "TIFF",
        (".tif", ".tiff"),
        holds=("gray", "alpha", "16 bits", "profile", "dpi"),
        modes=("1", "P", "PA", "YCbCr", "CMYK", "I", "I;16B"),
        row_modes=("L", "LA", "RGB", "RGBA", "CMYK", "I;16", "LA;16", "RGB;16", "RGBA;16", "CMYK;16"),
        longest_note=2**31,
    ),
    "BMP": FileFormat("BMP", (".bmp",), holds=("gray", "dpi"), modes=("1", "P")),
    "PPM": FileFormat(
        "PGM/PPM",
        (".pgm", ".ppm"),
        holds=("gray", "16 bits"),
        modes=("1",),
        row_modes=("L", "RGB", "I;16", "RGB;16"),
        read_suffixes=(".pnm",),
        is_training_data=False,
    ),
    "GIF": FileFormat(
        "GIF",
        (".gif",),
        holds=("gray", "alpha", "palette alpha"),
        modes=("1", "P"),
        needs_palette=True,
        longest_side=65_535,
        is_training_data=False,
    ),
    "NPY": FileFormat(
        "NumPy",
        (".npy",),
        holds=("gray", "alpha", "16 bits", "floats"),
        modes=("LA;16", "RGB;16", "RGBA;16"),
        is_training_data=False,
        is_array=True,
    ),
    "FITS": FileFormat(
        "FITS",
        (".fits", ".fit", ".fts"),
        holds=("gray", "16 bits", "floats"),
        modes=("RGB;16",),
        is_training_data=False,
        is_array=True,
    ),
}
"""The formats by Pillow's names, in the order in which messages list them."""


OTHERS = {
    **dict.fromkeys((".heic", ".heif"), "HEIC: convert it first, such as with `heif-convert IN OUT.png`"),
    ".avif": "AVIF, which this Pillow was built without: convert it first, such as with `avifdec IN OUT.png`",
    **dict.fromkeys(
        (".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2"),
        "a camera's raw file: develop it first, such as with `dcraw_emu -6 -T IN` or darktable, to a TIFF of 16 bits",
    ),
    **dict.fromkeys((".dcm", ".dicom"), "DICOM: take its pixels out first, such as with `dcm2pnm +on2 IN OUT.png`"),
    **dict.fromkeys(
        (".exr", ".hdr"), "an image of floating-point light: bring it to 16 bits first, such as with `oiiotool`"
    ),
    **dict.fromkeys(
        (".czi", ".lif", ".nd2", ".oib"), "a microscope's file: export TIFF, such as with Fiji or `bfconvert`"
    ),
    **dict.fromkeys(
        (".pdf", ".svg"), "a page, not an image of pixels: render it first, such as with `pdftoppm` or `rsvg-convert`"
    ),
}
"""What suffixes say that are not read here, and what opens such files."""


def pillow_formats() -> tuple[str, ...]:
    """Names of the formats that Pillow reads and writes."""
    return tuple(kind for kind, row in FORMATS.items() if not row.is_array)


def writable_formats() -> dict[str, str]:
    """Suffix -> Pillow's name of the format, of files that can be written."""
    return {suffix: kind for kind, row in FORMATS.items() for suffix in row.suffixes}


def readable_suffixes() -> tuple[str, ...]:
    """Suffixes of files that can be read."""
    return (*writable_formats(), *(suffix for row in FORMATS.values() for suffix in row.read_suffixes))


def training_suffixes() -> tuple[str, ...]:
    """Suffixes that folders of training data are searched for."""
    return tuple(suffix for row in FORMATS.values() if row.is_training_data for suffix in row.suffixes)


def format_of(path: str | os.PathLike[str]) -> str:
    """Pillow's name of the format that a file's suffix asks for, such as "PNG".

    Raises:
        WavdiffError: an unknown suffix.
    """
    suffix, known = Path(path).suffix, writable_formats()
    if suffix.lower() not in known:
        raise WavdiffError(f"{path}: the file to write must end in one of {', '.join(known)}, not {suffix!r}")
    return known[suffix.lower()]
