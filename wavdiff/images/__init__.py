"""Image files to tensors and back; the only package that knows Pillow and libvips.

Inside the library an image is float32 in [-1, 1], shape (C, H, W) with C = 1 (gray) or 3 (RGB). What belongs to the
file and not to the picture is settled here: the EXIF orientation is applied, transparency and black ink are kept apart,
profile, resolution and EXIF are carried along, and a file is written completely or not at all.

- `open_picture` and `create_picture` read and write by rectangles: what comes in goes out in the same mode and depth,
  and memory does not depend on the size of the picture.
- `from_pil` and `to_pil_like` do the same with a Pillow image in memory.
- `load_image`, `read_pixels` and `save_image` read and write whole pictures as gray or RGB.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wavdiff.images.codecs.pillow_modes import from_pil, to_pil_like
    from wavdiff.images.formats import FORMATS, format_of, writable_formats
    from wavdiff.images.load_save import (
        LoadedImage,
        check_output_path,
        check_readable,
        load_image,
        read_colour,
        read_pixels,
        save_image,
        to_pil,
    )
    from wavdiff.images.pages import choose_pages, find_pages, join_pages, read_pages
    from wavdiff.images.picture import PictureInfo, Planes, plain_info
    from wavdiff.images.reader import PictureReader, open_picture, read_info
    from wavdiff.images.resampling import ResizeMethod, image_grid, resize, resize_crop
    from wavdiff.images.writer import PictureWriter, check_picture_path, create_picture

__all__ = [
    "FORMATS",
    "LoadedImage",
    "PictureInfo",
    "PictureReader",
    "PictureWriter",
    "Planes",
    "ResizeMethod",
    "check_output_path",
    "check_picture_path",
    "check_readable",
    "choose_pages",
    "create_picture",
    "find_pages",
    "format_of",
    "from_pil",
    "image_grid",
    "join_pages",
    "load_image",
    "open_picture",
    "plain_info",
    "read_colour",
    "read_info",
    "read_pages",
    "read_pixels",
    "resize",
    "resize_crop",
    "save_image",
    "to_pil",
    "to_pil_like",
    "writable_formats",
]
_HOMES = "formats picture resampling load_save reader writer pages codecs.pillow_modes"


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `formats` must be there without torch and Pillow."""
    if name in __all__:
        homes = (importlib.import_module(f"wavdiff.images.{home}") for home in _HOMES.split())
        return next(getattr(home, name) for home in homes if hasattr(home, name))
    raise AttributeError(f"module 'wavdiff.images' has no attribute {name!r}")
