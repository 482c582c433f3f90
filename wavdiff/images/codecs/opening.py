"""Opening files that may be anything: damaged, enormous, animated, or no picture at all.

Everything that can be wrong with a file becomes a `WavdiffError` that names it. A file that is tiny and claims to be
enormous is a decompression bomb. Pillow refuses any picture over 179 megapixels for fear of them; photographs are
larger than that today. Here such a picture may have up to 2 gigapixels, if its file holds at least one byte for 5000 of
them (a blank page as PNG or TIFF has one for about 1000, a photograph one for 1 to 20). From 16 megapixels on one byte
for 100,000 is asked for, which a blank page in black and white has as well: a header of a hundred bytes that promises
17 megapixels is refused before memory is given to them, and hours.
"""

import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image, UnidentifiedImageError

from wavdiff.images.codecs.segments import damaged_notes, without_chunks
from wavdiff.images.formats import FORMATS, OTHERS, pillow_formats
from wavdiff.system.errors import WavdiffError

logging.getLogger("PIL").addHandler(logging.NullHandler())  # what matters raises; else Python prints the rest


LARGEST_PIXELS = 2_000_000_000
# So many pixels are always believed; of more, there may be so many for each byte of the file.
_BELIEVED = ((2**24, 100_000), (178_956_970, 5000))


@contextmanager
def opened(
    source: str | os.PathLike[str] | BinaryIO, name: str | None = None, page: int | None = None
) -> Iterator[Image.Image]:
    """Open one picture and turn all that can be wrong with it, then and while decoding, into a WavdiffError.

    Args:
        source: a file, or an open binary file that can seek.
        name: what messages call it; None for the path.
        page: of a TIFF file, from 0; None: it must be the only one.

    Yields:
        The Pillow image. Its header is read, its pixels are not.

    Raises:
        WavdiffError: the file is missing, a folder, empty, damaged, of an unknown format, animated or of several
            pages, or of suspiciously many pixels.
    """
    name = name or (str(source) if isinstance(source, str | os.PathLike) else "the picture")
    file: Path | BinaryIO = Path(source) if isinstance(source, str | os.PathLike) else source
    try:
        length = _length(file, name)
        given = _with_sound_notes(file, name)
        with warnings.catch_warnings(), _without_pillows_limit():
            warnings.simplefilter("ignore")  # about odd metadata; what matters raises
            # Named formats only: Pillow would also start external programs (for EPS, say) on what a file claims to be.
            with Image.open(given, formats=pillow_formats()) as image:
                if image.format == "TIFF":  # so cameras' raw files look, and their first picture is a thumbnail
                    _refuse_others(name)
                _check_honest(image.size[0] * image.size[1], length, name)
                # Phones write JPEG as MPO: the photograph, then previews or depth. The first picture is meant.
                frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
                if frames > 1 and (page is None or image.format != "TIFF"):
                    raise WavdiffError(f"{name}: holds {frames} pictures (animated or multi-page); one is needed")
                if page:
                    if page >= frames:
                        raise WavdiffError(f"{name}: pages are numbered from 0 to {frames - 1}, got {page}")
                    image.seek(page)
                    _check_honest(image.size[0] * image.size[1], length, name)
                yield image
    except (WavdiffError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        if _is_tiff(file):
            raise WavdiffError(
                f"{name}: not an image that can be read: of TIFF, gray, RGB, CMYK and palettes of 8 or 16 bits are"
            ) from error
        _refuse_others(name, error)
        titles = ", ".join(FORMATS[kind].title for kind in pillow_formats())
        raise WavdiffError(f"{name}: not an image that can be read ({titles})") from error
    except PermissionError as error:
        raise WavdiffError(f"{name}: may not be read: {error.strerror}") from error
    except OSError as error:
        if error.errno is None:  # Pillow's own
            raise WavdiffError(f"{name}: damaged image: {one_line(error)}") from error
        raise WavdiffError(f"{name}: cannot be read: {error.strerror}") from error
    except Exception as error:  # Pillow's decoders raise nearly every type on damaged files.
        raise WavdiffError(f"{name}: damaged image: {one_line(error)}") from error


def one_line(error: Exception) -> str:
    """An exception's message without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def _length(file: Path | BinaryIO, name: str) -> int:
    """The number of bytes of a file that is there and not empty."""
    if isinstance(file, Path):
        if file.is_dir():
            raise WavdiffError(f"{name}: is a folder, not an image")
        if not file.exists():
            raise WavdiffError(f"{name}: no such file")
        if not file.is_file():  # a pipe would wait for a writer, a device may never end
            raise WavdiffError(f"{name}: is a pipe, a socket or a device, not a file")
        length = file.stat().st_size
    else:
        length = file.seek(0, os.SEEK_END)
        file.seek(0)
    if length == 0:
        raise WavdiffError(f"{name}: the file is empty (0 bytes)")
    return length


def _refuse_others(name: str, error: Exception | None = None) -> None:
    """Say what opens a file whose suffix is that of another kind."""
    other = OTHERS.get(Path(name).suffix.lower())
    if other is not None:
        raise WavdiffError(f"{name}: not an image that can be read, but {other}") from error


def _with_sound_notes(file: Path | BinaryIO, name: str) -> Path | BinaryIO:
    """The file, or where notes in a PNG are damaged, which Pillow refuses, its copy without them."""
    with open(file, "rb") if isinstance(file, Path) else nullcontext(file) as stream:
        damaged = damaged_notes(stream)
        if not damaged:
            return file
        kinds = ", ".join(sorted({kind for _, _, kind in damaged}))
        warnings.warn(f"{name}: damaged notes ({kinds}) are left out", stacklevel=4)
        return without_chunks(stream, damaged)


def _is_tiff(file: Path | BinaryIO) -> bool:
    with open(file, "rb") if isinstance(file, Path) else nullcontext(file) as stream:
        stream.seek(0)
        return stream.read(4) in (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")


def _check_honest(pixels: int, length: int, name: str) -> None:
    """Refuse decompression bombs."""
    if pixels > LARGEST_PIXELS:
        raise WavdiffError(f"{name}: too many pixels to be opened safely: {pixels}, at most {LARGEST_PIXELS}")
    for believed, per_byte in _BELIEVED:
        if pixels > max(believed, per_byte * length):
            raise WavdiffError(
                f"{name}: too many pixels to be opened safely: {pixels} in a file of {length} bytes; more than "
                f"{believed} need a byte for every {per_byte}"
            )


_lock = threading.Lock()
_users = 0
_limit: Any = None


@contextmanager
def _without_pillows_limit() -> Iterator[None]:
    """Lift Pillow's limit, which is one for the whole process, as long as any picture is open here."""
    global _users, _limit
    with _lock:
        if _users == 0:
            _limit = Image.MAX_IMAGE_PIXELS
            Image.MAX_IMAGE_PIXELS = None
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                Image.MAX_IMAGE_PIXELS = _limit
