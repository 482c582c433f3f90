"""Streams: images that come one after the other, of which nobody has a list in memory.

Position p of a run is image number p of the endless sequence that `images_from` gives: epoch after epoch, each in an
order that follows from the seed and the epoch's number. So a run goes on at any position with the images that it would
have seen, whatever the number of processes and workers.
"""

import io
import warnings
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice, repeat

import numpy as np

from wavdiff.data.protocols import EncodedImage, ImageStream, first_readable, reduce_channels
from wavdiff.images import read_pixels
from wavdiff.system.errors import WavdiffError

SUBSTITUTES = 8
HELDOUT_MOST = 1000


def images_from(stream: ImageStream, seed: int, start: int) -> Generator[EncodedImage, None, None]:
    """The images of the run of a seed from position `start` on, without end.

    Where the stream knows its length, whole epochs before the position cost nothing; else the first epoch is read again
    up to it, without decoding.

    Raises:
        WavdiffError: the stream has no images.
    """
    length = stream.length or 0
    if not length:
        for image in stream.epoch(seed, 0):
            length += 1
            if length > start:
                yield image
        if not length:
            raise WavdiffError(f"{stream.name}: holds no images")
        start = max(start, length)
    number, skip = divmod(start, length)
    while True:
        yield from stream.epoch(seed, number, skip)
        number, skip = number + 1, 0


def exactly(images: Iterator[EncodedImage], count: int, missing: str) -> Iterator[EncodedImage]:
    """Just so many images; where there are fewer, empty ones named `missing` follow, which do not decode."""
    given = 0
    for image in islice(images, count):
        given += 1
        yield image
    yield from repeat(EncodedImage(b"", missing), count - given)


def read_ahead(images: Iterator[EncodedImage], most: int) -> Generator[EncodedImage, None, None]:
    """The same images in the same order, which a thread reads before they are asked for, `most` at a time.

    What reading raises is raised here.
    """
    thread = ThreadPoolExecutor(1, "wavdiff-read-ahead")
    try:
        waiting = deque(thread.submit(next, images, None) for _ in range(most))
        while (image := waiting.popleft().result()) is not None:
            waiting.append(thread.submit(next, images, None))
            yield image
    finally:
        thread.shutdown(wait=False, cancel_futures=True)


def decoded(
    image: EncodedImage, channels: int, substitutes: Sequence[EncodedImage] = (), chance: int = 0
) -> np.ndarray:
    """Decode an image, uint8 (H, W) or (H, W, 3); where it is damaged, a substitute, with a warning that names it.

    Args:
        image: the encoded image.
        channels: 1 for the mean of RGB, 3 to keep RGB.
        substitutes: images that stand in.
        chance: an integer that says which.

    Raises:
        WavdiffError: the image is damaged and nothing can stand in for it.
    """
    try:
        return reduce_channels(read_pixels(io.BytesIO(image.data), image.label), channels)
    except WavdiffError as error:
        if not substitutes:
            raise
        warnings.warn(f"skipped, replaced by another image: {error}", stacklevel=2)
        return decoded(substitutes[chance % len(substitutes)], channels)


def find_substitutes(images: Iterator[EncodedImage], name: str) -> tuple[EncodedImage, ...]:
    """The first 8 images that decode, or fewer, of images in an order that does not depend on a run.

    Raises:
        WavdiffError: none of the first 100 decodes.
    """
    found: list[EncodedImage] = []
    reason = "it holds no images"
    for image in islice(images, 100):
        try:
            decoded(image, 3)
        except WavdiffError as error:
            reason = str(error)
            continue
        found.append(image)
        if len(found) == SUBSTITUTES:
            break
    if not found:
        raise WavdiffError(f"{name}: no image can be read; {reason}")
    return tuple(found)


@dataclass(eq=False)
class FirstImages:
    """The first images of a stream as a source with numbers, read as far as they are asked for and kept encoded.

    Attributes:
        name, credit, digest: as for `ImageStream`.
        images: the images, in an order that does not change; not more than 1,000 are taken.
        channels: 1 for the mean of RGB, 3 to keep RGB.
        length: how many there are; None to count them by reading.
    """

    name: str
    credit: str
    digest: str | None
    images: Iterator[EncodedImage]
    channels: int
    length: int | None

    def __post_init__(self) -> None:
        self._found: list[EncodedImage] = []
        self._damaged: set[int] = set()

    def __len__(self) -> int:
        if self.length is None:
            self._found += islice(self.images, HELDOUT_MOST - len(self._found))
            self.length = len(self._found)
        return min(self.length, HELDOUT_MOST)

    def __getitem__(self, index: int) -> np.ndarray:
        gone = f"{self.name}: none of its {len(self)} held-out images can be read"
        return first_readable(index, len(self), self._read, self._damaged, gone)

    def label(self, index: int) -> str:
        """An image's name."""
        return self._encoded(index % len(self)).label

    def _read(self, index: int) -> np.ndarray:
        return decoded(self._encoded(index), self.channels)

    def _encoded(self, index: int) -> EncodedImage:
        self._found += islice(self.images, max(0, index + 1 - len(self._found)))
        if index >= len(self._found):
            return EncodedImage(b"", f"{self.name}: held-out image {index}, which is gone")
        return self._found[index]
