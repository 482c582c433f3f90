"""What every source of images offers."""

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np

Split = Literal["train", "heldout", "validation"]


class ImageSource(Protocol):
    """A sequence of 8-bit images, always in the same order.

    Attributes:
        name: the name to show in messages and model cards.
        credit: whom to thank for the images.
    """

    name: str
    credit: str

    def __len__(self) -> int:
        """Count the images."""
        ...

    def __getitem__(self, index: int) -> np.ndarray:
        """Give image ``index``: uint8, (H, W) for gray or (H, W, 3) for RGB."""
        ...

    def label(self, index: int) -> str:
        """Name image ``index`` for messages and logs."""
        ...


class ArraySource:
    """Images held in memory.

    Args:
        name: the name of the source.
        credit: whom to thank.
        images: uint8 arrays (H, W) or (H, W, 3), or one array with the images along its first axis.
        labels: one name per image, or None to count them.
    """

    def __init__(
        self, name: str, credit: str, images: Sequence[np.ndarray] | np.ndarray, labels: Sequence[str] | None = None
    ) -> None:
        self.name = name
        self.credit = credit
        self._images = images
        self._labels = labels

    def __len__(self) -> int:
        """Count the images."""
        return len(self._images)

    def __getitem__(self, index: int) -> np.ndarray:
        """Give image ``index``, uint8 (H, W) or (H, W, 3)."""
        image: np.ndarray = self._images[index]
        return image

    def label(self, index: int) -> str:
        """Name image ``index``."""
        return f"{self.name} {index}" if self._labels is None else self._labels[index]


def reduce_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Make an RGB image gray where gray is wanted: the mean of its channels, rounded.

    Args:
        image: uint8 (H, W) or (H, W, 3).
        channels: 1 for gray; with 3 the image is returned as it is.

    Returns:
        uint8 (H, W), or the image itself.
    """
    if channels == 1 and image.ndim == 3:
        mean: np.ndarray = (image.astype(np.uint16).sum(axis=2) + 1) // 3
        return mean.astype(np.uint8)
    return image
