"""What a picture is inside the library, whatever its file: planes of numbers, and a note of what kind the file was.

A file holds integers `v` from 0 to `m`, with `m` = 255 or 65535. Colour and key planes are `x = 2 v / m - 1` in
[-1, 1], opacity is `v / m` in [0, 1]; on the way out `v` is rounded and limited to 0..m, so that reading and writing is
the identity on the integers. Between files and tensors the integers lie in *bands*, an array (height, width, bands) of
uint8 or uint16 in a fixed order: colour, key, opacity. Files of arrays may hold numbers without a largest one instead
(32 bits): `m` is then the value that is white, and nothing is rounded or limited.

Always, more light is a larger number. So the inks of a CMYK picture are stored as the light that they leave: cyan,
magenta and yellow make three colour planes which look like red, green and blue (0 ink: +1), and black makes a key
plane beside them. Nothing is converted, and the black generation and the profile of the file stay valid.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from wavdiff.system.errors import WavdiffError

FLOAT_STEP = 2.0**-24


@dataclass(frozen=True)
class ArrayNote:
    """What a file of an array says beside its numbers.

    Attributes:
        dtype: NumPy's name of their type and byte order, such as "<f8".
        is_flat: whether the array is (H, W), without an axis of channels.
        header: of a FITS file, a card a line.
    """

    dtype: str
    is_flat: bool
    header: str | None = None


@dataclass(frozen=True)
class PictureInfo:
    """What is needed to write a picture of the same kind.

    Attributes:
        size: (height, width) in pixels, upright.
        channels: colour planes: 1 (gray, or a palette of grays) or 3.
        mode: Pillow's name of the mode ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", ...), and
            "RGB;16", "RGBA;16", "LA;16", "CMYK;16" for those of 16 bits, which Pillow does not have.
        has_alpha: whether there is an opacity plane.
        has_key: whether there is a key plane (black ink) beside the three colour planes.
        bits: bits per sample, 8 or 16; 32 for floating point.
        format: Pillow's name of the file's format, such as "PNG", or None for a picture that was in no file.
        icc_profile: the colour profile, as in the file.
        dpi: (horizontal, vertical) pixels per inch as in the file. It stays as it is when a picture is enlarged: the
            print grows, the printer's resolution does not.
        resolution: (horizontal, vertical) pixels per unit of length that a TIFF file does not name, as ImageJ writes
            scales of microscopes; an enlarged picture has more of them in the same length.
        exif: the EXIF block, starting at its TIFF header, with orientation 1 and without thumbnail.
        xmp: the XMP packet, with orientation 1.
        colour_chunks: what a PNG file says about its colours outside a profile: (name, content) of gAMA, cHRM, ...
        text_chunks: texts of a PNG file, as they stand in it: (name, content) of tEXt, zTXt and iTXt.
        comment: of a JPEG file.
        white: of floating-point samples, the value that is white.
        array: where the file is one of an array.
    """

    size: tuple[int, int]
    channels: int
    mode: str
    has_alpha: bool = False
    has_key: bool = False
    bits: int = 8
    format: str | None = None
    icc_profile: bytes | None = None
    dpi: tuple[float, float] | None = None
    resolution: tuple[float, float] | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    colour_chunks: tuple[tuple[bytes, bytes], ...] = ()
    text_chunks: tuple[tuple[bytes, bytes], ...] = ()
    comment: bytes | None = None
    white: float = 1.0
    array: ArrayNote | None = None

    @property
    def bands(self) -> int:
        """Planes of every kind together."""
        return self.channels + self.has_key + self.has_alpha

    @property
    def is_float(self) -> bool:
        """Whether samples are no integers, and have no limits."""
        return self.bits == 32

    @property
    def maximum(self) -> float:
        """The sample that is white: 255 or 65535, the largest, but for floating point."""
        return self.white if self.is_float else 2**self.bits - 1

    @property
    def step(self) -> float:
        """Between values of a sample, as a part of white."""
        return FLOAT_STEP if self.is_float else 1 / self.maximum

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of a sample."""
        return np.dtype({8: np.uint8, 16: np.uint16, 32: np.float32}[self.bits])


@dataclass(frozen=True)
class Planes:
    """A rectangle of a picture, or all of it.

    Attributes:
        colour: (C, h, w) float32 in [-1, 1], C = 1 or 3. For CMYK the light that cyan, magenta and yellow leave.
        alpha: (1, h, w) float32 opacity in [0, 1], or None.
        key: (1, h, w) float32 in [-1, 1], +1 where there is no black ink, or None.
    """

    colour: torch.Tensor
    alpha: torch.Tensor | None = None
    key: torch.Tensor | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(h, w) in pixels."""
        return (self.colour.shape[-2], self.colour.shape[-1])


def plain_info(size: tuple[int, int], channels: int, bits: int = 8, has_alpha: bool = False) -> PictureInfo:
    """The description of a gray (1 channel) or RGB (3) picture that comes from no file, of 8 or 16 bits.

    Raises:
        WavdiffError: other numbers of channels or bits.
    """
    if channels not in (1, 3) or bits not in (8, 16):
        raise WavdiffError(f"a picture has 1 or 3 channels of 8 or 16 bits, not {channels} of {bits}")
    name = ("L" if channels == 1 else "RGB") + ("A" if has_alpha else "")
    mode = name if bits == 8 else {"L": "I;16"}.get(name, f"{name};16")
    return PictureInfo(size=size, channels=channels, mode=mode, has_alpha=has_alpha, bits=bits)


def planes_from_bands(bands: np.ndarray, info: PictureInfo) -> Planes:
    """Samples (h, w, `info.bands`) of `info.dtype` as planes of size (h, w)."""
    values = torch.from_numpy(bands.astype(np.float32)).permute(2, 0, 1).contiguous()
    count = info.channels + info.has_key
    light = values[:count].mul_(2 / info.maximum).sub_(1)
    alpha = values[count:].div_(1 if info.is_float else info.maximum) if info.has_alpha else None
    return Planes(light[: info.channels], alpha, light[info.channels :] if info.has_key else None)


def bands_from_planes(planes: Planes, info: PictureInfo, name: str = "the picture") -> np.ndarray:
    """Planes of any size (h, w) as samples (h, w, `info.bands`) of `info.dtype`; integers are rounded and limited.

    Raises:
        WavdiffError: planes of wrong shapes, missing or too many, or values that are not finite.
    """
    height, width = planes.size
    parts = [
        ("colour", planes.colour, info.channels, True),
        ("key", planes.key, 1, info.has_key),
        ("alpha", planes.alpha, 1, info.has_alpha),
    ]
    bands = np.empty((height, width, info.bands), dtype=info.dtype)
    first = 0
    for label, plane, count, wanted in parts:
        if (plane is not None) != wanted:
            raise WavdiffError(f"{name}: {info.mode} {'needs' if wanted else 'has no'} {label} planes")
        if plane is None:
            continue
        if plane.shape != (count, height, width):
            raise WavdiffError(f"{name}: {label} must be {(count, height, width)}, not {tuple(plane.shape)}")
        values = plane.detach().to("cpu", torch.float32)
        if not bool(torch.isfinite(values).all()):
            raise WavdiffError(f"{name}: a picture must be finite everywhere, but its {label} holds NaN or infinity")
        opaque = 1 if info.is_float else info.maximum
        scaled = values * opaque if label == "alpha" else (values + 1) * (info.maximum / 2)
        if not info.is_float:
            scaled = scaled.round_().clamp_(0, info.maximum).to(torch.int32)
        bands[..., first : first + count] = scaled.permute(1, 2, 0).numpy()
        first += count
    return bands
