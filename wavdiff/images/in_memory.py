"""Pillow, NumPy and torch images to tensors, and back to the same kind.

The library computes on float32 batches (N, C, H, W) in [-1, 1] with C = 1 or 3.

    kind                            layout                                        a value v means
    Pillow image                    any mode with a picture in it                 what `wavdiff.images` says
    NumPy uint8, uint16             (H, W), (H, W, C), (N, H, W, C), C = 1 to 4   x = 2 v / 255 - 1, 2 v / 65535 - 1
    NumPy float16, 32, 64           the same                                      [0, 1]: x = 2 v - 1 (as scikit-image)
    torch float16, bf16, 32, 64     (C, H, W), (N, C, H, W), C = 1 or 3           [-1, 1]: x = v, the library's own
    torch uint8, uint16             the same, C = 1 to 4                          as NumPy's

Of C channels, 2 are gray and alpha, 4 are RGB and alpha. Alpha is no colour: it is a plane of its own, in [0, 1], which
the caller leaves as it is or enlarges together with the colour. CMYK pictures have a black plane (`key`) beside theirs.

On the way back integers are rounded and limited; floating-point values are not limited, so that nothing is lost which
the caller may want. In float32 the way there and back is the identity for integers and float16; float32 and float64
come back to 1e-7.

Floating-point pictures may leave their range, because noise does; but not by far (`LIMIT`): values of 0 to 255 where
[0, 1] is meant are the most frequent mistake, and no network would say anything about it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wavdiff.system.errors import WavdiffError

LIMIT = 16.0
"""The largest |x| that is believed to be a picture in [-1, 1]: 1 and 7.5 standard deviations of noise of sigma 1."""
_ALPHA_SLACK = 1e-3
# What 1 or white is in each dtype; None for tensors in the library's own units.
_NUMPY_MAXIMA = {"uint8": 255, "uint16": 65535, "float16": 1, "float32": 1, "float64": 1}
_TORCH_MAXIMA = {torch.uint8: 255, torch.uint16: 65535} | dict.fromkeys(
    (torch.float16, torch.bfloat16, torch.float32, torch.float64)
)
_ARRAY_SHAPES = "a NumPy picture is (H, W), (H, W, C) or (N, H, W, C) with C = 1, 2 (gray, alpha), 3 or 4 (RGB, alpha)"


@dataclass(frozen=True)
class Pictures:
    """A batch of pictures as the library computes on them, and the way back.

    Attributes:
        colour: (N, C, H, W) float32 in [-1, 1] (noise may leave it), C = 1 or 3; not to be changed in place.
        alpha: (N, 1, H, W) float32 opacity in [0, 1], or None.
        key: (N, 1, H, W) float32 in [-1, 1], the black plane of CMYK, or None.
        limited: whether the way back limits results to the range, as integers do.
        finish: makes what the caller gave of colour, alpha and key.
    """

    colour: Tensor
    alpha: Tensor | None
    key: Tensor | None
    finish: Callable[[Tensor, Tensor | None, Tensor | None], Any]
    limited: bool = True

    def back(self, colour: Tensor, alpha: Tensor | None = None, key: Tensor | None = None) -> Any:
        """Turn result planes into the kind, dtype, layout and device of the picture.

        Args:
            colour: (N, C, H', W') in [-1, 1], any size, any device, any floating-point dtype.
            alpha: (N, 1, H', W') in [0, 1]; None keeps the picture's own, which needs H' = H, W' = W.
            key: (N, 1, H', W') in [-1, 1]; None as for `alpha`.

        Returns:
            A result of the caller's kind. It may share memory with `colour`.

        Raises:
            ValueError: planes that do not belong to this picture (a mistake of the calling code).
        """
        count, channels = self.colour.shape[:2]
        if colour.ndim != 4 or colour.shape[:2] != (count, channels):
            raise ValueError(f"the result must be ({count}, {channels}, H, W), got {tuple(colour.shape)}")
        planes = []
        for name, own, given in (("alpha", self.alpha, alpha), ("key", self.key, key)):
            if own is None and given is not None:
                raise ValueError(f"{name}: the picture has none, so its result has none")
            plane = own if given is None else given
            if plane is not None and plane.shape != (count, 1, *colour.shape[-2:]):
                raise ValueError(f"{name} must be {(count, 1, *colour.shape[-2:])}, got {tuple(plane.shape)}")
            planes.append(plane)
        return self.finish(colour.detach(), *planes)


def as_planes(image: Any, name: str = "image") -> Pictures:
    """Take a picture, or a batch of them, in any supported kind (see the module's table).

    Args:
        image: a Pillow image, a NumPy array or a torch tensor.

    Returns:
        The planes, on the device of `image` where it is a tensor, else on the CPU. They may share memory with it.

    Raises:
        WavdiffError: another type, dtype or shape; NaN or infinity; values too far outside the range.
    """
    if isinstance(image, Tensor):
        return _from_tensor(image, name)
    if isinstance(image, np.ndarray):
        return _from_array(image, name)
    if is_pillow_image(image):
        return _from_pillow(image)
    kinds = "a Pillow image, a NumPy array or a torch tensor"
    hint = ""
    if isinstance(image, str) or hasattr(image, "__fspath__"):
        hint = "; open a file with PIL.Image.open"
    elif hasattr(image, "__array__"):
        hint = "; numpy.asarray makes an array of it"
    raise WavdiffError(f"{name} must be {kinds}, got {type(image).__name__}{hint}")


def is_pillow_image(image: object) -> bool:
    """Whether `image` is a `PIL.Image.Image`, told without importing Pillow."""
    return any(kind.__module__ == "PIL.Image" and kind.__name__ == "Image" for kind in type(image).__mro__)


def _from_pillow(image: Any) -> Pictures:
    from wavdiff.images import Planes, from_pil, to_pil_like

    planes, info = from_pil(image)

    def finish(*batches: Tensor | None) -> Any:
        colour, alpha, key = (None if batch is None else batch[0].float().cpu() for batch in batches)
        assert colour is not None
        return to_pil_like(Planes(colour, alpha, key), info)

    alpha, key = (None if plane is None else plane[None] for plane in (planes.alpha, planes.key))
    return Pictures(planes.colour[None], alpha, key, finish)


def _from_array(image: np.ndarray, name: str) -> Pictures:
    dtype, ndim = image.dtype, image.ndim
    if dtype.name not in _NUMPY_MAXIMA:
        raise WavdiffError(
            f"{name}: a NumPy picture is uint8 (0 to 255), uint16 (0 to 65535) or floating-point (0 to 1), got {dtype}"
        )
    if isinstance(image, np.ma.MaskedArray):
        raise WavdiffError(f"{name}: a masked array has pixels without a value; fill them first (numpy.ma.filled)")
    stack = {2: image[None, ..., None], 3: image[None], 4: image}.get(ndim)
    if stack is None or stack.shape[-1] not in (1, 2, 3, 4):
        is_first = stack is not None and image.shape[-3] in (1, 3, 4)
        hint = "; channels come last, as in picture.transpose(1, 2, 0)" if is_first else ""
        raise WavdiffError(f"{name}: {_ARRAY_SHAPES}, got shape {image.shape}{hint}")
    _check_pixels(image.shape, name)
    if ndim == 4 and image.shape[1] <= 4:
        raise WavdiffError(f"{name}: is it (N, H, W, C) or (N, C, H, W)? got shape {image.shape}; channels come last")

    def finish(values: Tensor) -> np.ndarray:
        result = np.ascontiguousarray(values.cpu().numpy().transpose(0, 2, 3, 1).astype(dtype))
        return {2: result[0, ..., 0], 3: result[0], 4: result}[ndim]

    # One copy, native byte order, then contiguous planes: negative strides and read-only arrays end here.
    values = torch.from_numpy(np.ascontiguousarray(stack.transpose(0, 3, 1, 2), dtype=np.float32))
    return _pictures(values, _NUMPY_MAXIMA[dtype.name], dtype.kind == "f", name, finish)


def _from_tensor(image: Tensor, name: str) -> Pictures:
    dtype, device, shape = image.dtype, image.device, tuple(image.shape)
    if dtype not in _TORCH_MAXIMA:
        raise WavdiffError(
            f"{name}: a tensor is floating-point (-1 to 1), uint8 (0 to 255) or uint16 (0 to 65535), got {dtype}"
        )
    if image.ndim not in (3, 4):
        raise WavdiffError(f"{name}: a tensor is (C, H, W) or (N, C, H, W), got shape {shape}")
    maximum, channels = _TORCH_MAXIMA[dtype], shape[-3]
    if channels not in ((1, 3) if maximum is None else (1, 2, 3, 4)):
        last = "; channels come first" if shape[-1] in (1, 3, 4) else ""
        most = "1 (gray) or 3 (RGB) channels" if maximum is None else "1 to 4 channels"
        raise WavdiffError(f"{name}: a tensor of {dtype} has {most}, got {channels} (shape {shape}){last}")
    _check_pixels(shape, name)
    single = image.ndim == 3

    def finish(values: Tensor) -> Tensor:
        result = values.to(device=device, dtype=dtype)
        return result[0] if single else result

    batch = image.detach()[None] if single else image.detach()
    return _pictures(batch.to(torch.float32), maximum, maximum is None, name, finish)


def _check_pixels(shape: tuple[int, ...], name: str) -> None:
    if 0 in shape:
        raise WavdiffError(f"{name}: a picture has at least one pixel, got shape {shape}")


def _pictures(
    values: Tensor, maximum: int | None, is_float: bool, name: str, finish: Callable[[Tensor], Any]
) -> Pictures:
    """Channels (N, C, H, W) float32 of 0..maximum, or of [-1, 1] for None, and what makes such channels a result."""
    if maximum is None:
        _check_values(values, name, "floating-point tensors are in [-1, 1]")
        return Pictures(values, None, None, lambda colour, alpha, key: finish(colour), limited=False)
    count = 1 if values.shape[1] < 3 else 3
    alpha = values[:, count:].div(maximum) if count < values.shape[1] else None
    colour = values[:, :count].mul(2 / maximum).sub_(1)
    if is_float:
        _check_values(colour, name, "floating-point NumPy pictures are in [0, 1]", lambda x: (x + 1) / 2)
        if alpha is not None:
            low, high = float(alpha.min()), float(alpha.max())
            if not (low >= -_ALPHA_SLACK and high <= 1 + _ALPHA_SLACK):
                raise WavdiffError(f"{name}: alpha must be in [0, 1], got {low:g} to {high:g}")
            alpha = alpha.clamp(0, 1)

    def joined(colour: Tensor, alpha: Tensor | None, key: Tensor | None) -> Any:
        channels = colour.to(torch.float32).add(1).mul_(maximum / 2)
        if alpha is not None:
            channels = torch.cat([channels, alpha.to(channels).mul(maximum)], dim=1)
        return finish(channels if is_float else channels.round_().clamp_(0, maximum).to(torch.int32))

    return Pictures(colour, alpha, None, joined, limited=not is_float)


def _check_values(x: Tensor, name: str, unit: str, shown: Callable[[float], float] = float) -> None:
    """Check pictures in library units; `shown` turns a value into the caller's units."""
    low, high = float(x.min()), float(x.max())  # NaN wins both
    if not (math.isfinite(low) and math.isfinite(high)):
        bad = int((~torch.isfinite(x)).sum())
        raise WavdiffError(f"{name}: a picture must be finite everywhere, but {bad} values are NaN or infinite")
    if max(-low, high) <= LIMIT:
        return
    first, last = shown(low), shown(high)
    hint = ""
    if first >= -0.5 * last:
        hint = "; divide by 255 or give uint8" if last <= 512 else "; divide by 65535 or give uint16"
    raise WavdiffError(f"{name}: {unit}, got values from {first:g} to {last:g}{hint}")
