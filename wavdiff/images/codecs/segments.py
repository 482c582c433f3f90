"""What PNG, JPEG and TIFF files say around their pixels, taken from one file and put into another.

PNG (W3C, section 5.3) is a list of chunks: length, name, content, checksum. JPEG (ITU-T T.81, annex B) is a list of
segments up to the first table: a mark, the length, content. TIFF 6.0 is a directory of entries that point to strips.
"""

import shutil
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import IO, Any, BinaryIO

from PIL import Image, TiffImagePlugin

from wavdiff.images.picture import PictureInfo

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_START = 33  # behind the signature and the chunk IHDR
_LONGEST_CHUNK = 2**24
_LONGEST_HEAD = 2**16  # of what libvips encodes without profile and notes
_JPEG_START = 2  # behind the mark SOI
_WIDTH, _HEIGHT, _BITS, _OFFSETS, _ROWS, _COUNTS = 256, 257, 258, 273, 278, 279
_EXIF, _GPS = 0x8769, 0x8825
_LONG, _LONG8 = 4, 16


def splice(kind: str, sample: bytes, encoded: BinaryIO, file: BinaryIO) -> None:
    """Copy an encoded PNG or JPEG picture, with the segments of a sample file of that kind in place of its own."""
    start, find_end = (_PNG_START, _png_end) if kind == "PNG" else (_JPEG_START, _jpeg_end)
    encoded.seek(0)
    head = encoded.read(_LONGEST_HEAD)
    file.write(head[:start] + sample[start : find_end(sample)] + head[find_end(head) :])
    shutil.copyfileobj(encoded, file, 2**20)


def _png_end(content: bytes) -> int:
    """Where the pixels of a PNG file begin."""
    place = _PNG_START
    while True:
        length, name = struct.unpack_from(">L4s", content, place)
        if name == b"IDAT":
            return place
        place += 12 + length


def _jpeg_end(content: bytes) -> int:
    """Where the application segments and comments of a JPEG file end."""
    place = _JPEG_START
    while True:
        mark, length = struct.unpack_from(">HH", content, place)
        if not (0xFFE0 <= mark <= 0xFFEF or mark == 0xFFFE):
            return place
        place += 2 + length


def png_chunks(file: IO[bytes], names: tuple[bytes, ...]) -> list[tuple[bytes, bytes]]:
    """(name, content) of the chunks of a PNG file with such names, wherever they stand; `file` keeps its place."""
    return [(name, file.read(length)) for _, name, length in _png_chunks(file) if name in names]


def _png_chunks(file: IO[bytes]) -> Iterator[tuple[int, bytes, int]]:
    """Place, name and length of the chunks of a PNG file that are not too long, `file` being at their content.

    It is where it was when all are seen.
    """
    kept, place = file.tell(), 8
    while True:
        file.seek(place)
        head = file.read(8)
        if len(head) < 8:
            break
        length, name = struct.unpack(">L4s", head)
        if length <= _LONGEST_CHUNK:
            yield place, name, length
        place += 12 + length
    file.seek(kept)


def damaged_notes(file: IO[bytes]) -> list[tuple[int, int, str]]:
    """(start, end, name) of the chunks of a PNG file that are not needed for its pixels and whose checksum is wrong.

    `file` keeps its place; of files of other kinds nothing is said.
    """
    kept = file.tell()
    file.seek(0)
    is_png = file.read(8) == _PNG_SIGNATURE
    file.seek(kept)
    found = []
    for place, name, length in _png_chunks(file) if is_png else ():
        if name.isalpha() and name[:1].islower():
            content, checksum = file.read(length), file.read(4)
            if len(checksum) == 4 and struct.pack(">L", zlib.crc32(name + content)) != checksum:
                found.append((place, place + 12 + length, name.decode("ascii")))
    return found


def without_chunks(file: IO[bytes], chunks: list[tuple[int, int, str]]) -> BytesIO:
    """The file without some chunks."""
    file.seek(0)
    content = file.read()
    places = [0, *(place for start, end, _ in chunks for place in (start, end)), len(content)]
    return BytesIO(b"".join(content[start:end] for start, end in zip(places[::2], places[1::2], strict=True)))


def tiff_head(sample: bytes, info: PictureInfo, size: tuple[int, int], row_bytes: int) -> bytes:
    """All of a TIFF file that stands before its pixels; as BigTIFF where it is too long for 32-bit places.

    Args:
        sample: a small TIFF file whose tags are taken over.
        info: the picture; its bits per sample replace those of the sample.
        size: (height, width) in pixels.
        row_bytes: bytes in a row of pixels, which follow little-endian, one strip after the other, not compressed.
    """
    height, width = size
    is_big = height * row_bytes > 2**32 - 2**24
    start = b"II+\x00\x08\x00\x00\x00\x10" + bytes(7) if is_big else b"II*\x00\x08\x00\x00\x00"
    directory: Any = TiffImagePlugin.ImageFileDirectory_v2(start)
    with Image.open(BytesIO(sample), formats=["TIFF"]) as image:
        found, nested = image.tag_v2, image.getexif()  # type: ignore[attr-defined]
        for tag in found:
            directory[tag] = nested.get_ifd(tag) if tag in (_EXIF, _GPS) else found[tag]
            directory.tagtype[tag] = found.tagtype[tag]
    rows = max(1, 2**20 // row_bytes)
    tops = range(0, height, rows)
    counts = tuple(min(rows, height - top) * row_bytes for top in tops)
    directory[_WIDTH], directory[_HEIGHT], directory[_ROWS] = width, height, rows
    directory[_BITS] = (info.bits,) * info.bands
    directory[_COUNTS] = counts
    for tag in (_WIDTH, _HEIGHT, _ROWS, _COUNTS):
        directory.tagtype[tag] = _LONG
    directory.tagtype[_OFFSETS] = _LONG8 if is_big else _LONG
    # Pillow moves the places of strips behind the directory, whose length does not depend on them.
    directory[_OFFSETS] = tuple(top * row_bytes for top in tops)
    return start + directory.tobytes(len(start))
