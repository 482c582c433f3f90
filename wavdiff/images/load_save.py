"""Pictures that are kept in memory whole: training data, samples, reports.

:mod:`wavdiff.images.reader` and :mod:`wavdiff.images.writer` keep more of a file: 16 bits of colour, inks, palettes.
Here CMYK and palettes become RGB, and only gray has 16 bits.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps

from wavdiff.images.codecs.opening import opened
from wavdiff.images.formats import (
    FORMATS_WITH_16_BITS,
    FORMATS_WITH_ALPHA,
    FORMATS_WITH_PROFILE,
    SAVE_OPTIONS,
    check_picture_path,
    check_place,
    format_of,
)
from wavdiff.images.picture import PictureInfo
from wavdiff.images.resampling import resize
from wavdiff.system.atomic import written_whole
from wavdiff.system.errors import WavdiffError


@dataclass(frozen=True)
class LoadedImage:
    """A picture and what its file said about it.

    Attributes:
        pixels: (C, H, W) float32 in [-1, 1], C = 1 or 3, upright.
        alpha: (1, H, W) float32 opacity in [0, 1], or None where the file has no transparency.
        mode: Pillow's name of the mode in the file, such as "RGB", "LA", "P" or "I;16".
        bits: bits per channel kept, 8 or 16 (16 for gray only).
        icc_profile: the colour profile of ``pixels``, or None.
    """

    pixels: torch.Tensor
    alpha: torch.Tensor | None
    mode: str
    bits: int
    icc_profile: bytes | None


def load_image(path: str | os.PathLike[str]) -> LoadedImage:
    """Read one picture.

    Args:
        path: a PNG, JPEG, WebP, TIFF, BMP, PGM/PPM or single-picture GIF file.

    Returns:
        The picture, upright, in [-1, 1], with its transparency apart.

    Raises:
        WavdiffError: the file is missing, a folder, empty, damaged, of an unknown format, animated or of several
            pages, of floating-point pixels, or of suspiciously many pixels.
    """
    with opened(path) as image:
        mode = image.mode
        profile = image.info.get("icc_profile")
        white_is_zero = getattr(image, "tag_v2", {}).get(262) == 0
        upright = ImageOps.exif_transpose(image)
        wide = _sixteen_bits(upright, path, white_is_zero)
        if wide is not None:
            return LoadedImage(_unit_range(wide, 65535), None, mode, 16, profile)
        alpha = None
        if upright.has_transparency_data:
            gray = mode in ("1", "L", "LA", "La")
            upright = upright.convert("RGBA")
            alpha = torch.from_numpy(np.array(upright.getchannel("A"), dtype=np.float32) / 255)[None]
            # Not convert("L") of RGBA: that weights the channels, and for a gray file the red channel is exact.
            upright = upright.getchannel("R") if gray else upright.convert("RGB")
        flat = _flat(upright)
        # A profile describes the file's own colours: it is void where Pillow had to convert them.
        kept = profile if mode in ("1", "L", "LA", "RGB", "RGBA", "P", "PA") else None
        return LoadedImage(_unit_range(np.array(flat), 255), alpha, mode, 8, kept)


def read_pixels(path: str | os.PathLike[str] | BinaryIO, name: str | None = None) -> np.ndarray:
    """Read one picture as 8-bit integers, for training data.

    Args:
        path: as for :func:`load_image`, or an open binary file that can seek.
        name: what messages call it; None for the path.

    Returns:
        uint8, (H, W) for gray and (H, W, 3) for colour; transparent parts show white; 16 bits are rounded to 8.

    Raises:
        WavdiffError: as for :func:`load_image`.
    """
    with opened(path, name) as image:
        white_is_zero = getattr(image, "tag_v2", {}).get(262) == 0
        upright = ImageOps.exif_transpose(image)
        wide = _sixteen_bits(upright, name or str(path), white_is_zero)
        if wide is not None:
            return ((wide.astype(np.uint32) + 128) // 257).astype(np.uint8)
        if upright.has_transparency_data:
            gray = upright.mode in ("1", "L", "LA", "La")
            front = upright.convert("RGBA")
            white = Image.new("RGBA", front.size, (255, 255, 255, 255))
            shown = Image.alpha_composite(white, front)
            upright = shown.getchannel("R") if gray else shown.convert("RGB")
        return np.array(_flat(upright))


def check_readable(path: str | os.PathLike[str]) -> None:
    """Check cheaply, without decoding, that a file looks like one picture.

    Args:
        path: the file. Its header is parsed, and for PNG the checksums; a cut-off JPEG can still pass.

    Raises:
        WavdiffError: as for :func:`load_image`.
    """
    with opened(path) as image:
        image.verify()


def to_pil(pixels: torch.Tensor, alpha: torch.Tensor | None = None, mode: str | None = None) -> Image.Image:
    """Turn a tensor into a Pillow image.

    Args:
        pixels: (C, H, W) with C = 1 or 3, in [-1, 1]; values outside are limited.
        alpha: (1, H, W) opacity in [0, 1], or None.
        mode: "L", "RGB", "LA", "RGBA" or "I;16" (16-bit gray); None takes the one that fits.

    Returns:
        The image, of 8 bits per channel, or of 16 for mode "I;16".

    Raises:
        WavdiffError: a wrong shape, a mode that does not fit it, or values that are not finite.
    """
    _check_picture(pixels)
    channels = pixels.shape[0]
    fitting = {1: "L", 3: "RGB"}[channels] + ("A" if alpha is not None else "")
    allowed = (fitting, "I;16") if fitting == "L" else (fitting,)
    if mode is None:
        mode = fitting
    if mode not in allowed:
        kind = f"{channels} channels {'with' if alpha is not None else 'without'} alpha"
        raise WavdiffError(f"mode must be one of {', '.join(allowed)} for {kind}, not {mode!r}")
    if mode == "I;16":
        return Image.fromarray(_quantised(pixels[0], 65535).astype(np.uint16))
    planes = _quantised(pixels, 255).astype(np.uint8)
    if alpha is not None:
        if alpha.shape != (1, *pixels.shape[-2:]):
            raise WavdiffError(f"alpha must be (1, H, W) of the image's size {(1, *pixels.shape[-2:])}: {alpha.shape}")
        planes = np.concatenate([planes, _quantised(2 * alpha - 1, 255).astype(np.uint8)])
    array = planes[0] if len(planes) == 1 else np.ascontiguousarray(planes.transpose(1, 2, 0))
    return Image.fromarray(array)


def check_output_path(
    path: str | os.PathLike[str], like: LoadedImage | PictureInfo | None = None, size: tuple[int, int] | None = None
) -> tuple[str, ...]:
    """Check, before the work is done, that :func:`save_image` or :func:`create_picture` will be able to write.

    Args:
        path: the file to be written.
        like: the picture whose kind it is to keep, or None.
        size: (height, width) of the new picture, where ``like`` is a :class:`PictureInfo`; None for the same.

    Returns:
        Notes, one line each, on what will be written in another form than it was read, such as 16 bits as 8.

    Raises:
        WavdiffError: an unknown suffix, a suffix that cannot hold the picture, or a folder in the way.
    """
    if isinstance(like, PictureInfo):
        return check_picture_path(path, like, size)
    target, kind = Path(path), format_of(path)
    check_place(target)
    if like is not None and like.alpha is not None and kind not in FORMATS_WITH_ALPHA:
        raise WavdiffError(f"{target}: {kind} cannot hold the transparency of the input; write .png, .webp or .tif")
    return ()


def save_image(path: str | os.PathLike[str], pixels: torch.Tensor, like: LoadedImage | None = None) -> None:
    """Write one picture, completely or not at all.

    Missing folders are made. JPEG is written at quality 95 without colour subsampling, WebP without loss.

    Args:
        path: the file; its suffix says the format (png, jpg, jpeg, webp, tif, tiff, bmp, pgm, ppm, gif).
        pixels: (C, H, W) with C = 1 or 3, in [-1, 1]; values outside are limited.
        like: a loaded picture whose transparency (resized where the sizes differ), 16-bit depth (gray as PNG, TIFF or
            PGM) and colour profile are kept; None for 8 bits without either.

    Raises:
        WavdiffError: as for :func:`check_output_path` and :func:`to_pil`.
    """
    check_output_path(path, like)
    target, kind = Path(path), format_of(path)
    mode, alpha, options = None, None, dict(SAVE_OPTIONS.get(kind, {}))
    if like is not None:
        if like.alpha is not None:
            alpha = like.alpha
            if alpha.shape[-2:] != pixels.shape[-2:]:
                alpha = resize(alpha, (pixels.shape[-2], pixels.shape[-1]), "bicubic").clamp(0, 1)
        if like.bits == 16 and pixels.shape[0] == 1 and alpha is None and kind in FORMATS_WITH_16_BITS:
            mode = "I;16"
        if like.icc_profile and like.pixels.shape[0] == pixels.shape[0] and kind in FORMATS_WITH_PROFILE:
            options["icc_profile"] = like.icc_profile
    image = to_pil(pixels, alpha, mode)
    with written_whole(target) as file:
        image.save(file, format=kind, **options)


def _sixteen_bits(image: Image.Image, path: str | os.PathLike[str], white_is_zero: bool) -> np.ndarray | None:
    """Give a 16-bit gray image as uint16 (H, W), and None for every image of 8 bits."""
    if image.mode == "F":
        raise WavdiffError(f"{path}: floating-point images are not supported; 8 or 16 bits are needed")
    if not image.mode.startswith("I"):
        return None
    values = np.array(image)
    if values.min() < 0 or values.max() > 65535:
        raise WavdiffError(
            f"{path}: gray values must be within 16 bits, 0 to 65535, not {values.min()} to {values.max()}"
        )
    return (65535 - values if white_is_zero else values).astype(np.uint16)


def _flat(image: Image.Image) -> Image.Image:
    """Convert any 8-bit mode without transparency to "L" (what is gray) or "RGB"."""
    if image.mode in ("1", "L", "LA", "La"):
        return image.convert("L")
    return image if image.mode == "RGB" else image.convert("RGB")


def _unit_range(values: np.ndarray, maximum: int) -> torch.Tensor:
    """Map integers 0..maximum, (H, W) or (H, W, 3), to float32 (C, H, W) in [-1, 1]."""
    planes = values[None] if values.ndim == 2 else np.ascontiguousarray(values.transpose(2, 0, 1))
    return torch.from_numpy(planes.astype(np.float32)).mul_(2 / maximum).sub_(1)


def _quantised(pixels: torch.Tensor, maximum: int) -> np.ndarray:
    """Map [-1, 1] to integers 0..maximum, rounded and limited."""
    scaled = (pixels.detach().to("cpu", torch.float32) + 1) * (maximum / 2)
    return scaled.round().clamp(0, maximum).to(torch.int32).numpy()


def _check_picture(pixels: torch.Tensor) -> None:
    if pixels.ndim != 3 or pixels.shape[0] not in (1, 3):
        raise WavdiffError(f"a picture must be (C, H, W) with C = 1 or 3, not {tuple(pixels.shape)}")
    if not bool(torch.isfinite(pixels).all()):
        raise WavdiffError("a picture must be finite everywhere, but it holds NaN or infinity")
