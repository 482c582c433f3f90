"""From an image of any size to one training example.

All changes that augmentation makes act on the image, before any wavelet transform: a mirrored image then has detail
bands that are mirrored and of the right sign by themselves. Crop, zoom and shift are one box with real-valued borders,
resampled once.
"""

import itertools
from collections.abc import Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from wavdiff.data.augmentation import Augmentation, crop_example
from wavdiff.data.protocols import EncodedImage, Images, ImageSource, count_images
from wavdiff.data.stream import decoded
from wavdiff.system.errors import WavdiffError

ExampleKey = tuple[int | EncodedImage, int, float]


@dataclass(eq=False)
class ExampleDataset(torch.utils.data.Dataset[torch.Tensor]):
    """Examples by key: which image, which chance, how much augmentation.

    Attributes:
        source: the images; those of a stream come with the keys.
        size: (height, width) of an example, in pixels.
        channels, crop, pad: as for `crop_example`.
        augmentation: the random changes at strength 1.
    """

    source: Images
    size: tuple[int, int]
    channels: int = 1
    crop: int | None = None
    pad: bool = False
    augmentation: Augmentation = Augmentation()

    def __len__(self) -> int:
        """How many images there are; 0 for a stream whose length is not known."""
        return count_images(self.source) or 0

    def __getitem__(self, key: ExampleKey) -> torch.Tensor:
        """The example of a key, always the same.

        Args:
            key: (the image's index, or the encoded image; seed of the chance; strength): the amounts of augmentation
                are multiplied by the strength; flips stay on at strength 0.

        Returns:
            float32 (C, h, w) in [-1, 1].

        Raises:
            WavdiffError: as for `crop_example`, naming the image.
        """
        which, seed, strength = key
        augmentation = self.augmentation.scaled(strength)
        image, label = self._image(which, seed)
        generator = np.random.default_rng(seed)
        with _naming(label):
            return crop_example(image, self.size, self.channels, self.crop, self.pad, augmentation, generator)

    def _image(self, which: int | EncodedImage, seed: int) -> tuple[np.ndarray, str]:
        if isinstance(which, EncodedImage):
            return decoded(which, self.channels, getattr(self.source, "substitutes", ()), seed), which.label
        if not isinstance(self.source, Sized):
            raise TypeError("the images of a stream have no numbers")
        return self.source[which], self.source.label(which)


def heldout_batch(
    source: ImageSource,
    size: tuple[int, int],
    channels: int = 1,
    crop: int | None = None,
    pad: bool = False,
    limit: int | None = None,
) -> torch.Tensor:
    """Stack the plain centre crops of a source.

    Args:
        source: the images.
        size, channels, crop, pad: as for `crop_example`.
        limit: the first so many images only, at least 1; None for all.

    Returns:
        float32 (N, C, h, w) in [-1, 1].

    Raises:
        WavdiffError: as for `crop_example`, naming the image; or a limit below 1.
    """
    if limit is not None and limit < 1:
        raise WavdiffError(f"limit must be at least 1, not {limit}")
    examples = []
    for place in range(len(source))[:limit]:
        with _naming(source.label(place)):
            examples.append(crop_example(source[place], size, channels, crop, pad, Augmentation(), None))
    return torch.stack(examples)


def some_images(source: Images, seed: int, most: int) -> Iterator[int | EncodedImage]:
    """Up to `most` images to measure on, for `ExampleDataset`: evenly spread, or a stream's first ones, shuffled."""
    if isinstance(source, Sized):
        count = min(len(source), most)
        return (index * len(source) // count for index in range(count))
    return itertools.islice(source.epoch(seed, 0), most)


@contextmanager
def _naming(label: str) -> Iterator[None]:
    """Let errors name the image."""
    try:
        yield
    except WavdiffError as error:
        raise WavdiffError(f"{label}: {error}") from error
