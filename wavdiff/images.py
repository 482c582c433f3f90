"""Image files to tensors and back; the only module that knows Pillow.

Inside the library an image is float32 in [-1, 1], shape (C, H, W) with C = 1 (gray) or 3 (RGB). A file holds integers
``v`` of 8 or 16 bits; with ``m`` = 255 or 65535 the two are related by ``x = 2 v / m - 1`` and, on the way out,
``v = round(m (x + 1) / 2)`` limited to 0..m, so that reading and writing is the identity on the integers.

What belongs to the file and not to the picture is settled here: the EXIF orientation is applied, palettes and CMYK
become RGB, transparency is kept apart, a colour profile is carried along, and a file is written completely or not at
all.
"""

import os
import secrets
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from wavdiff.errors import WavdiffError

ResizeMethod = Literal["bicubic", "lanczos", "box"]

# Named formats only: Pillow would also start external programs (for EPS, say) on whatever a file claims to be.
_READABLE_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "PPM", "GIF")
_WRITABLE_FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".pgm": "PPM",
    ".ppm": "PPM",
}
_FORMATS_WITH_ALPHA = ("PNG", "WEBP", "TIFF")
_FORMATS_WITH_16_BITS = ("PNG", "TIFF")
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True, "exact": True},
}
_RESAMPLING = {
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
}


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
            pages, of floating-point pixels, or larger than Pillow's limit against decompression bombs.
    """
    with _opened(path) as image:
        mode = image.mode
        profile = image.info.get("icc_profile")
        upright = ImageOps.exif_transpose(image)
        wide = _sixteen_bits(upright, path)
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


def read_pixels(path: str | os.PathLike[str]) -> np.ndarray:
    """Read one picture as 8-bit integers, for training data.

    Args:
        path: as for :func:`load_image`.

    Returns:
        uint8, (H, W) for gray and (H, W, 3) for colour; transparent parts show white; 16 bits are rounded to 8.

    Raises:
        WavdiffError: as for :func:`load_image`.
    """
    with _opened(path) as image:
        upright = ImageOps.exif_transpose(image)
        wide = _sixteen_bits(upright, path)
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
    with _opened(path) as image:
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
        raise WavdiffError(
            f"mode must be one of {', '.join(allowed)} for {channels} channels "
            f"{'with' if alpha is not None else 'without'} alpha, not {mode!r}"
        )
    if mode == "I;16":
        return Image.fromarray(_quantised(pixels[0], 65535).astype(np.uint16))
    planes = _quantised(pixels, 255).astype(np.uint8)
    if alpha is not None:
        if alpha.shape != (1, *pixels.shape[-2:]):
            raise WavdiffError(f"alpha must be (1, H, W) of the image's size {(1, *pixels.shape[-2:])}: {alpha.shape}")
        planes = np.concatenate([planes, _quantised(2 * alpha - 1, 255).astype(np.uint8)])
    array = planes[0] if len(planes) == 1 else np.ascontiguousarray(planes.transpose(1, 2, 0))
    return Image.fromarray(array)


def check_output_path(path: str | os.PathLike[str], like: LoadedImage | None = None) -> None:
    """Check, before the work is done, that :func:`save_image` will be able to write.

    Args:
        path: the file to be written.
        like: the picture whose transparency it is to keep, or None.

    Raises:
        WavdiffError: an unknown suffix, a suffix that cannot hold transparency, or a folder in the way.
    """
    target = Path(path)
    kind = _WRITABLE_FORMATS.get(target.suffix.lower())
    if kind is None:
        raise WavdiffError(
            f"{target}: the file to write must end in one of {', '.join(_WRITABLE_FORMATS)}, not {target.suffix!r}"
        )
    if target.is_dir():
        raise WavdiffError(f"{target}: the file to write is a folder")
    if like is not None and like.alpha is not None and kind not in _FORMATS_WITH_ALPHA:
        raise WavdiffError(f"{target}: {kind} cannot hold the transparency of the input; write .png, .webp or .tif")


def save_image(path: str | os.PathLike[str], pixels: torch.Tensor, like: LoadedImage | None = None) -> None:
    """Write one picture, completely or not at all.

    The file is written beside its place under a temporary name and then moved there, so that nobody ever sees half of
    it. Missing folders are made. JPEG is written at quality 95 without colour subsampling, WebP without loss.

    Args:
        path: the file; its suffix says the format (png, jpg, jpeg, webp, tif, tiff, bmp, pgm, ppm).
        pixels: (C, H, W) with C = 1 or 3, in [-1, 1]; values outside are limited.
        like: a loaded picture whose transparency (resized where the sizes differ), 16-bit depth (gray as PNG or TIFF)
            and colour profile are kept; None for 8 bits without either.

    Raises:
        WavdiffError: as for :func:`check_output_path` and :func:`to_pil`, or the folder cannot be written.
    """
    check_output_path(path, like)
    target = Path(path)
    kind = _WRITABLE_FORMATS[target.suffix.lower()]
    mode, alpha, options = None, None, dict(_SAVE_OPTIONS.get(kind, {}))
    if like is not None:
        if like.alpha is not None:
            alpha = like.alpha
            if alpha.shape[-2:] != pixels.shape[-2:]:
                alpha = resize(alpha, (pixels.shape[-2], pixels.shape[-1]), "bicubic").clamp(0, 1)
        if like.bits == 16 and pixels.shape[0] == 1 and alpha is None and kind in _FORMATS_WITH_16_BITS:
            mode = "I;16"
        if like.icc_profile and like.pixels.shape[0] == pixels.shape[0] and kind not in ("BMP", "PPM"):
            options["icc_profile"] = like.icc_profile
    image = to_pil(pixels, alpha, mode)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            image.save(file, format=kind, **options)
        os.replace(temporary, target)
    except OSError as error:
        raise WavdiffError(f"{target}: the picture cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # gone after the move, or never made
            temporary.unlink()


def image_grid(batch: torch.Tensor, columns: int | None = None, padding: int = 2) -> torch.Tensor:
    """Lay pictures of one size out in a grid, row by row, on white.

    Args:
        batch: (N, C, H, W) in [-1, 1].
        columns: pictures per row; None for the square root of N, rounded up.
        padding: white pixels between pictures and around them.

    Returns:
        (C, rows (H + padding) + padding, columns (W + padding) + padding) in [-1, 1].

    Raises:
        WavdiffError: a batch that is empty or not of four axes, fewer than one column, or negative padding.
    """
    if batch.ndim != 4 or batch.shape[0] == 0:
        raise WavdiffError(f"a grid needs a batch (N, C, H, W) with N >= 1, not {tuple(batch.shape)}")
    count, channels, height, width = batch.shape
    columns = int(np.ceil(np.sqrt(count))) if columns is None else columns
    if columns < 1 or padding < 0:
        raise WavdiffError(f"a grid needs columns >= 1 and padding >= 0, not {columns} and {padding}")
    rows = -(-count // columns)
    grid = batch.new_ones(channels, rows * (height + padding) + padding, columns * (width + padding) + padding)
    for index in range(count):
        top = padding + (index // columns) * (height + padding)
        left = padding + (index % columns) * (width + padding)
        grid[:, top : top + height, left : left + width] = batch[index]
    return grid


def resize(pixels: torch.Tensor, size: tuple[int, int], method: ResizeMethod = "bicubic") -> torch.Tensor:
    """Resize in floating point with Pillow's filters (which widen when shrinking, against aliasing).

    Args:
        pixels: (..., H, W), any range; each plane is resized by itself.
        size: (height, width) of the result, in pixels.
        method: "bicubic" (a = -0.5), "lanczos" (3 lobes) or "box" (block averages).

    Returns:
        (..., height, width) float32; bicubic and Lanczos can overshoot the input's range.

    Raises:
        WavdiffError: an unknown method or a size below one pixel.
    """
    if method not in _RESAMPLING:
        raise WavdiffError(f"method must be one of {', '.join(_RESAMPLING)}, not {method!r}")
    height, width = size
    if height < 1 or width < 1:
        raise WavdiffError(f"an image cannot be resized to {height} x {width} pixels")
    planes = pixels.detach().to("cpu", torch.float32).reshape(-1, *pixels.shape[-2:]).numpy()
    resized = np.empty((len(planes), height, width), dtype=np.float32)
    for index, plane in enumerate(planes):
        source = Image.fromarray(np.ascontiguousarray(plane))
        resized[index] = np.asarray(source.resize((width, height), _RESAMPLING[method]))
    return torch.from_numpy(resized).reshape(*pixels.shape[:-2], height, width).to(pixels.device)


def resize_crop(pixels: np.ndarray, box: tuple[float, float, float, float], size: tuple[int, int]) -> np.ndarray:
    """Cut a box, whose borders may lie between pixels, out of an 8-bit image and resize it with Lanczos.

    Args:
        pixels: uint8 (H, W) or (H, W, 3).
        box: (left, top, right, bottom) in pixels, inside the image.
        size: (height, width) of the result, in pixels.

    Returns:
        uint8 (height, width) or (height, width, 3).
    """
    source = Image.fromarray(np.ascontiguousarray(pixels))
    return np.array(source.resize((size[1], size[0]), Image.Resampling.LANCZOS, box=box))


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
    """Open a picture and turn all that can be wrong with a file, then and while decoding, into a WavdiffError."""
    file = Path(path)
    if file.is_dir():
        raise WavdiffError(f"{file}: is a folder, not an image")
    if not file.exists():
        raise WavdiffError(f"{file}: no such file")
    try:
        if file.stat().st_size == 0:
            raise WavdiffError(f"{file}: the file is empty (0 bytes)")
        with warnings.catch_warnings():
            # Pillow warns at half of the size that it refuses; the refusal alone is enough.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file, formats=_READABLE_FORMATS) as image:
                # Phones write JPEG as MPO: the photograph, then previews or depth. The first picture is meant.
                frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
                if frames > 1:
                    raise WavdiffError(f"{file}: holds {frames} pictures (animated or multi-page); one is needed")
                yield image
    except (WavdiffError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise WavdiffError(
            f"{file}: not an image that can be read (PNG, JPEG, WebP, TIFF, BMP, PGM/PPM, GIF)"
        ) from error
    except Image.DecompressionBombError as error:
        raise WavdiffError(f"{file}: too many pixels to be opened safely: {error}") from error
    except PermissionError as error:
        raise WavdiffError(f"{file}: may not be read: {error.strerror}") from error
    except Exception as error:  # Pillow's decoders raise nearly every type on damaged files.
        raise WavdiffError(f"{file}: damaged image: {error}") from error


def _sixteen_bits(image: Image.Image, path: str | os.PathLike[str]) -> np.ndarray | None:
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
    return values.astype(np.uint16)


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
