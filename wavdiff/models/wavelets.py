"""The orthogonal wavelet pyramid that splits an image into one small low-pass image and details of every scale.

With `W` one orthonormal 2-D wavelet step, a level of the pyramid is range-preserving:

    x_{j+1} = LL(x_j) / 2,    d_{j+1} = (LH, HL, HH)(x_j) / 2,

so `x_{j+1}` has the range of an image (for Haar it is the mean over 2x2 blocks), white noise of standard deviation s on
`x_j` is white of standard deviation s / 2 on every coefficient of `(x_{j+1}, d_{j+1})`, and energy is kept up to the
factor: |x_j|^2 = 4 (|x_{j+1}|^2 + |d_{j+1}|^2).

The transform is periodic at the border, which keeps it orthogonal for every filter length. An image whose sides are
not multiples of 2^levels is padded by repeating its last row and column; `reconstruct` crops the padding away.

pytorch-wavelets does the filtering for any orthogonal PyWavelets filter. Haar, which the shipped cascades use, has a
direct path (sums and differences of four pixels), equal to the library's to rounding.

Sources: Mallat, "A Wavelet Tour of Signal Processing" (2008), section 7.7; Kadkhodaie et al. (ICLR 2023).
"""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from wavdiff.system.errors import WavdiffError

if TYPE_CHECKING:
    from pytorch_wavelets import DWTForward, DWTInverse


@dataclass(frozen=True)
class Pyramid:
    """A low-pass image and the details of every scale.

    Attributes:
        coarse: the low-pass image x_J, (B, C, h, w).
        details: `details[k]` are the details d_{k+1}, (B, 3C, h_k, w_k), which together with x_{k+1} give x_k:
            index 0 is the finest scale. Channels are band-major: all of LH, then HL, then HH.
        size: (height, width) of the image x_0 before padding.
    """

    coarse: Tensor
    details: tuple[Tensor, ...]
    size: tuple[int, int]

    @property
    def levels(self) -> int:
        """Number of wavelet levels J."""
        return len(self.details)


def padded_size(size: tuple[int, int], levels: int) -> tuple[int, int]:
    """The smallest multiples of 2^levels that hold `size` (height, width)."""
    step = 2**levels
    return (-(-size[0] // step) * step, -(-size[1] // step) * step)


def pad_to_multiple(image: Tensor, step: int) -> Tensor:
    """Repeat the last row and column of `image` (B, C, H, W) until both sides are multiples of `step`."""
    bottom, right = -image.shape[-2] % step, -image.shape[-1] % step
    return functional.pad(image, (0, right, 0, bottom), mode="replicate") if bottom or right else image


def check_wavelet(name: str) -> None:
    """Raise WavdiffError unless `name` is an orthogonal discrete wavelet of PyWavelets."""
    if name == "haar":  # the shipped cascades need no filter table
        return
    import pywt

    known = pywt.wavelist(kind="discrete")
    if name not in known or not pywt.Wavelet(name).orthogonal:
        raise WavdiffError(
            f"wavelet {name!r} is not an orthogonal wavelet of PyWavelets (haar, db2, db4, sym4, coif1 ...)"
        )


@functools.lru_cache(maxsize=32)
def _filters(name: str, dtype: torch.dtype, device: torch.device) -> tuple[DWTForward, DWTInverse]:
    # The library's modules are kept outside every nn.Module, so that their filters never enter a state_dict.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*pkg_resources.*")
        from pytorch_wavelets import DWTForward, DWTInverse
    # The first call may come from inside inference mode; gradients must still pass the cached filters later.
    with torch.inference_mode(False):
        return _make_filters(DWTForward, DWTInverse, name, dtype, device)


def _make_filters(
    forward_class: type[DWTForward],
    inverse_class: type[DWTInverse],
    name: str,
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[DWTForward, DWTInverse]:
    import pywt

    forward = forward_class(J=1, wave=name, mode="periodization").to(device=device, dtype=dtype)
    inverse = inverse_class(wave=name, mode="periodization").to(device=device, dtype=dtype)
    # The library rounds its taps to float32; float64 gets them in full.
    wave = pywt.Wavelet(name)
    taps = {
        "h0": (forward, wave.dec_lo[::-1]),
        "h1": (forward, wave.dec_hi[::-1]),
        "g0": (inverse, wave.rec_lo),
        "g1": (inverse, wave.rec_hi),
    }
    for prefix, (module, values) in taps.items():
        for side in ("col", "row"):
            buffer = module.get_buffer(f"{prefix}_{side}")
            buffer.copy_(torch.tensor(values, dtype=torch.float64).reshape(buffer.shape))
    return forward, inverse


def _repeat_to(image: Tensor, height: int, width: int) -> Tensor:
    """`image` repeated periodically to at least height x width.

    The library wraps a filter around the border once, which is too little where the image is smaller than the filter.
    The transform of a repeated image is the repeated transform, so cropping it gives the right coefficients.
    """
    rows, columns = -(-height // image.shape[-2]), -(-width // image.shape[-1])
    return image.repeat(1, 1, rows, columns) if rows > 1 or columns > 1 else image


def _haar_split(image: Tensor) -> tuple[Tensor, Tensor]:
    a, b = image[..., 0::2, 0::2], image[..., 0::2, 1::2]
    c, d = image[..., 1::2, 0::2], image[..., 1::2, 1::2]
    top, bottom, left, right = a + b, c + d, a - b, c - d
    if not torch.is_grad_enabled():  # the same numbers, with fewer passes over memory
        *lead, channels, height, width = top.shape
        details = top.new_empty(*lead, 3 * channels, height, width)
        for band, (one, other) in enumerate(((top, bottom), (left, right))):
            torch.sub(one, other, out=details[..., 2 * band * channels : (2 * band + 1) * channels, :, :])
        torch.add(left, right, out=details[..., channels : 2 * channels, :, :])
        return top.add_(bottom).mul_(0.25), details.mul_(0.25)
    coarse = (top + bottom) / 4
    return coarse, torch.cat([top - bottom, left + right, left - right], dim=-3) / 4


def _haar_join(coarse: Tensor, details: Tensor) -> Tensor:
    rows, columns, diagonal = details.chunk(3, dim=-3)
    top, bottom = coarse + rows, coarse - rows
    left, right = columns + diagonal, columns - diagonal
    if not torch.is_grad_enabled():  # as above
        image = coarse.new_empty(*coarse.shape[:-2], 2 * coarse.shape[-2], 2 * coarse.shape[-1])
        torch.add(top, left, out=image[..., 0::2, 0::2])
        torch.sub(top, left, out=image[..., 0::2, 1::2])
        torch.add(bottom, right, out=image[..., 1::2, 0::2])
        torch.sub(bottom, right, out=image[..., 1::2, 1::2])
        return image
    quads = torch.stack([top + left, top - left, bottom + right, bottom - right], dim=-3)
    *lead, _, height, width = quads.shape
    return functional.pixel_shuffle(quads.reshape(-1, 4, height, width), 2).reshape(*lead, 2 * height, 2 * width)


def split(image: Tensor, wavelet: str = "haar", *, library: bool = False) -> tuple[Tensor, Tensor]:
    """One range-preserving wavelet step.

    Args:
        image: x_j, (B, C, H, W) with even H and W, float32 or float64.
        wavelet: an orthogonal PyWavelets filter.
        library: send Haar through pytorch-wavelets as well (for tests).

    Returns:
        x_{j+1} (B, C, H/2, W/2) and d_{j+1} (B, 3C, H/2, W/2), band-major.

    Raises:
        WavdiffError: a side is odd.
    """
    height, width = image.shape[-2:]
    if height % 2 or width % 2:
        raise WavdiffError(f"a wavelet step needs even sides, got {height}x{width}")
    if wavelet == "haar" and not library:
        return _haar_split(image)
    forward, _ = _filters(wavelet, image.dtype, image.device)
    taps = forward.get_buffer("h0_col").numel()
    low, (bands,) = forward(_repeat_to(image, taps, taps))  # bands: (B, C, 3, >= H/2, >= W/2)
    details = bands.transpose(1, 2).flatten(1, 2)
    inside = (..., slice(height // 2), slice(width // 2))
    return low[inside] / 2, details[inside] / 2


def join(coarse: Tensor, details: Tensor, wavelet: str = "haar", *, library: bool = False) -> Tensor:
    """Inverse of `split`: x_j (B, C, 2h, 2w) from x_{j+1} (B, C, h, w) and d_{j+1} (B, 3C, h, w)."""
    if wavelet == "haar" and not library:
        return _haar_join(coarse, details)
    _, inverse = _filters(wavelet, coarse.dtype, coarse.device)
    height, width = 2 * coarse.shape[-2], 2 * coarse.shape[-1]
    half = inverse.get_buffer("g0_col").numel() // 2
    coarse, details = _repeat_to(coarse, half, half), _repeat_to(details, half, half)
    bands = details.unflatten(1, (3, coarse.shape[1])).transpose(1, 2)
    result: Tensor = inverse((2 * coarse, [2 * bands]))
    return result[..., :height, :width]


def decompose(image: Tensor, levels: int, wavelet: str = "haar", *, library: bool = False) -> Pyramid:
    """The pyramid of an image of any size.

    Args:
        image: (B, C, H, W), any H and W of at least 1.
        levels: number of wavelet levels J >= 0.
        wavelet: an orthogonal PyWavelets filter.

    Returns:
        Pyramid with a low-pass image of ceil(H / 2^J) x ceil(W / 2^J).
    """
    size = (image.shape[-2], image.shape[-1])
    coarse = pad_to_multiple(image, 2**levels)
    details = []
    for _ in range(levels):
        coarse, bands = split(coarse, wavelet, library=library)
        details.append(bands)
    return Pyramid(coarse, tuple(details), size)


def reconstruct(pyramid: Pyramid, wavelet: str = "haar", *, library: bool = False) -> Tensor:
    """The image (B, C, H, W) of a pyramid: exact inverse of `decompose`."""
    image = pyramid.coarse
    for bands in reversed(pyramid.details):
        image = join(image, bands, wavelet, library=library)
    height, width = pyramid.size
    return image[..., :height, :width]
