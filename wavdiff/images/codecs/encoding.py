"""Encoding a disk array into a file, whole by Pillow or by rows.

Pillow holds the whole picture while it encodes. Large pictures, and 16-bit colours, which Pillow does not have, are
written by rows instead: the pixels of PNG and JPEG by libvips, those of TIFF and PPM as they are, without compression.
What a file says beside its pixels is Pillow's in either case: a few pixels are encoded with the same options, and the
segments around them are taken over.

What is not among the `row_modes` of `FORMATS` (WebP, BMP, GIF, palettes, one bit) is always left to Pillow, which at
100 megapixels needs 100 to 400 MB for it; of WebP, which would need 4 GB, larger pictures are refused.
"""

from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from typing import Any, BinaryIO, Literal

import numpy as np
from PIL import Image, PngImagePlugin

from wavdiff.images.codecs.arrays import encode_array
from wavdiff.images.codecs.exif import described, exif_of_size
from wavdiff.images.codecs.palette import choose_palette
from wavdiff.images.codecs.pillow_modes import image_from_bands
from wavdiff.images.codecs.segments import splice, tiff_head
from wavdiff.images.codecs.vips import encode_rows
from wavdiff.images.disk_array import DiskArray, temporary_file, unwritable
from wavdiff.images.formats import FORMATS
from wavdiff.images.picture import PictureInfo

_XMP_TAG = 700
_PIXELS_BY_PILLOW = 2**18  # PNG: Pillow takes a second per megapixel, importing libvips a tenth


def encode(spool: DiskArray, info: PictureInfo, file: BinaryIO, name: str) -> None:
    """Encode a picture.

    Args:
        spool: its bands. Those that lie in a file, and 16-bit colours, are encoded by rows where that is possible.
        info: the picture as the format holds it, from `written_info`.
        file: open for writing, able to seek.

    Raises:
        WavdiffError: libvips cannot write the picture, or there is no space for temporary files.
        OSError: the disk is full, or Pillow cannot write the picture.
    """
    if FORMATS[str(info.format)].is_array:
        encode_array(spool, info, file, name)
        return
    is_slow = info.format == "PNG" and spool.size[0] * spool.size[1] > _PIXELS_BY_PILLOW
    is_large = spool.array is None or is_slow
    needs_rows = info.bits == 16 and not info.mode.startswith("I")
    if not (is_large or needs_rows) or info.mode not in FORMATS[str(info.format)].row_modes:
        _encode_whole(spool, info, file)
    elif info.format == "TIFF":
        _write_tiff(spool, info, file)
    elif info.format == "PPM":
        height, width = spool.size
        file.write(f"P{5 if info.channels == 1 else 6}\n{width} {height}\n{info.maximum}\n".encode())
        for bands in _bands(spool, info):
            file.write(stored_bytes(bands, info, ">"))
    else:
        with temporary_file() as pixels, temporary_file() as encoded:
            try:
                _write_tiff(spool, replace(info, format="TIFF"), pixels)
                pixels.seek(0)
            except OSError as error:
                raise unwritable(spool.bytes, error) from error
            encode_rows(pixels, info, encoded, name)
            splice(str(info.format), _sample_file(info), encoded, file)


def _write_tiff(spool: DiskArray, info: PictureInfo, file: BinaryIO) -> None:
    file.write(tiff_head(_sample_file(info), info, spool.size, spool.row_bytes))
    for bands in _bands(spool, info):
        file.write(stored_bytes(bands, info, "<"))


def stored_bytes(bands: np.ndarray, info: PictureInfo, order: Literal["<", ">"]) -> bytes:
    """Bands as a file stores them: ink rather than light, in byte order "<" or ">"."""
    values = info.maximum - bands if info.has_key else bands
    return values.astype(values.dtype.newbyteorder(order), copy=False).tobytes()


def encodable_info(info: PictureInfo) -> PictureInfo:
    """The picture `info` without EXIF, XMP and texts where Pillow fails on them: before the work, not after."""
    try:
        if info.exif or info.xmp or info.text_chunks or info.comment:
            _sample_file(info)
    except Exception:  # whatever a camera wrote; the picture matters more
        return replace(info, exif=None, xmp=None, text_chunks=(), comment=None)
    return info


def _encode_whole(spool: DiskArray, info: PictureInfo, file: BinaryIO) -> None:
    palette = choose_palette(_bands(spool, info), info) if info.mode in ("P", "PA") else None
    whole = None
    for strip, bands in zip(spool.strips(), _bands(spool, info), strict=True):
        part = image_from_bands(bands, info, palette)
        if whole is None:
            whole = part
            if strip.size == spool.size:
                break
            whole = Image.new(part.mode, (spool.size[1], spool.size[0]))
            if palette is not None:
                whole.putpalette(palette.colours[:, :3].tobytes(), "RGB")
                whole.info.update(part.info)
        whole.paste(part, (0, strip.top))
    assert whole is not None
    whole.save(file, format=info.format, **_options(info))


def _bands(spool: DiskArray, info: PictureInfo) -> Iterator[np.ndarray]:
    """The bands strip by strip; GIF has no opacity between none and full."""
    for strip in spool.strips():
        bands = spool.read(strip)
        if info.format == "GIF" and info.has_alpha:
            bands = bands.copy()
            bands[..., -1] = np.where(bands[..., -1] < 128, 0, 255)
        yield bands


def _options(info: PictureInfo) -> dict[str, Any]:
    """Pillow's options for saving a picture of this kind."""
    held = FORMATS[str(info.format)]
    options = dict(held.save_options)
    if info.icc_profile:
        options["icc_profile"] = info.icc_profile
    if info.dpi and "dpi" in held.holds:
        options["dpi"] = info.dpi
    if info.resolution and info.format == "TIFF":
        options["resolution_unit"] = 1
        options["x_resolution"], options["y_resolution"] = info.resolution
    exif, xmp = (note if note and len(note) <= held.longest_note else None for note in (info.exif, info.xmp))
    if info.format == "TIFF":
        if exif or xmp:
            options["exif"] = described(exif_of_size(exif, info.size) if exif else Image.Exif())
        if xmp:
            options["exif"][_XMP_TAG] = xmp
        return options
    if exif:
        options["exif"] = b"Exif\x00\x00" + exif_of_size(exif, info.size)
    if info.format == "JPEG" and info.comment:
        options["comment"] = info.comment
    if info.format == "PNG" and (xmp or info.colour_chunks or info.text_chunks or info.comment):
        options["pnginfo"] = extra = PngImagePlugin.PngInfo()
        for name, content in (*info.colour_chunks, *info.text_chunks):
            extra.add(name, content)
        if info.comment:
            extra.add_text("Comment", info.comment.decode("latin-1"))
        if xmp:
            extra.add_itxt("XML:com.adobe.xmp", xmp.decode(errors="replace"))
    elif xmp:
        options["xmp"] = xmp
    return options


def _sample_file(info: PictureInfo) -> bytes:
    """Encode a few pixels with the options of the picture."""
    plain = replace(info, bits=8, mode=info.mode.partition(";")[0]) if ";" in info.mode and info.bands > 1 else info
    image = image_from_bands(np.zeros((8, 8, info.bands), dtype=plain.dtype), plain)
    buffer = BytesIO()
    image.save(buffer, format=info.format, **_options(info))
    return buffer.getvalue()
