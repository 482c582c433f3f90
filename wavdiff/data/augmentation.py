"""Random changes of a training image, and the one box that cuts, zooms and shifts it."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from wavdiff.data.config import AugmentationConfig
from wavdiff.images import resize_crop
from wavdiff.system.errors import WavdiffError


@dataclass(frozen=True)
class Augmentation:
    """Random changes of an image that leave it an image of the same kind.

    Attributes:
        flip: mirror left and right, with probability 1/2.
        shift: move the crop by up to this fraction of its side, each way, within the image.
        zoom: scale the crop's side by a factor uniform in [1 - zoom, 1 + zoom], within the image.
        contrast: scale the deviations from the mean by a factor uniform in [1 - contrast, 1 + contrast].
        brightness: add a number uniform in [-brightness, brightness]; images have the range [-1, 1].
        rotate90: turn by a random multiple of 90 degrees (180 where the example is not square).
        window: cut the box anywhere in the image; its sides are those of the example times a factor, one in four times
            1 (the pixels as they are), else log-uniform in [1, window]: photographs from soft to sharp. It replaces
            crop, shift and zoom; 0: off.

    Raises:
        WavdiffError: a negative or infinite amount, or zoom or contrast of 1 and more.
    """

    flip: bool = False
    shift: float = 0.0
    zoom: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0
    rotate90: bool = False
    window: float = 0.0

    def __post_init__(self) -> None:
        try:  # the ranges are those of the settings, written there
            AugmentationConfig(**vars(self))
        except WavdiffError as error:
            raise WavdiffError(str(error).replace("configuration: data.augmentation.", "augmentation: ")) from error

    def scaled(self, factor: float) -> "Augmentation":
        """The same with the amounts times a factor: 0 for none, 1 for all; flip, rotate90 and window stay."""
        return replace(
            self, **{name: getattr(self, name) * factor for name in ("shift", "zoom", "contrast", "brightness")}
        )


@dataclass(frozen=True)
class _Chance:
    """All random numbers of one example, drawn in one fixed order whatever is switched on."""

    zoom: float = 0.0  # this and the next four: uniform in [-1, 1]
    shift_down: float = 0.0
    shift_right: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0
    mirrored: bool = False
    quarter_turns: int = 0
    window: tuple[float, float, float, float] = (0.0, 0.5, 0.5, 0.5)  # same size?, factor, down, right in [0, 1)

    @staticmethod
    def draw(generator: np.random.Generator) -> "_Chance":
        zoom, down, right, contrast, brightness = generator.uniform(-1, 1, size=5)
        mirrored, turns = bool(generator.integers(2)), int(generator.integers(4))
        same, factor, top, left = generator.uniform(size=4)
        return _Chance(zoom, down, right, contrast, brightness, mirrored, turns, (same, factor, top, left))


def crop_example(
    image: np.ndarray,
    size: tuple[int, int],
    channels: int,
    crop: int | None,
    pad: bool,
    augmentation: Augmentation,
    generator: np.random.Generator | None,
) -> torch.Tensor:
    """Make one example of an image.

    Args:
        image: uint8 (H, W) or (H, W, 3).
        size: (height, width) of the example, in pixels.
        channels: 1 for gray (the mean of RGB) or 3 (gray is repeated).
        crop: the shorter side, in pixels of the image, of the box cut out of its centre, which has the aspect ratio
            of `size`; None for the largest such box. The box is resized with Lanczos; one that has exactly the size
            of the example is copied, and moved by whole pixels only.
        pad: do not resize; put the whole image in the middle of a black (-1) canvas of `size`, or, shifted,
            elsewhere within it.
        augmentation: the random changes.
        generator: their chance; None for the plain centre crop.

    Returns:
        float32 (channels, height, width) in [-1, 1].

    Raises:
        WavdiffError: the crop does not fit into the image, or the image not onto the canvas; crop or zoom together
            with pad.
    """
    if generator is None:
        augmentation, chance = Augmentation(), _Chance()
    else:
        chance = _Chance.draw(generator)
    if augmentation.window:
        cut = _window(image, size, augmentation.window, chance)
    elif pad:
        cut = _pad(image, size, crop, augmentation, chance)
    else:
        cut = _cut(image, size, crop, augmentation, chance)
    if augmentation.rotate90:
        step = 1 if size[0] == size[1] else 2
        cut = np.rot90(cut, k=chance.quarter_turns * step)
    if augmentation.flip and chance.mirrored:
        cut = cut[:, ::-1]
    planes = torch.from_numpy(np.ascontiguousarray(np.atleast_3d(cut).transpose(2, 0, 1), dtype=np.float32))
    if channels == 1:
        planes = planes.mean(dim=0, keepdim=True)
    elif planes.shape[0] == 1:
        planes = planes.repeat(channels, 1, 1)
    example = planes * (2 / 255) - 1
    if augmentation.contrast > 0:
        mean = example.mean()
        example = mean + (example - mean) * (1 + augmentation.contrast * chance.contrast)
    if augmentation.brightness > 0:
        example = example + augmentation.brightness * chance.brightness
    return example.clamp(-1, 1)


def _window(image: np.ndarray, size: tuple[int, int], most: float, chance: _Chance) -> np.ndarray:
    """Cut a box of random place and size, at least as large as the example if the image is, and bring it to size."""
    same, factor, down, right = chance.window
    largest = min(image.shape[0] / size[0], image.shape[1] / size[1])
    scale = min(1.0 if same < 0.25 else most**factor, largest)
    if scale <= 1 <= largest:
        top = int(down * (image.shape[0] - size[0] + 1))
        left = int(right * (image.shape[1] - size[1] + 1))
        return image[top : top + size[0], left : left + size[1]]
    height, width = size[0] * scale, size[1] * scale
    return _resized(image, down * (image.shape[0] - height), right * (image.shape[1] - width), height, width, size)


def _cut(
    image: np.ndarray, size: tuple[int, int], crop: int | None, augmentation: Augmentation, chance: _Chance
) -> np.ndarray:
    """Cut the box of the example out of the image and bring it to size."""
    full_height, full_width = image.shape[:2]
    unit = min(size)
    largest = min(full_height * unit / size[0], full_width * unit / size[1])
    side = float(largest if crop is None else crop)
    if side > largest + 1e-9:
        raise WavdiffError(
            f"crop: a box of shorter side {crop} for examples of {size[0]} x {size[1]} must fit into the image, "
            f"which has {full_height} x {full_width} (height x width)"
        )
    side = min(side * (1 + augmentation.zoom * chance.zoom), largest)
    height, width = side * size[0] / unit, side * size[1] / unit
    same_size = height == size[0] and width == size[1]
    whole = height.is_integer() and width.is_integer()
    top = _placed(full_height, height, augmentation.shift * side * chance.shift_down, whole, same_size)
    left = _placed(full_width, width, augmentation.shift * side * chance.shift_right, whole, same_size)
    if same_size:
        return image[int(top) : int(top) + size[0], int(left) : int(left) + size[1]]
    return _resized(image, top, left, height, width, size)


def _resized(
    image: np.ndarray, top: float, left: float, height: float, width: float, size: tuple[int, int]
) -> np.ndarray:
    """A box of the image, brought to size."""
    # Rounding may put a border beyond the image by the last bit, which Pillow refuses.
    box = (left, top, min(left + width, float(image.shape[1])), min(top + height, float(image.shape[0])))
    return resize_crop(image, box, size)


def _placed(full: int, side: float, shift: float, whole: bool, rounded: bool) -> float:
    """The start of an interval `side` within `full`: centred, then shifted as far as there is room.

    A centred box of whole pixels starts at a whole pixel; a box that is not resized also moves by whole pixels.
    """
    room = full - side
    start = float(room // 2) if whole else room / 2
    return min(max(start + (round(shift) if rounded else shift), 0.0), max(room, 0.0))


def _pad(
    image: np.ndarray, size: tuple[int, int], crop: int | None, augmentation: Augmentation, chance: _Chance
) -> np.ndarray:
    """Put the whole image onto a black canvas."""
    if crop is not None or augmentation.zoom > 0:
        raise WavdiffError(
            f"pad: images that are padded are neither cropped nor zoomed, but crop is {crop} and zoom "
            f"{augmentation.zoom:g}"
        )
    height, width = image.shape[:2]
    if height > size[0] or width > size[1]:
        raise WavdiffError(f"pad: an image of {height} x {width} does not fit onto {size[0]} x {size[1]}")
    top = int(_placed(size[0], height, augmentation.shift * min(size) * chance.shift_down, True, True))
    left = int(_placed(size[1], width, augmentation.shift * min(size) * chance.shift_right, True, True))
    canvas = np.zeros((*size, *image.shape[2:]), dtype=np.uint8)
    canvas[top : top + height, left : left + width] = image
    return canvas
