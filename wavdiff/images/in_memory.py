"""What callers hold pictures in (Pillow images, NumPy arrays, torch tensors), and the way back to the same kind.

The library computes on float32 batches (N, C, H, W) in [-1, 1] with C = 1 or 3. Callers hold something else, and want
the result as they gave the picture:

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
_INTEGER_MAXIMA = {"uint8": 255, "uint16": 65535}
_NUMPY_FLOATS = ("float16", "float32", "float64")
_TORCH_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_TORCH_INTEGERS = {torch.uint8: 255, torch.uint16: 65535}
_ALPHA_SLACK = 1e-3
Finish = Callable[[Tensor, Tensor | None, Tensor | None], Any]


@dataclass(frozen=True)
class Back:
    """The way back: `back(colour, alpha, key)` gives a result in the kind, dtype, layout and device of the picture.

    Attributes:
        count: N, pictures of the batch.
        channels: C, colour channels.
        alpha: (N, 1, H, W), the picture's own alpha, or None.
        key: (N, 1, H, W), the picture's own black plane, or None.
        finish: makes the result of checked planes.
    """

    count: int
    channels: int
    alpha: Tensor | None
    key: Tensor | None
    finish: Finish

    def __call__(self, colour: Tensor, alpha: Tensor | None = None, key: Tensor | None = None) -> Any:
        """Turn result planes into what the caller gave.

        Args:
            colour: (N, C, H', W') in [-1, 1], any size, any device, any floating-point dtype.
            alpha: (N, 1, H', W') in [0, 1]; None keeps the picture's own, which needs H' = H, W' = W.
            key: (N, 1, H', W') in [-1, 1]; None as for `alpha`.

        Returns:
            A result of the caller's kind. It may share memory with `colour`.

        Raises:
            ValueError: planes that do not belong to this picture (a mistake of the calling code).
        """
        if colour.ndim != 4 or colour.shape[:2] != (self.count, self.channels):
            raise ValueError(f"the result must be ({self.count}, {self.channels}, H, W), got {tuple(colour.shape)}")
        planes = {}
        for name, own, given in (("alpha", self.alpha, alpha), ("key", self.key, key)):
            if own is None and given is not None:
                raise ValueError(f"{name}: the picture has none, so its result has none")
            plane = own if given is None else given
            if plane is not None and plane.shape != (self.count, 1, *colour.shape[-2:]):
                raise ValueError(f"{name} must be {(self.count, 1, *colour.shape[-2:])}, got {tuple(plane.shape)}")
            planes[name] = plane
        return self.finish(colour.detach(), planes["alpha"], planes["key"])


@dataclass(frozen=True)
class Pictures:
    """A batch of pictures as the library computes on them, and the way back.

    Attributes:
        colour: (N, C, H, W) float32 in [-1, 1] (noise may leave it), C = 1 or 3; not to be changed in place.
        alpha: (N, 1, H, W) float32 opacity in [0, 1], or None.
        key: (N, 1, H, W) float32 in [-1, 1], the black plane of CMYK, or None.
        back: turns results into the caller's kind: `back(colour, alpha, key)`.
    """

    colour: Tensor
    alpha: Tensor | None
    key: Tensor | None
    back: Back


def as_planes(image: Any, name: str = "image") -> Pictures:
    """Take a picture, or a batch of them, in any supported kind (see the module's table).

    Args:
        image: a Pillow image, a NumPy array or a torch tensor.
        name: what messages call it.

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
    hint = "; open a file with PIL.Image.open" if isinstance(image, str) or hasattr(image, "__fspath__") else ""
    if not hint and hasattr(image, "__array__"):
        hint = "; numpy.asarray makes an array of it"
    raise WavdiffError(f"{name} must be {kinds}, got {type(image).__name__}{hint}")


def is_pillow_image(image: object) -> bool:
    """Whether `image` is a `PIL.Image.Image`, told without importing Pillow."""
    return any(kind.__module__ == "PIL.Image" and kind.__name__ == "Image" for kind in type(image).__mro__)


def _from_pillow(image: Any) -> Pictures:
    from wavdiff.images import Planes, from_pil, to_pil_like

    planes, info = from_pil(image)

    def finish(colour: Tensor, alpha: Tensor | None, key: Tensor | None) -> Any:
        first = [None if plane is None else plane[0].float().cpu() for plane in (alpha, key)]
        return to_pil_like(Planes(colour[0].float().cpu(), *first), info)

    alpha, key = (None if plane is None else plane[None] for plane in (planes.alpha, planes.key))
    return Pictures(planes.colour[None], alpha, key, Back(1, planes.colour.shape[0], alpha, key, finish))


def _from_array(image: np.ndarray, name: str) -> Pictures:
    dtype = image.dtype
    maximum = _INTEGER_MAXIMA.get(dtype.name)
    if maximum is None and dtype.name not in _NUMPY_FLOATS:
        raise WavdiffError(
            f"{name}: a NumPy picture is uint8 (0 to 255), uint16 (0 to 65535) or floating-point (0 to 1), got {dtype}"
        )
    if isinstance(image, np.ma.MaskedArray):
        raise WavdiffError(f"{name}: a masked array has pixels without a value; fill them first (numpy.ma.filled)")
    if image.ndim == 2:
        stack = image[None, :, :, None]
    elif image.ndim == 3:
        stack = image[None]
    elif image.ndim == 4:
        stack = image
    else:
        raise WavdiffError(f"{name}: {_ARRAY_SHAPES}, got shape {image.shape}")
    _check_axes(stack.shape[-1], image.shape, name)
    if image.ndim == 4 and image.shape[1] <= 4:
        raise WavdiffError(f"{name}: is it (N, H, W, C) or (N, C, H, W)? got shape {image.shape}; channels come last")
    # One copy, native byte order, then contiguous planes: negative strides and read-only arrays end here.
    values = torch.from_numpy(np.ascontiguousarray(stack.transpose(0, 3, 1, 2), dtype=np.float32))
    colour, alpha = _split(values, maximum or 1, name, unit="floating-point NumPy pictures are in [0, 1]")

    def finish(colour: Tensor, alpha: Tensor | None, _: Tensor | None) -> np.ndarray:
        joined = _join(colour, alpha, maximum or 1, rounded=maximum is not None)
        result = np.ascontiguousarray(joined.cpu().numpy().transpose(0, 2, 3, 1).astype(dtype))
        if image_ndim == 2:
            return result[0, :, :, 0]
        return result[0] if image_ndim == 3 else result

    image_ndim = image.ndim  # the closure keeps no picture alive
    return Pictures(colour, alpha, None, Back(colour.shape[0], colour.shape[1], alpha, None, finish))


def _from_tensor(image: Tensor, name: str) -> Pictures:
    dtype, device = image.dtype, image.device
    maximum = _TORCH_INTEGERS.get(dtype)
    if maximum is None and dtype not in _TORCH_FLOATS:
        raise WavdiffError(
            f"{name}: a tensor is floating-point (-1 to 1), uint8 (0 to 255) or uint16 (0 to 65535), got {dtype}"
        )
    if image.ndim not in (3, 4):
        raise WavdiffError(f"{name}: a tensor is (C, H, W) or (N, C, H, W), got shape {tuple(image.shape)}")
    single = image.ndim == 3
    batch = image.detach()[None] if single else image.detach()
    channels = batch.shape[1]
    if channels not in ((1, 3) if maximum is None else (1, 2, 3, 4)):
        last = "; channels come first" if image.shape[-1] in (1, 3, 4) else ""
        most = "1 (gray) or 3 (RGB) channels" if maximum is None else "1 to 4 channels"
        raise WavdiffError(f"{name}: a tensor of {dtype} has {most}, got {channels} (shape {tuple(image.shape)}){last}")
    _check_axes(channels, tuple(image.shape), name)
    values = batch.to(torch.float32)
    if maximum is None:
        _check_values(values, name, "floating-point tensors are in [-1, 1]")
        colour, alpha = values, None
    else:
        colour, alpha = _split(values, maximum, name, unit="")

    def finish(colour: Tensor, alpha: Tensor | None, _: Tensor | None) -> Tensor:
        result = colour if maximum is None else _join(colour, alpha, maximum, rounded=True)
        result = result.to(device=device, dtype=dtype)
        return result[0] if single else result

    return Pictures(colour, alpha, None, Back(colour.shape[0], colour.shape[1], alpha, None, finish))


_ARRAY_SHAPES = "a NumPy picture is (H, W), (H, W, C) or (N, H, W, C) with C = 1, 2 (gray, alpha), 3 or 4 (RGB, alpha)"


def _check_axes(channels: int, shape: tuple[int, ...], name: str) -> None:
    if channels not in (1, 2, 3, 4):
        hint = "; channels come last, as in picture.transpose(1, 2, 0)" if shape[-3] in (1, 3, 4) else ""
        raise WavdiffError(f"{name}: {_ARRAY_SHAPES}, got shape {shape}{hint}")
    if 0 in shape:
        raise WavdiffError(f"{name}: a picture has at least one pixel, got shape {shape}")


def _split(values: Tensor, maximum: int, name: str, unit: str) -> tuple[Tensor, Tensor | None]:
    """Channels 0..maximum, (N, C, H, W) float32, as colour in [-1, 1] and alpha in [0, 1]; changes `values`."""
    count = values.shape[1] - (values.shape[1] + 1) % 2
    alpha = values[:, count:].div(maximum) if count < values.shape[1] else None
    colour = values[:, :count].mul(2 / maximum).sub_(1)
    if unit:
        _check_values(colour, name, unit, lambda x: (x + 1) / 2)
        if alpha is not None:
            low, high = float(alpha.min()), float(alpha.max())
            if not (low >= -_ALPHA_SLACK and high <= 1 + _ALPHA_SLACK):
                raise WavdiffError(f"{name}: alpha must be in [0, 1], got {low:g} to {high:g}")
            alpha = alpha.clamp(0, 1)
    return colour, alpha


def _join(colour: Tensor, alpha: Tensor | None, maximum: int, *, rounded: bool) -> Tensor:
    """The inverse of `_split`: channels 0..maximum, rounded and limited if they are to become integers."""
    values = colour.to(torch.float32).add(1).mul_(maximum / 2)
    if alpha is not None:
        values = torch.cat([values, alpha.to(values).mul(maximum)], dim=1)
    return values.round_().clamp_(0, maximum).to(torch.int32) if rounded else values


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
