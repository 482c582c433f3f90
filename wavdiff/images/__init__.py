"""Image files to tensors and back; the only package that knows Pillow and libvips.

Inside the library an image is float32 in [-1, 1], shape (C, H, W) with C = 1 (gray) or 3 (RGB). A file holds integers
``v`` of 8 or 16 bits; with ``m`` = 255 or 65535 the two are related by ``x = 2 v / m - 1`` and, on the way out,
``v = round(m (x + 1) / 2)`` limited to 0..m, so that reading and writing is the identity on the integers.

What belongs to the file and not to the picture is settled here: the EXIF orientation is applied, transparency and black
ink are kept apart, profile, resolution and EXIF are carried along, and a file is written completely or not at all.

- :func:`open_picture` and :func:`create_picture` read and write by rectangles: what comes in goes out in the same mode
  and depth, and memory does not depend on the size of the picture.
- :func:`from_pil` and :func:`to_pil_like` do the same with a Pillow image in memory.
- :func:`load_image`, :func:`read_pixels` and :func:`save_image` read and write whole pictures as gray or RGB.
"""

from wavdiff.images.codecs.pillow_modes import from_pil, to_pil_like
from wavdiff.images.formats import FORMATS_WITH_ALPHA, WRITABLE_FORMATS, check_picture_path, format_of
from wavdiff.images.load_save import (
    LoadedImage,
    check_output_path,
    check_readable,
    load_image,
    read_pixels,
    save_image,
    to_pil,
)
from wavdiff.images.picture import PictureInfo, Planes, plain_info
from wavdiff.images.reader import PictureReader, open_picture, read_info
from wavdiff.images.resampling import ResizeMethod, image_grid, resize, resize_crop
from wavdiff.images.writer import PictureWriter, create_picture

__all__ = [
    "FORMATS_WITH_ALPHA",
    "WRITABLE_FORMATS",
    "LoadedImage",
    "PictureInfo",
    "PictureReader",
    "PictureWriter",
    "Planes",
    "ResizeMethod",
    "check_output_path",
    "check_picture_path",
    "check_readable",
    "create_picture",
    "format_of",
    "from_pil",
    "image_grid",
    "load_image",
    "open_picture",
    "plain_info",
    "read_info",
    "read_pixels",
    "resize",
    "resize_crop",
    "save_image",
    "to_pil",
    "to_pil_like",
]
