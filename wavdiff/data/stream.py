"""Streams: images that come one after the other, of which nobody has a list in memory.

Position p of a run is image number p of the endless sequence that :func:`images_from` gives: epoch after epoch, each
in an order that follows from the seed and the epoch's number. So a run goes on at any position with the images that it
would have seen, whatever the number of processes and workers.
"""

import io
import queue
import threading
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence

import numpy as np

from wavdiff.data.protocols import EncodedImage, ImageStream, reduce_channels
from wavdiff.images import read_pixels
from wavdiff.system.errors import WavdiffError

SUBSTITUTES = 8


HELDOUT_MOST = 1000


_END = object()


def images_from(stream: ImageStream, seed: int, start: int) -> Generator[EncodedImage, None, None]:
    """Give the images of a run from one position on, without end.

    Args:
        stream: the images.
        seed: the seed of the run.
        start: the position of the first, at least 0. Where the stream knows its length, whole epochs before it cost
            nothing; else the first epoch is read again up to it, without decoding.

    Yields:
        The encoded images.

    Raises:
        WavdiffError: the stream has no images.
    """
    length = stream.length
    number, skip = divmod(start, length) if length else (0, start)
    while True:
        if length:
            yield from stream.epoch(seed, number, skip)
        else:
            length = 0
            for image in stream.epoch(seed, number):
                length += 1
                if length > skip:
                    yield image
            if not length:
                raise WavdiffError(f"{stream.name}: holds no images")
            if skip >= length:
                number, skip = divmod(start, length)
                continue
        number, skip = number + 1, 0


def read_ahead(images: Iterator[EncodedImage], most: int) -> Generator[EncodedImage, None, None]:
    """Let a thread read images before they are asked for.

    Args:
        images: where they come from.
        most: how many wait at the same time.

    Yields:
        The same images in the same order. What reading raises is raised here.
    """
    waiting: queue.Queue[object] = queue.Queue(most)
    stopped = threading.Event()

    def put(item: object) -> bool:
        while not stopped.is_set():
            try:
                waiting.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def read() -> None:
        try:
            for image in images:
                if not put(image):
                    return
            put(_END)
        except BaseException as error:
            put(error)

    threading.Thread(target=read, name="wavdiff-read-ahead", daemon=True).start()
    try:
        while True:
            item = waiting.get()
            if isinstance(item, BaseException):
                raise item
            if not isinstance(item, EncodedImage):
                return
            yield item
    finally:
        stopped.set()


def decoded(
    image: EncodedImage, channels: int, substitutes: Sequence[EncodedImage] = (), chance: int = 0
) -> np.ndarray:
    """Decode an image; where it is damaged, one of the substitutes, with a warning that names it.

    Args:
        image: the encoded image.
        channels: 1 for the mean of RGB, 3 to keep RGB.
        substitutes: images that stand in.
        chance: an integer that says which.

    Returns:
        uint8 (H, W) or (H, W, 3).

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
    """Choose the first images that decode.

    Args:
        images: images in an order that does not depend on a run.
        name: what to call them in an error.

    Returns:
        Up to 8 images.

    Raises:
        WavdiffError: none of the first 100 decodes.
    """
    found: list[EncodedImage] = []
    reason = "it holds no images"
    for tried, image in enumerate(images):
        if tried >= 100 or len(found) >= SUBSTITUTES:
            break
        try:
            decoded(image, 3)
        except WavdiffError as error:
            reason = str(error)
            continue
        found.append(image)
    if not found:
        raise WavdiffError(f"{name}: no image can be read; {reason}")
    return tuple(found)


class FirstImages:
    """The first images of a stream as a source with numbers, read as far as they are asked for and kept encoded.

    Args:
        name: the name of the source.
        credit: whom to thank.
        read: starts to read the images, in an order that does not change.
        channels: 1 for the mean of RGB, 3 to keep RGB.
        length: how many there are; None to count them by reading. Not more than 1,000 are taken.
        digest: changes when the data change, or None.
    """

    def __init__(
        self,
        name: str,
        credit: str,
        read: Callable[[], Iterator[EncodedImage]],
        channels: int,
        length: int | None,
        digest: str | None = None,
    ) -> None:
        self.name = name
        self.credit = credit
        self.digest = digest
        self._images: Iterator[EncodedImage] | None = None
        self._read = read
        self._channels = channels
        self._length = None if length is None else min(length, HELDOUT_MOST)
        self._found: list[EncodedImage] = []

    def __len__(self) -> int:
        """Count the images."""
        if self._length is None:
            self._fill(HELDOUT_MOST)
            self._length = len(self._found)
        return self._length

    def __getitem__(self, index: int) -> np.ndarray:
        """Give image ``index``, uint8 (H, W) or (H, W, 3); where it is damaged, the next one, with a warning.

        Raises:
            WavdiffError: none can be read.
        """
        count = len(self)
        if not -count <= index < count:
            raise IndexError(f"image {index} of {count}")
        for step in range(count):
            image = self._encoded((index + step) % count)
            try:
                return decoded(image, self._channels)
            except WavdiffError as error:
                warnings.warn(f"skipped, replaced by the next image: {error}", stacklevel=2)
        raise WavdiffError(f"{self.name}: none of its {count} held-out images can be read")

    def label(self, index: int) -> str:
        """Name image ``index``."""
        return self._encoded(index % len(self)).label

    def _encoded(self, index: int) -> EncodedImage:
        self._fill(index + 1)
        if index >= len(self._found):
            return EncodedImage(b"", f"{self.name}: held-out image {index}, which is gone")
        return self._found[index]

    def _fill(self, count: int) -> None:
        if self._images is None:
            self._images = self._read()
        while len(self._found) < count:
            image = next(self._images, None)
            if image is None:
                return
            self._found.append(image)
