"""Pages of TIFF files: stacks of microscopes, scans of documents.

A page that is a smaller copy of another (NewSubfileType, bit 0 of tag 254: thumbnails, levels of pyramids) is no page
of the stack.
"""

import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from PIL.TiffImagePlugin import AppendingTiffWriter

from wavdiff.images.codecs.arrays import array_format
from wavdiff.images.codecs.exif import description_of, without_description
from wavdiff.images.codecs.opening import opened
from wavdiff.images.picture import PictureInfo
from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import shown

_SUBFILE, _DESCRIPTION, _SUB_DIRECTORIES = 254, 270, 330
_REDUCED = 1
_LARGEST = 2**32 - 2**24
"""Bytes of a file whose places fit into 32 bits."""


@dataclass(frozen=True)
class Stack:
    """What a picture file holds.

    Attributes:
        pages: numbers of its pages from 0, without smaller copies.
        count: with them.
        has_pyramid: whether a page has smaller copies beside it.
    """

    pages: tuple[int, ...] = (0,)
    count: int = 1
    has_pyramid: bool = False


def find_pages(source: str | os.PathLike[str]) -> Stack:
    """The pages of a picture file; a file of another format than TIFF has one.

    Raises:
        WavdiffError: as for `open_picture`.
    """
    if array_format(Path(source)):
        return Stack()
    with opened(source, page=0) as image:
        count = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
        if image.format != "TIFF":
            return Stack()
        pages, has_pyramid = [], False
        for page in range(count):
            image.seek(page)
            tags: Any = image.tag_v2  # type: ignore[attr-defined]
            promised = re.match(r"ImageJ=[^\n]*\nimages=(\d+)", str(tags.get(_DESCRIPTION, "")))
            if promised and int(promised[1]) > count:
                raise WavdiffError(
                    f"{source}: holds {promised[1]} pictures, but a directory of {count}, as ImageJ writes large "
                    "stacks; save it in another way, such as OME-TIFF"
                )
            has_pyramid = has_pyramid or _SUB_DIRECTORIES in tags
            if not int(tags.get(_SUBFILE, 0)) & _REDUCED:
                pages.append(page)
        return Stack(tuple(pages) or (0,), count, has_pyramid or len(pages) < count)


def choose_pages(stack: Stack, asked: tuple[int, ...] | None, name: str) -> tuple[int, ...]:
    """The pages that are asked for, in that order; None: all of them.

    Raises:
        WavdiffError: a page that is not there.
    """
    for page in asked or ():
        if page not in range(stack.count):
            raise WavdiffError(f"{name}: pages are numbered from 0 to {stack.count - 1}, got {page}")
    return stack.pages if asked is None else asked


def read_pages(text: str) -> tuple[int, ...]:
    """Numbers of pages, "0,3-7".

    Raises:
        WavdiffError: something else, a range that runs backwards, or a page named twice.
    """
    pages: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,7})\s*(?:-\s*(\d{1,7})\s*)?", part)
        if match is None or (match[2] and int(match[2]) < int(match[1])):
            raise WavdiffError(f"pages are numbers from 0 and ranges, such as 0,3-7, got {shown(text)}")
        pages += range(int(match[1]), int(match[2] or match[1]) + 1)
    if len(set(pages)) < len(pages):
        raise WavdiffError(f"pages must be named once each, got {shown(text)}")
    return tuple(pages)


def true_notes(info: PictureInfo, complete: bool, enlarged: bool) -> tuple[PictureInfo, list[str]]:
    """A description without what is no longer true of a result, and lines for the user.

    Args:
        info: of the page as it was read.
        complete: whether the result has all pages of the file.
        enlarged: whether it is larger.
    """
    text = description_of(info.exif)
    stale = None
    if "<OME" in text and (enlarged or not complete):
        stale = "OME-XML, which names another size or other pages,"
    elif text.startswith("ImageJ=") and "images=" in text and not complete:
        stale = "ImageJ's description, which names other pages,"
    if stale is None or info.exif is None:
        return info, []
    return replace(info, exif=without_description(info.exif)), [f"{stale} is left out"]


def join_pages(pages: Iterable[BinaryIO], target: BinaryIO, name: str | Path) -> None:
    """Write TIFF files of one page each into one file, one after the other.

    Args:
        pages: open files, each read from its start before the next is asked for.
        target: empty, open for reading and writing.
        name: what messages call it.

    Raises:
        WavdiffError: the file would be larger than 4 GB, which places of 32 bits cannot hold.
    """
    with AppendingTiffWriter(target) as joined:
        for page in pages:
            page.seek(0)
            shutil.copyfileobj(page, joined, 2**20)
            joined.newFrame()
            if target.seek(0, os.SEEK_END) > _LARGEST:
                raise WavdiffError(f"{name}: more than 4 GB, too large for a stack; choose fewer with pages")
