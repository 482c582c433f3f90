"""From the header of a file to a `PictureInfo`, before any pixel is decoded.

Pillow names the mode that it would decode a file into. Where that is less than the file holds (16 bits of colour, one
transparent gray among 65536), the header is asked directly, and another decoder has to do the work.
"""

import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from PIL import Image

from wavdiff.images.codecs.exif import camera_notes
from wavdiff.images.codecs.segments import png_chunks
from wavdiff.images.formats import FORMATS
from wavdiff.images.picture import PictureInfo
from wavdiff.system.errors import WavdiffError

GRAY_MODES = ("1", "L", "LA", "La", "LA;16")
COLOUR_MODES = ("RGB", "RGBA", "RGBa", "RGBX", "P", "PA", "YCbCr", "HSV", "CMYK")
_BITS_PER_SAMPLE, _COMPRESSION, _PHOTOMETRIC, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 258, 259, 262, 338, 339
_COMPRESSIONS = (1, 5, 7, 8, 32773, 32946)  # none, LZW, JPEG, Deflate, PackBits; what libvips may lack is Pillow's
_COLOUR_CHUNKS = (b"cICP", b"sRGB", b"gAMA", b"cHRM")
_TEXTS, _XMP = (b"tEXt", b"zTXt", b"iTXt"), b"XML:com.adobe.xmp\0"
_LONGEST_TEXTS = 2**20
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _SEPARATED = 0, 1, 2, 3, 5
_COLOURS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _SEPARATED: 4}
_SAMPLES, _SIGNED, _OPACITIES = 277, 2, (1, 2)
_RESOLUTIONS, _RESOLUTION_UNIT, _NO_UNIT = (282, 283), 296, 1


@dataclass(frozen=True)
class Header:
    """A description and how to decode what it describes.

    Attributes:
        info: the picture as it will be given, upright.
        orientation: 1 to 8, how the decoded rows are to be turned.
        by_rows: whether the file can be decoded by rows, to the integers that Pillow gives.
        needs_rows: whether only that gives all its bits.
        raw: for binary PGM and PPM files, the place of the first pixel and the largest value, else None.
        inverted: whether Pillow gives dark as large numbers, as some 16-bit TIFF files have it.
    """

    info: PictureInfo
    orientation: int = 1
    by_rows: bool = False
    needs_rows: bool = False
    raw: tuple[int, int] | None = None
    inverted: bool = False


def describe(image: Image.Image, name: str) -> Header:
    """Describe a picture.

    Args:
        image: a Pillow image, opened from a file and not loaded, or one in memory, which is taken as it lies.

    Raises:
        WavdiffError: pixels in floating point, or a mode such as LAB, in which light is not a number per channel.
    """
    mode, bits = image.mode, 8
    kind = "JPEG" if image.format == "MPO" else image.format
    if mode == "F":
        raise WavdiffError(f"{name}: floating-point images are not supported; 8 or 16 bits are needed")
    _check_samples(image, name)
    deep = _deep_mode(image)
    if deep is not None:
        mode, bits = deep, 16
    elif set(_tag(image, _BITS_PER_SAMPLE)) == {12}:
        raise WavdiffError(f"{name}: 12-bit images are not supported; 8 or 16 bits are needed")
    elif mode.startswith("I"):
        mode, bits = ("I;16" if image.format in ("PNG", "PPM") else mode), 16
    elif mode not in (*GRAY_MODES, *COLOUR_MODES):
        raise WavdiffError(f"{name}: images of mode {mode} are not supported; convert it to RGB first")
    has_alpha = image.has_transparency_data and not (kind is None and bits == 16) and not mode.startswith("CMYK")
    if has_alpha and "A" not in mode.upper() and mode != "P":  # one colour of the file stood for transparent
        mode = {"1": "LA", "L": "LA", "I;16": "LA;16", "RGB;16": "RGBA;16"}.get(mode, "RGBA")
    is_gray = mode in GRAY_MODES or mode.startswith("I") or (mode in ("P", "PA") and _has_gray_palette(image))
    file = getattr(image, "fp", None)
    found = png_chunks(file, (b"eXIf", *_COLOUR_CHUNKS, *_TEXTS)) if kind == "PNG" and file is not None else []
    texts = [(name, text) for name, text in found if name in _TEXTS and not text.startswith(_XMP)]
    chunks = {name: content for name, content in found if name not in _TEXTS}
    orientation, exif, xmp = (1, None, None) if kind is None else camera_notes(image, chunks.pop(b"eXIf", None))
    upright = (image.size[1], image.size[0])
    if orientation > 4 and kind != "TIFF":  # Pillow turns TIFF by itself
        upright = image.size
    info = PictureInfo(
        size=upright,
        channels=1 if is_gray else 3,
        mode=mode,
        has_alpha=has_alpha,
        has_key=mode.startswith("CMYK"),
        bits=bits,
        format=kind,
        icc_profile=image.info.get("icc_profile") or None,
        dpi=_dpi(image),
        resolution=_resolution(image) if kind == "TIFF" else None,
        exif=exif,
        xmp=xmp,
        colour_chunks=tuple(chunks.items()),
        text_chunks=tuple(texts) if sum(len(text) for _, text in texts) <= _LONGEST_TEXTS else (),
        comment=image.info.get("comment") if kind == "JPEG" else None,
    )
    raw = _raw_layout(image)
    by_rows = raw is not None or _is_decoded_alike(image, info)
    inverted = bits == 16 and is_inverted(image)
    return Header(info, orientation, by_rows, deep is not None or mode == "LA;16", raw, inverted)


def _check_samples(image: Image.Image, name: str) -> None:
    """Refuse samples of a TIFF file that Pillow would read as others, or leave out."""
    if _SIGNED in _tag(image, _SAMPLE_FORMAT) and set(_tag(image, _BITS_PER_SAMPLE)) <= {8, 16}:
        raise WavdiffError(f"{name}: signed integers are not supported; shift them to 8 or 16 bits from 0 first")
    photometric, extra = _tag(image, _PHOTOMETRIC), _tag(image, _EXTRA_SAMPLES)
    colours, samples = sum(_COLOURS.get(kind, 0) for kind in photometric), sum(_tag(image, _SAMPLES))
    if colours and samples > colours + sum(kind in _OPACITIES for kind in extra[:1]):
        raise WavdiffError(
            f"{name}: holds {samples} samples a pixel, which are not {colours} of colour and perhaps opacity; the "
            "others would be lost: take them apart first"
        )


def is_inverted(image: Image.Image) -> bool:
    """Whether white is zero in a TIFF file, which Pillow sets right for 8 bits alone."""
    return _tag(image, _PHOTOMETRIC) == (_WHITE_IS_ZERO,)


def _deep_mode(image: Image.Image) -> str | None:
    """The 16-bit mode of a file of which Pillow gives 8 bits only, else None."""
    raw_mode = str(_raw_mode(image))
    if image.format == "PNG" and raw_mode in ("RGB;16B", "RGBA;16B", "LA;16B"):
        return f"{raw_mode.partition(';')[0]};16"
    raw = _raw_layout(image)
    if raw is not None and raw[1] > 255 and image.mode == "RGB":
        return "RGB;16"
    if image.format == "TIFF" and set(_tag(image, _BITS_PER_SAMPLE)) == {16} and image.mode in ("RGB", "RGBA", "CMYK"):
        return f"{image.mode};16"
    return None


def _raw_mode(image: Image.Image) -> Any:
    """The layout that Pillow's decoder was told to expect."""
    tile = getattr(image, "tile", None)
    if not tile:
        return None
    args = tile[0][3]
    return args[0] if isinstance(args, tuple) else args


def _raw_layout(image: Image.Image) -> tuple[int, int] | None:
    """Where the pixels of a binary PGM or PPM file begin, and their largest value."""
    tile = getattr(image, "tile", None)
    if image.format != "PPM" or image.mode == "1" or not tile or tile[0][0] not in ("raw", "ppm"):
        return None
    _, _, offset, args = tile[0]
    if isinstance(args, tuple):
        return offset, args[1]
    return offset, 65535 if args == "I;16B" else 255


def _tag(image: Image.Image, tag: int) -> tuple[Any, ...]:
    """A TIFF tag as a tuple, empty where there is none."""
    value = getattr(image, "tag_v2", {}).get(tag, ())
    return value if isinstance(value, tuple) else (value,)


def _is_decoded_alike(image: Image.Image, info: PictureInfo) -> bool:
    """Whether libvips gives the bands of `bands_from_image`: plain samples without interpretation."""
    if info.mode not in FORMATS["TIFF"].row_modes or ("transparency" in image.info and info.bits == 8):
        return False
    if info.format == "TIFF":
        photometric = {1: _BLACK_IS_ZERO, 3: _SEPARATED if info.has_key else _RGB}[info.channels]
        extra = _tag(image, _EXTRA_SAMPLES)
        return (
            _tag(image, _PHOTOMETRIC) == (photometric,)
            and set(_tag(image, _BITS_PER_SAMPLE)) == {info.bits}
            and set(_tag(image, _SAMPLE_FORMAT)) <= {1}
            and _tag(image, _COMPRESSION) in [(), *((number,) for number in _COMPRESSIONS)]
            # Opacity for itself (2) or, of 16 bits, multiplied into the colours (1).
            and extra in (((2,), (1,))[: info.bits // 8] if info.has_alpha else ((),))
        )
    if info.format == "PNG":  # samples of 1, 2 and 4 bits are spread by Pillow
        return str(_raw_mode(image)).partition(";")[2] in ("", "16B")
    return info.format == "JPEG"


def _has_gray_palette(image: Image.Image) -> bool:
    """Whether every entry of a palette is a gray."""
    palette = image.getpalette("RGB") or [0, 0, 0]
    return palette[0::3] == palette[1::3] == palette[2::3]


def _resolution(image: Image.Image) -> tuple[float, float] | None:
    """Pixels per unit of length where a TIFF file names no unit."""
    across, down = (_tag(image, tag) for tag in _RESOLUTIONS)
    if _tag(image, _RESOLUTION_UNIT) != (_NO_UNIT,) or not across or not down:
        return None
    with suppress(ArithmeticError, TypeError, ValueError):
        values = float(across[0]), float(down[0])
        return values if min(values) > 0 and max(values) < 1e12 else None
    return None


def _dpi(image: Image.Image) -> tuple[float, float] | None:
    """The resolution in pixels per inch, None where the file has none that makes sense."""
    value = image.info.get("dpi")
    try:
        across, down = (float(number) for number in value or ())
    except (TypeError, ValueError, ZeroDivisionError, struct.error):
        return None
    return (across, down) if 0 < across < 1e6 and 0 < down < 1e6 else None
