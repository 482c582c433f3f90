"""Pillow's modes to bands and back.

Every mode becomes one of four layouts: gray or three colours, each with or without opacity; CMYK has a key beside its
colours. On the way back the same mode comes out: one bit by comparison with a half, palettes by choosing one anew,
premultiplied modes by multiplying.
"""

from dataclasses import replace

import numpy as np
from PIL import Image

from wavdiff.images.codecs.headers import describe
from wavdiff.images.codecs.palette import Palette, choose_palette
from wavdiff.images.picture import PictureInfo, Planes, bands_from_planes, planes_from_bands
from wavdiff.system.errors import WavdiffError


def from_pil(image: Image.Image) -> tuple[Planes, PictureInfo]:
    """Turn a Pillow image into planes, and what kind of image it was.

    Args:
        image: of any mode but "F" and "LAB". It is taken as it lies: an EXIF orientation is left alone, and so is the
            EXIF block.

    Raises:
        WavdiffError: floating-point pixels, gray values beyond 16 bits, or a mode that is not supported.
    """
    name = "the image"
    info = as_pillow_holds(describe(image, name).info)
    if image.mode.startswith("I"):
        info = replace(info, mode=image.mode, has_alpha=False)
    block = image.info.get("exif")
    info = replace(info, size=(image.height, image.width), exif=block if isinstance(block, bytes) else None)
    return planes_from_bands(bands_from_image(image, info, name), info), info


def to_pil_like(planes: Planes, info: PictureInfo) -> Image.Image:
    """Turn planes of any size, limited to their range, into a Pillow image like another, or like a file.

    It has the mode, and in its `info` profile, resolution and EXIF. Pillow has no 16-bit colour: "RGB;16" becomes "RGB"
    and so on.

    Raises:
        WavdiffError: planes that do not fit `info`, or that are not finite.
    """
    info = as_pillow_holds(info)
    bands = bands_from_planes(planes, info, "the image")
    image = image_from_bands(bands, info, choose_palette([bands], info) if info.mode in ("P", "PA") else None)
    notes = {"icc_profile": info.icc_profile, "dpi": info.dpi, "exif": info.exif}
    image.info.update((key, value) for key, value in notes.items() if value is not None)
    return image


def as_pillow_holds(info: PictureInfo) -> PictureInfo:
    """A picture with 8 bits instead of 16 where Pillow has no such mode."""
    if info.bits == 16 and not info.mode.startswith("I"):
        return replace(info, mode=info.mode.partition(";")[0], bits=8)
    return info


def bands_from_image(image: Image.Image, info: PictureInfo, name: str) -> np.ndarray:
    """A Pillow image, or a part of it, of the mode that `info` tells, as integers (h, w, `info.bands`) of `info.dtype`.

    Raises:
        WavdiffError: gray values beyond 16 bits.
    """
    if info.bits == 16:
        values = np.array(image)
        if values.min() < 0 or values.max() > 65535:
            found = f"{values.min()} to {values.max()}"
            raise WavdiffError(f"{name}: gray values must be within 16 bits, 0 to 65535, not {found}")
        return values.astype(np.uint16)[..., None]
    if info.has_key:
        return 255 - np.array(image)
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())
    if info.has_alpha:
        # Not to "LA", which would weight red, green and blue: for a gray image red is exact.
        bands = np.array(image.convert("RGBA"))
        return bands[..., [0, 3]] if info.channels == 1 else bands
    if info.channels == 1:
        return np.array(image.convert("RGB"))[..., :1] if image.mode == "P" else np.array(image.convert("L"))[..., None]
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def image_from_bands(bands: np.ndarray, info: PictureInfo, palette: Palette | None = None) -> Image.Image:
    """Integers (h, w, `info.bands`) of `info.dtype` as a Pillow image of `info.mode`, which Pillow must have.

    Modes "P" and "PA" need a palette.
    """
    height, width = bands.shape[:2]
    mode = info.mode
    if info.bits == 16:
        gray = bands[..., 0]
        if mode == "I;16B":
            return Image.frombytes(mode, (width, height), gray.astype(">u2").tobytes())
        return Image.fromarray(gray.astype(np.int32) if mode == "I" else np.ascontiguousarray(gray))
    if palette is not None:
        image = palette.image(bands)
        if mode == "P":
            return image
        image = image.convert("PA")
        image.putalpha(Image.fromarray(np.ascontiguousarray(bands[..., -1])))
        return image
    if info.has_key:
        return Image.frombytes("CMYK", (width, height), (255 - bands).tobytes())
    if info.bands == 1:
        image = Image.fromarray(np.ascontiguousarray(bands[..., 0]))
        return image.point([0] * 128 + [255] * 128, "1") if mode == "1" else image
    plain = {2: "LA", 3: "RGB", 4: "RGBA"}[info.bands]
    image = Image.frombytes(plain, (width, height), np.ascontiguousarray(bands).tobytes())
    return image if mode == plain else image.convert(mode)
