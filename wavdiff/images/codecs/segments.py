"""What PNG, JPEG and TIFF files say around their pixels, taken from one file and put into another.

PNG (W3C, section 5.3) is a list of chunks: length, name, content, checksum. JPEG (ITU-T T.81, annex B) is a list of
segments up to the first table: a mark, the length, content. TIFF 6.0 is a directory of entries that point to strips.
"""

import struct
from io import BytesIO
from typing import IO, Any, BinaryIO

from PIL import Image, TiffImagePlugin

from wavdiff.images.picture import PictureInfo

_PNG_START = 33  # behind the signature and the chunk IHDR
_LONGEST_CHUNK = 2**24
_JPEG_START = 2  # behind the mark SOI
_WIDTH, _HEIGHT, _BITS, _OFFSETS, _ROWS, _COUNTS = 256, 257, 258, 273, 278, 279
_EXIF, _GPS = 0x8769, 0x8825
_LONG, _LONG8 = 4, 16


class HeaderSplice:
    """Passes an encoded picture on to a file and puts the segments of another in its head.

    Args:
        kind: "PNG" or "JPEG".
        sample: a complete file of that format, whose segments are taken.
        file: open for writing.
    """

    def __init__(self, kind: str, sample: bytes, file: BinaryIO) -> None:
        self._file = file
        self._kind = kind
        self._start, self._find_end = (_PNG_START, _png_end) if kind == "PNG" else (_JPEG_START, _jpeg_end)
        self._segments = sample[self._start : self._find_end(sample)]
        self._head: bytearray | None = bytearray()

    def write(self, content: Any) -> int:
        """Take the next bytes of the encoded picture and give their number."""
        if self._head is None:
            self._file.write(content)
        else:
            self._head += content
            self._pass_head(bytes(self._head))
        return len(content)

    def finish(self) -> None:
        """Check that the head was complete.

        Raises:
            ValueError: the encoder stopped before any pixel.
        """
        if self._head is not None:
            raise ValueError(f"the encoded {self._kind} has no pixels")

    def _pass_head(self, head: bytes) -> None:
        """Pass the head on as soon as it is complete, with the other segments in place of its own."""
        end = self._find_end(head)
        if end is not None:
            self._head = None
            self._file.write(head[: self._start] + self._segments + head[end:])


def _png_end(content: bytes) -> int | None:
    """Find where the pixels of a PNG file begin, or None where that is not among the bytes given."""
    place = _PNG_START
    while len(content) >= place + 8:
        length, name = struct.unpack_from(">L4s", content, place)
        if name == b"IDAT":
            return place
        place += 12 + length
    return None


def _jpeg_end(content: bytes) -> int | None:
    """Find where the application segments and comments of a JPEG file end, or None as above."""
    place = _JPEG_START
    while len(content) >= place + 4:
        mark, length = struct.unpack_from(">HH", content, place)
        if not (0xFFE0 <= mark <= 0xFFEF or mark == 0xFFFE):
            return place
        place += 2 + length
    return None


def png_chunks(file: IO[bytes], names: tuple[bytes, ...]) -> dict[bytes, bytes]:
    """Read chunks of a PNG file, wherever they stand, passing over all others.

    Args:
        file: the file, whose position is kept.
        names: of the chunks to be read.

    Returns:
        Name -> content, of those that are there.
    """
    found = {}
    kept, place = file.tell(), 8
    while True:
        file.seek(place)
        head = file.read(8)
        if len(head) < 8:
            break
        length, name = struct.unpack(">L4s", head)
        if name in names and length <= _LONGEST_CHUNK:
            found[name] = file.read(length)
        place += 12 + length
    file.seek(kept)
    return found


def tiff_head(sample: bytes, info: PictureInfo, size: tuple[int, int], row_bytes: int) -> bytes:
    """Write all of a TIFF file that stands before its pixels: one strip after the other, not compressed.

    Args:
        sample: a small TIFF file whose tags are taken over.
        info: the picture; its bits per sample replace those of the sample.
        size: (height, width) in pixels.
        row_bytes: bytes in a row of pixels, which follow little-endian.

    Returns:
        The head; as BigTIFF where the file is too long for 32-bit places.
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
