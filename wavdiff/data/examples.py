"""From an image of any size to one training example.

All changes that augmentation makes act on the image, before any wavelet transform: a mirrored image then has detail
bands that are mirrored and of the right sign by themselves. Crop, zoom and shift are one box with real-valued borders,
resampled once.
"""

from collections.abc import Callable, Iterable, Sized

import numpy as np
import torch

from wavdiff.data.augmentation import Augmentation, crop_example
from wavdiff.data.protocols import EncodedImage, Images, ImageSource, count_images
from wavdiff.data.stream import decoded
from wavdiff.system.errors import WavdiffError

ExampleKey = tuple[int | EncodedImage, int, float]


class ExampleDataset(torch.utils.data.Dataset[torch.Tensor]):
    """Examples by key: which image, which chance, how much augmentation.

    Args:
        source: the images; those of a stream come with the keys.
        size: (height, width) of an example, in pixels.
        channels: 1 or 3.
        crop: as for :func:`crop_example`.
        pad: as for :func:`crop_example`.
        augmentation: the random changes at strength 1.
    """

    def __init__(
        self,
        source: Images,
        size: tuple[int, int],
        channels: int = 1,
        crop: int | None = None,
        pad: bool = False,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.source = source
        self.size = size
        self.channels = channels
        self.crop = crop
        self.pad = pad
        self.augmentation = Augmentation() if augmentation is None else augmentation

    def __len__(self) -> int:
        """Count the images; 0 for a stream whose length is not known."""
        return count_images(self.source) or 0

    def __getitem__(self, key: ExampleKey) -> torch.Tensor:
        """Make the example of a key.

        Args:
            key: (the image's index, or the encoded image; seed of the chance; strength): the amounts of augmentation
                are multiplied by the strength; flips stay on at strength 0.

        Returns:
            float32 (C, h, w) in [-1, 1], always the same for the same key.

        Raises:
            WavdiffError: as for :func:`crop_example`, naming the image.
        """
        which, seed, strength = key
        generator = np.random.default_rng(seed)
        augmentation = self.augmentation.scaled(strength)
        image, label = self._image(which, seed)
        try:
            return crop_example(image, self.size, self.channels, self.crop, self.pad, augmentation, generator)
        except WavdiffError as error:
            raise WavdiffError(f"{label()}: {error}") from error

    def _image(self, which: int | EncodedImage, seed: int) -> tuple[np.ndarray, Callable[[], str]]:
        if isinstance(which, EncodedImage):
            substitutes = () if isinstance(self.source, Sized) else self.source.substitutes
            return decoded(which, self.channels, substitutes, seed), lambda: which.label
        if not isinstance(self.source, Sized):
            raise TypeError("the images of a stream have no numbers")
        source = self.source
        return source[which], lambda: source.label(which)


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
        size: (height, width) in pixels.
        channels: 1 or 3.
        crop: as for :func:`crop_example`.
        pad: as for :func:`crop_example`.
        limit: the first so many images only; None for all.

    Returns:
        float32 (N, C, h, w) in [-1, 1].

    Raises:
        WavdiffError: as for :func:`crop_example`, naming the image; or a limit below 1.
    """
    if limit is not None and limit < 1:
        raise WavdiffError(f"limit must be at least 1, not {limit}")
    indices: Iterable[int] = range(len(source) if limit is None else min(limit, len(source)))
    plain = Augmentation()
    examples = []
    for index in indices:
        try:
            examples.append(crop_example(source[index], size, channels, crop, pad, plain, None))
        except WavdiffError as error:
            raise WavdiffError(f"{source.label(index)}: {error}") from error
    return torch.stack(examples)
