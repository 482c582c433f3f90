"""Pictures that are kept in memory whole: training data, samples, reports.

`open_picture` and `create_picture` keep more of a file: 16 bits of colour, inks, palettes. Here CMYK and palettes
become RGB, and only gray has 16 bits.
"""

import os
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageColor, ImageOps

from wavdiff.images.codecs.headers import GRAY_MODES, is_inverted
from wavdiff.images.codecs.opening import opened
from wavdiff.images.codecs.pillow_modes import bands_from_image, to_pil_like
from wavdiff.images.formats import FORMATS, format_of
from wavdiff.images.picture import PictureInfo, Planes, plain_info, planes_from_bands
from wavdiff.images.resampling import resize
from wavdiff.images.writer import check_picture_path, create_picture
from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import shown


@dataclass(frozen=True)
class LoadedImage:
    """A picture and what its file said about it.

    Attributes:
        pixels: (C, H, W) float32 in [-1, 1], C = 1 or 3, upright.
        alpha: (1, H, W) float32 opacity in [0, 1], or None where the file has no transparency.
        mode: Pillow's name of the mode in the file, such as "RGB", "LA", "P" or "I;16".
        bits: bits per channel kept, 8 or 16 (16 for gray only).
        icc_profile: the colour profile of `pixels`, or None.
    """

    pixels: torch.Tensor
    alpha: torch.Tensor | None
    mode: str
    bits: int
    icc_profile: bytes | None


def load_image(path: str | os.PathLike[str]) -> LoadedImage:
    """Read one picture, upright, in [-1, 1], with its transparency apart.

    Raises:
        WavdiffError: as for `open_picture`.
    """
    bands, info = _decoded(path, str(path))
    planes = planes_from_bands(bands, info)
    return LoadedImage(planes.colour, planes.alpha, info.mode, info.bits, info.icc_profile)


def read_pixels(path: str | os.PathLike[str] | BinaryIO, name: str | None = None) -> np.ndarray:
    """Read one picture as 8-bit integers, for training data.

    Args:
        path: the file, or an open binary file that can seek.
        name: what messages call it; None for the path.

    Returns:
        uint8, (H, W) for gray and (H, W, 3) for colour; transparent parts show white; 16 bits are rounded to 8.

    Raises:
        WavdiffError: as for `open_picture`.
    """
    bands, info = _decoded(path, name or str(path), on_white=True)
    if info.bits == 16:
        bands = ((bands.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return bands[..., 0] if info.channels == 1 else bands


def check_readable(path: str | os.PathLike[str]) -> None:
    """Check cheaply, without decoding, that a file looks like one picture; a cut-off JPEG can still pass.

    Raises:
        WavdiffError: as for `open_picture`.
    """
    with opened(path) as image:
        image.verify()


def read_colour(text: str) -> tuple[int, int, int]:
    """RGB of '#ff00ff' or 'magenta', as Pillow reads colours.

    Raises:
        WavdiffError: no colour.
    """
    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError:
        raise WavdiffError(f"a colour is written '#ff00ff' or by its name, got {shown(text)}") from None
    return red, green, blue


def to_pil(pixels: torch.Tensor, alpha: torch.Tensor | None = None, mode: str | None = None) -> Image.Image:
    """Turn a tensor into a Pillow image.

    Args:
        pixels: (C, H, W) with C = 1 or 3, in [-1, 1]; values outside are limited.
        alpha: (1, H, W) opacity in [0, 1], or None.
        mode: "L", "RGB", "LA", "RGBA" or "I;16" (16-bit gray); None takes the one that fits.

    Raises:
        WavdiffError: a wrong shape, a mode that does not fit it, or values that are not finite.
    """
    _check_shape(pixels)
    planes, channels = Planes(pixels, alpha), pixels.shape[0]
    info = plain_info(planes.size, channels, has_alpha=alpha is not None)
    allowed = ("L", "I;16") if info.mode == "L" else (info.mode,)
    if mode not in (None, *allowed):
        kind = f"{channels} channels {'without' if alpha is None else 'with'} alpha"
        raise WavdiffError(f"mode must be one of {', '.join(allowed)} for {kind}, not {mode!r}")
    return to_pil_like(planes, plain_info(planes.size, channels, bits=16) if mode == "I;16" else info)


def check_output_path(
    path: str | os.PathLike[str], like: LoadedImage | PictureInfo | None = None, size: tuple[int, int] | None = None
) -> tuple[str, ...]:
    """As `check_picture_path`, also for `save_image` with or without a loaded picture."""
    if not isinstance(like, PictureInfo):
        has_alpha = like is not None and like.alpha is not None
        like = _plain(format_of(path), plain_info((1, 1), 3, has_alpha=has_alpha))
    return check_picture_path(path, like, size)


def save_image(path: str | os.PathLike[str], pixels: torch.Tensor, like: LoadedImage | None = None) -> None:
    """Write one picture, completely or not at all.

    Missing folders are made. JPEG is written at quality 99 without colour subsampling, WebP without loss.

    Args:
        path: the file; its suffix says which of `FORMATS`.
        pixels: (C, H, W) with C = 1 or 3, in [-1, 1]; values outside are limited.
        like: a loaded picture whose transparency (resized where the sizes differ), 16-bit depth (gray, where the format
            has it) and colour profile are kept; None for 8 bits without either.

    Raises:
        WavdiffError: as for `check_output_path` and `to_pil`.
    """
    check_output_path(path, like)
    _check_shape(pixels)
    planes, bits, profile = Planes(pixels), 8, None
    channels, size = pixels.shape[0], planes.size
    if like is not None:
        alpha = like.alpha
        if alpha is not None and alpha.shape[-2:] != size:
            alpha = resize(alpha, size, "bicubic").clamp(0, 1)
        planes = Planes(pixels, alpha)
        bits = like.bits if channels == 1 and alpha is None else 8
        profile = like.icc_profile if like.pixels.shape[0] == channels else None
    info = replace(plain_info(size, channels, bits, planes.alpha is not None), icc_profile=profile)
    with create_picture(path, _plain(format_of(path), info)) as writer:
        writer.write_all(planes)


def _decoded(
    source: str | os.PathLike[str] | BinaryIO, name: str, *, on_white: bool = False
) -> tuple[np.ndarray, PictureInfo]:
    """The bands of a picture as gray or RGB, upright, perhaps before white instead of with opacity."""
    with opened(source, name) as image:
        mode, profile, inverted = image.mode, image.info.get("icc_profile"), is_inverted(image)
        ImageOps.exif_transpose(image, in_place=True)
        if mode == "F":
            raise WavdiffError(f"{name}: floating-point images are not supported; 8 or 16 bits are needed")
        bits, channels = (16 if mode.startswith("I") else 8), (1 if mode in GRAY_MODES or mode.startswith("I") else 3)
        has_alpha = bits == 8 and image.has_transparency_data
        shown: Image.Image = image
        if has_alpha and on_white:
            white = Image.new("RGBA", image.size, "white")
            shown, has_alpha = Image.alpha_composite(white, image.convert("RGBA")), False
        # A profile describes the file's own colours: it is void where Pillow has to convert them.
        is_void = bits == 8 and mode not in ("1", "L", "LA", "RGB", "RGBA", "P", "PA")
        info = plain_info((image.height, image.width), channels, bits, has_alpha)
        info = replace(info, mode=mode, icc_profile=None if is_void else profile)
        bands = bands_from_image(shown, info, name)
    return 65535 - bands if inverted and bits == 16 else bands, info


def _plain(kind: str, info: PictureInfo) -> PictureInfo:
    """`info` with a palette where the format has no other colours."""
    return replace(info, mode="P") if FORMATS[kind].needs_palette and info.mode != "L" else info


def _check_shape(pixels: torch.Tensor) -> None:
    if pixels.ndim != 3 or pixels.shape[0] not in (1, 3):
        raise WavdiffError(f"a picture must be (C, H, W) with C = 1 or 3, not {tuple(pixels.shape)}")
