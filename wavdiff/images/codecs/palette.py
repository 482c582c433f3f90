"""Choosing at most 256 colours for a picture that had a palette and has been restored.

If the picture has no more colours than that, they are taken as they are. Else median cut (Heckbert 1982) divides them:
the box with the largest squared error is split at its mean along its longest axis, until there are enough boxes; then a
few rounds of Lloyd's algorithm (1982) move every colour into the middle of the pixels that it stands for. Every pixel
gets the nearest colour; there is no dithering, which would be new noise.

With opacity the distance is that of the picture seen on a black and on a white ground: colours are multiplied by their
opacity, so that what nobody sees costs no entry.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from wavdiff.images.picture import PictureInfo

_SAMPLE_PIXELS = 2**18
_LLOYD_ROUNDS = 4


@dataclass(frozen=True)
class Palette:
    """At most 256 colours.

    Attributes:
        colours: uint8 (n, 3) RGB or (n, 4) RGBA.
        has_alpha: whether pixels are compared with their opacity.
    """

    colours: np.ndarray
    has_alpha: bool

    def image(self, bands: np.ndarray) -> Image.Image:
        """Give every pixel the nearest colour.

        Args:
            bands: uint8 (h, w, 1 to 4): gray or RGB, perhaps with opacity.

        Returns:
            A Pillow image of mode "P".
        """
        packed, inverse = np.unique(_packed(bands, self.has_alpha), return_inverse=True)
        indices = _nearest(_seen(_unpacked(packed, self.has_alpha)), _seen(self.colours)).astype(np.uint8)
        image = Image.fromarray(indices[inverse].reshape(bands.shape[:2])).convert("P")
        image.putpalette(self.colours[:, :3].tobytes(), "RGB")
        if self.has_alpha:
            opacity = self.colours[:, 3]
            hidden = np.flatnonzero(opacity == 0)
            # GIF needs the number of the one hidden colour; PNG takes that or the opacity of all.
            is_binary = len(hidden) == 1 and (np.delete(opacity, hidden) == 255).all()
            if opacity.min() < 255:
                image.info["transparency"] = int(hidden[0]) if is_binary else opacity.tobytes()
        return image


def choose_palette(strips: Iterable[np.ndarray], info: PictureInfo) -> Palette:
    """Choose the colours of a picture.

    Args:
        strips: its bands, uint8 (h, w, ``info.bands``), in parts.
        info: what the bands mean. In mode "PA" opacity has its own plane and takes no part.

    Returns:
        The colours; exactly those of the picture where there are at most 256.
    """
    has_alpha = info.has_alpha and info.mode != "PA"
    stride = max(1, int(np.ceil(np.sqrt(info.size[0] * info.size[1] / _SAMPLE_PIXELS))))
    exact: np.ndarray | None = np.empty(0, dtype=np.uint32)
    samples = []
    for strip in strips:
        packed = _packed(strip, has_alpha)
        if exact is not None:
            exact = np.union1d(exact, packed)
            exact = exact if len(exact) <= 256 else None
        samples.append(packed[::stride, ::stride].ravel())
    if exact is not None:
        return Palette(_unpacked(exact, has_alpha), has_alpha)
    values, counts = np.unique(np.concatenate(samples), return_counts=True)
    return Palette(_divide(_unpacked(values, has_alpha), counts.astype(np.float64)), has_alpha)


def _packed(bands: np.ndarray, has_alpha: bool) -> np.ndarray:
    """Pack pixels (h, w, 1 to 4) into uint32 (h, w); what is wholly transparent becomes 0."""
    alpha = bands[..., -1].astype(np.uint32) if has_alpha else np.uint32(255)
    colour = bands[..., : 3 if bands.shape[-1] >= 3 else 1].astype(np.uint32)
    packed = colour[..., 0] << 24 | colour[..., colour.shape[-1] // 2] << 16 | colour[..., -1] << 8 | alpha
    return np.where(alpha == 0, np.uint32(0), packed) if has_alpha else packed


def _unpacked(packed: np.ndarray, has_alpha: bool) -> np.ndarray:
    """Undo :func:`_packed`: uint8 (n, 3) or (n, 4)."""
    channels = np.stack([packed >> shift for shift in (24, 16, 8, 0)], axis=-1).astype(np.uint8)
    return channels if has_alpha else channels[:, :3]


def _seen(colours: np.ndarray) -> np.ndarray:
    """Map colours to points whose distance is what is seen: float32 (n, 3), or (n, 4) with opacity."""
    values = colours.astype(np.float32)
    if colours.shape[1] == 4:
        values[:, :3] *= values[:, 3:] / 255
    return values


def _nearest(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Give for each of the points (n, d) the index of the nearest of the centres (k, d)."""
    offsets = (centres * centres).sum(1) / 2
    nearest = np.empty(len(points), dtype=np.int64)
    for start in range(0, len(points), 2**14):
        part = points[start : start + 2**14]
        nearest[start : start + 2**14] = (offsets - part @ centres.T).argmin(1)
    return nearest


def _divide(colours: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Reduce uint8 colours (n, 3 or 4), of which pixels have weights (n,), to 256."""
    points = _seen(colours).astype(np.float64)
    boxes = [(_spread(points, weights), np.arange(len(points)))]
    while len(boxes) < 256:
        largest = max(range(len(boxes)), key=lambda index: boxes[index][0][0])
        (error, axis, middle), members = boxes[largest]
        if error <= 0:
            break
        is_above = points[members, axis] > middle
        halves = (members[is_above], members[~is_above])
        boxes[largest : largest + 1] = [(_spread(points[half], weights[half]), half) for half in halves]
    centres = np.stack([np.average(points[box], axis=0, weights=weights[box]) for _, box in boxes])
    for _ in range(_LLOYD_ROUNDS):
        nearest = _nearest(points.astype(np.float32), centres.astype(np.float32))
        total = np.bincount(nearest, weights, len(centres))
        for axis in range(points.shape[1]):
            sums = np.bincount(nearest, weights * points[:, axis], len(centres))
            centres[:, axis] = np.where(total > 0, sums / np.maximum(total, 1e-9), centres[:, axis])
    if centres.shape[1] == 4:
        centres[:, :3] *= 255 / np.maximum(centres[:, 3:], 1e-9)
    return centres.round().clip(0, 255).astype(np.uint8)


def _spread(points: np.ndarray, weights: np.ndarray) -> tuple[float, int, float]:
    """Give a box's squared error along its longest axis, that axis, and the mean along it."""
    mean = np.average(points, axis=0, weights=weights)
    errors = (weights[:, None] * (points - mean) ** 2).sum(0)
    axis = int(errors.argmax())
    if np.ptp(points[:, axis]) == 0:
        return 0.0, axis, 0.0
    return float(errors[axis]), axis, float(mean[axis])
