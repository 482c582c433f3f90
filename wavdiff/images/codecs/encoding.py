"""Encoding a spool into a file, whole by Pillow or by rows.

Pillow holds the whole picture while it encodes. Large pictures, and 16-bit colours, which Pillow does not have, are
written by rows instead: the pixels of PNG and JPEG by libvips, those of TIFF and PPM as they are, without compression.
What a file says beside its pixels is Pillow's in either case: a few pixels are encoded with the same options, and the
segments around them are taken over (:mod:`wavdiff.images.codecs.segments`).

WebP, BMP, GIF, palettes and one bit are always left to Pillow, which at 100 megapixels needs 100 to 400 MB for them; of
WebP, which would need 4 GB, larger pictures are refused (:mod:`wavdiff.images.formats`).
"""

from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from itertools import chain
from typing import Any, BinaryIO, Literal

import numpy as np
from PIL import Image, PngImagePlugin

from wavdiff.images.codecs.exif import described, exif_of_size
from wavdiff.images.codecs.palette import Palette, choose_palette
from wavdiff.images.codecs.pillow_modes import image_from_bands
from wavdiff.images.codecs.segments import tiff_head
from wavdiff.images.codecs.vips import encode_rows, stored_bytes
from wavdiff.images.disk_array import Spool
from wavdiff.images.formats import SAVE_OPTIONS
from wavdiff.images.picture import PictureInfo

_XMP_TAG = 700
_PIXELS_BY_PILLOW = 2**18  # PNG: Pillow takes a second per megapixel, importing libvips a tenth
_LONGEST_NOTE = 65_000  # a JPEG segment holds no more
_BY_ROWS = {
    "PNG": ("L", "LA", "RGB", "RGBA", "I;16", "LA;16", "RGB;16", "RGBA;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "TIFF": ("L", "LA", "RGB", "RGBA", "CMYK", "I;16", "LA;16", "RGB;16", "RGBA;16", "CMYK;16"),
    "PPM": ("L", "RGB", "I;16", "RGB;16"),
}


def encode(spool: Spool, info: PictureInfo, file: BinaryIO, name: str) -> None:
    """Encode a picture.

    Args:
        spool: its bands. Those that lie in a file, and 16-bit colours, are encoded by rows where that is possible.
        info: the picture as the format holds it (:func:`wavdiff.images.formats.written_info`).
        file: open for writing, able to seek.
        name: what messages call it.

    Raises:
        WavdiffError: libvips cannot write the picture.
        OSError: the disk is full, or Pillow cannot write the picture.
    """
    is_slow = info.format == "PNG" and spool.size[0] * spool.size[1] > _PIXELS_BY_PILLOW
    is_large = spool.array is None or is_slow
    needs_rows = info.bits == 16 and not info.mode.startswith("I")
    if (is_large or needs_rows) and info.mode in _BY_ROWS.get(str(info.format), ()):
        if info.format in ("PNG", "JPEG"):
            encode_rows(spool, info, _sample_file(info), _sample_file(replace(info, format="TIFF")), file, name)
            return
        order: Literal["<", ">"] = "<" if info.format == "TIFF" else ">"
        file.write(_tiff_head(spool, info) if info.format == "TIFF" else _ppm_head(spool, info))
        for bands in _bands(spool, info):
            file.write(stored_bytes(bands, info, order))
    else:
        _encode_whole(spool, info, file)


def encodable_info(info: PictureInfo) -> PictureInfo:
    """Drop notes that cannot be written, before the work is done rather than after.

    Args:
        info: the picture as the format holds it.

    Returns:
        The same, without EXIF block and XMP packet where Pillow fails on them.
    """
    try:
        _sample_file(info)
    except Exception:  # whatever a camera wrote; the picture matters more
        return replace(info, exif=None, xmp=None)
    return info


def _encode_whole(spool: Spool, info: PictureInfo, file: BinaryIO) -> None:
    palette = None
    if info.mode in ("P", "PA"):
        palette = choose_palette(_bands(spool, info), info)
    height, width = spool.size
    parts = (image_from_bands(bands, info, palette) for bands in _bands(spool, info))
    whole = next(parts)
    if whole.height < height:
        first = whole
        whole = Image.new(first.mode, (width, height))
        _keep_palette(whole, first, palette)
        for (top, _), part in zip(spool.strips(), chain([first], parts), strict=True):
            whole.paste(part, (0, top))
    whole.save(file, format=info.format, **_options(info))


def _keep_palette(whole: Image.Image, part: Image.Image, palette: Palette | None) -> None:
    if palette is not None:
        whole.putpalette(palette.colours[:, :3].tobytes(), "RGB")
        if whole.mode == "P" and "transparency" in part.info:
            whole.info["transparency"] = part.info["transparency"]


def _bands(spool: Spool, info: PictureInfo) -> Iterator[np.ndarray]:
    """Read the bands strip by strip; GIF has no opacity between none and full."""
    for top, bottom in spool.strips():
        bands = spool.read(top, bottom, 0, spool.size[1])
        if info.format == "GIF" and info.has_alpha:
            bands[..., -1] = np.where(bands[..., -1] < 128, 0, 255)
        yield bands


def _options(info: PictureInfo) -> dict[str, Any]:
    """Give Pillow's options for saving a picture of this kind."""
    options = dict(SAVE_OPTIONS.get(str(info.format), {}))
    if info.icc_profile:
        options["icc_profile"] = info.icc_profile
    if info.dpi and info.format in ("PNG", "JPEG", "TIFF", "BMP"):
        options["dpi"] = info.dpi
    if info.format == "TIFF" and (info.exif or info.xmp):
        options["exif"] = described(exif_of_size(info.exif, info.size) if info.exif else Image.Exif())
        if info.xmp:
            options["exif"][_XMP_TAG] = info.xmp
    elif info.format in ("PNG", "JPEG", "WEBP"):
        longest = _LONGEST_NOTE if info.format == "JPEG" else 2**31
        if info.exif and len(info.exif) <= longest:
            options["exif"] = b"Exif\x00\x00" + exif_of_size(info.exif, info.size)
        if info.xmp and len(info.xmp) <= longest and info.format != "PNG":
            options["xmp"] = info.xmp
    if info.format == "PNG" and (info.xmp or info.colour_chunks):
        extra = PngImagePlugin.PngInfo()
        for name, content in info.colour_chunks:
            extra.add(name, content)
        if info.xmp:
            extra.add_itxt("XML:com.adobe.xmp", info.xmp.decode(errors="replace"))
        options["pnginfo"] = extra
    return options


def _sample_file(info: PictureInfo) -> bytes:
    """Encode a few pixels with the options of the picture."""
    plain = replace(info, bits=8, mode=info.mode.partition(";")[0]) if ";" in info.mode and info.bands > 1 else info
    image = image_from_bands(np.zeros((8, 8, info.bands), dtype=plain.dtype), plain)
    buffer = BytesIO()
    image.save(buffer, format=info.format, **_options(info))
    return buffer.getvalue()


def _tiff_head(spool: Spool, info: PictureInfo) -> bytes:
    return tiff_head(_sample_file(info), info, spool.size, spool.row_bytes)


def _ppm_head(spool: Spool, info: PictureInfo) -> bytes:
    height, width = spool.size
    return f"P{5 if info.channels == 1 else 6}\n{width} {height}\n{info.maximum}\n".encode()
