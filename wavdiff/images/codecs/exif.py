"""EXIF blocks: what a camera noted beside the picture, kept byte for byte except for what is no longer true.

An EXIF block is a small TIFF file: a header, then directories of 12-byte entries, each a tag, a type, a count and four
bytes that are the value or the place where a longer value lies (EXIF 2.32, JEITA CP-3451, section 4.6). Rewriting a
block moves those places, and cameras' own notes break. So nothing is moved here; three things are corrected in place:

- the orientation becomes 1, because the pixels are turned when they are read;
- the thumbnail is unlinked, because it shows the picture as it was;
- the width and height become those of the new picture.

An XMP packet (ISO 16684) is text, in which only the orientation is corrected.
"""

import re
import struct
from contextlib import suppress
from typing import Any

from PIL import Image

from wavdiff.system.errors import WavdiffError

_ORIENTATION, _EXIF_DIRECTORY, _GPS_DIRECTORY = 0x0112, 0x8769, 0x8825
_SIZE_TAGS = {0x0100: 1, 0x0101: 0, 0xA002: 1, 0xA003: 0}  # tag -> place in (height, width)
_SHORT, _LONG = 3, 4
_DESCRIPTION = 0x010E
_MARK = b"Exif\x00\x00"
_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation(?:=\"|='|>))[0-9]")
# What a TIFF file may say about its picture beside how its pixels are stored.
_DESCRIPTIVE = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x013C, 0x4746, 0x4749, 0x8298)


def turns(orientation: int) -> tuple[bool, bool, bool]:
    """What brings a picture upright: whether rows and columns are exchanged, then rows reversed, then columns."""
    return orientation > 4, orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)


def camera_notes(image: Image.Image, late_exif: bytes | None = None) -> tuple[int, bytes | None, bytes | None]:
    """Read the notes of a picture. Damaged ones are passed over: they do not spoil the picture.

    Args:
        image: a Pillow image, opened from a file, before its pixels are loaded.
        late_exif: the EXIF block of a PNG file that stands behind its pixels, where Pillow has not looked yet.

    Returns:
        The orientation in the file, 1 to 8; the EXIF block from its TIFF header on, without thumbnail, and the XMP
        packet, both with orientation 1.
    """
    if late_exif is not None and "exif" not in image.info:
        image.info["exif"] = _MARK + late_exif
    turned = 1
    with suppress(Exception):
        # Not image.getexif(), which for PNG decodes the whole picture in search of what has just been given.
        value = Image.Image.getexif(image).get(_ORIENTATION, 1)
        turned = value if value in range(1, 9) else 1
    packet = image.info.get("xmp", image.info.get("XML:com.adobe.xmp"))
    packet = packet.encode() if isinstance(packet, str) else packet
    xmp = _XMP_ORIENTATION.sub(rb"\g<1>1", packet) if isinstance(packet, bytes) and packet else None
    return turned, _exif_block(image), xmp


def _exif_block(image: Image.Image) -> bytes | None:
    block = image.info.get("exif")
    if isinstance(block, bytes):
        with suppress(struct.error, IndexError, WavdiffError):
            return _corrected(block.removeprefix(_MARK), None)
        return None
    with suppress(Exception):
        found = described(Image.Image.getexif(image), nested=getattr(image, "n_frames", 1) == 1)
        return found.tobytes().removeprefix(_MARK) if len(found) else None
    return None


def exif_of_size(block: bytes, size: tuple[int, int]) -> bytes:
    """An EXIF block that names another size, (height, width) in pixels, where it names one."""
    with suppress(struct.error, IndexError, WavdiffError):
        return _corrected(block, size)
    return block


def described(source: Image.Exif | bytes, *, nested: bool = True) -> Image.Exif:
    """What describes the picture in an EXIF block, and not how one file stores it: names, dates, settings, place.

    Args:
        source: the block.
        nested: with the camera's directories; where several pages are joined, their places would be wrong.
    """
    if isinstance(source, bytes):
        directory = Image.Exif()
        directory.load(_MARK + source)
        source = directory
    kept: Any = Image.Exif()
    for tag in _DESCRIPTIVE:
        if tag in source:
            kept[tag] = source[tag]
    for tag in (_EXIF_DIRECTORY, _GPS_DIRECTORY) if nested else ():
        entries = source.get_ifd(tag)
        if entries:
            kept.get_ifd(tag).update(entries)
            kept[tag] = dict(entries)
    return kept


def description_of(block: bytes | None) -> str:
    """The description of the picture in an EXIF block, in which microscopes' programs write what they know."""
    return str(described(block).get(_DESCRIPTION, "")) if block else ""


def without_description(block: bytes) -> bytes | None:
    """An EXIF block without that."""
    kept = described(block)
    del kept[_DESCRIPTION]
    return kept.tobytes().removeprefix(_MARK) if len(kept) else None


def _corrected(block: bytes, size: tuple[int, int] | None) -> bytes:
    """Set the orientation to 1, unlink the thumbnail and, where a size is given, name it."""
    content = bytearray(block)
    order = {b"II": "<", b"MM": ">"}.get(bytes(content[:2]))
    if order is None or struct.unpack_from(order + "H", content, 2)[0] != 42:
        raise WavdiffError("an EXIF block must begin like a TIFF file")
    pending = [(struct.unpack_from(order + "L", content, 4)[0], True)]
    while pending:
        start, is_first = pending.pop()
        (count,) = struct.unpack_from(order + "H", content, start)
        for place in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, number = struct.unpack_from(order + "HHL", content, place)
            if is_first and tag == _ORIENTATION:
                struct.pack_into(order + "HHLHH", content, place, tag, _SHORT, 1, 1, 0)
            elif is_first and tag == _EXIF_DIRECTORY:
                pending.append((struct.unpack_from(order + "L", content, place + 8)[0], False))
            elif size is not None and tag in _SIZE_TAGS and kind in (_SHORT, _LONG) and number == 1:
                struct.pack_into(order + "HHLL", content, place, tag, _LONG, 1, size[_SIZE_TAGS[tag]])
        if is_first:
            struct.pack_into(order + "L", content, start + 2 + 12 * count, 0)
    return bytes(content)
