"""What every source of images offers."""

import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

import numpy as np

from wavdiff.system.errors import WavdiffError

Split = Literal["train", "heldout", "validation"]


class ImageSource(Protocol):
    """A sequence of 8-bit images, always in the same order.

    Attributes:
        name: the name to show in messages and model cards.
        credit: whom to thank for the images.
    """

    name: str
    credit: str

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> np.ndarray:
        """An image: uint8, (H, W) for gray or (H, W, 3) for RGB."""
        ...

    def label(self, index: int) -> str:
        """An image's name, for messages and logs."""
        ...


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """An image file's content, not yet decoded.

    Attributes:
        data: the bytes of the file.
        label: its name for messages.
    """

    data: bytes
    label: str


@dataclass(eq=False)
class ImageStream:
    """Images that are read one after the other, in an order that a seed shuffles.

    Attributes:
        name: the name to show in messages and model cards.
        credit: whom to thank for the images.
        digest: changes when the data change; None where that cannot be told cheaply.
        length: images of an epoch, or None where that is not known before they have been read.
        substitutes: a few images that decode, which stand in for those that do not.
    """

    name: str
    credit: str
    digest: str | None
    length: int | None
    substitutes: tuple[EncodedImage, ...]

    def epoch(self, seed: int, number: int, skip: int = 0) -> Iterator[EncodedImage]:
        """The images of one epoch in the order of a seed, without the first `skip`."""
        raise NotImplementedError


Images = ImageSource | ImageStream


def source_digest(source: Images) -> str | None:
    """A text that changes when the images of a source change; None where that cannot be told cheaply."""
    digest: str | None = getattr(source, "digest", None)
    return digest


def classes_of(source: Images) -> tuple[str, ...]:
    """The names of the classes of a source whose images have one (`class_of(index)`), in order; none else."""
    classes: tuple[str, ...] = getattr(source, "classes", ())
    return classes


def count_images(source: Images) -> int | None:
    """How many images a source or an epoch of a stream has; None where that is not known."""
    return len(source) if isinstance(source, Sized) else source.length


@dataclass(eq=False)
class ArraySource:
    """Images held in memory.

    Attributes:
        name, credit: as for `ImageSource`.
        images: uint8 arrays (H, W) or (H, W, 3), or one array with the images along its first axis.
        labels: one name per image, or None to count them.
        classes: names of the classes, if they have any.
        class_numbers: place in `classes` of every image.
    """

    name: str
    credit: str
    images: Sequence[np.ndarray] | np.ndarray
    labels: Sequence[str] | None = None
    classes: tuple[str, ...] = ()
    class_numbers: Sequence[int] | np.ndarray = ()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> np.ndarray:
        image: np.ndarray = self.images[index]
        return image

    def class_of(self, index: int) -> str:
        """The class of an image."""
        return self.classes[int(self.class_numbers[index])]

    @cached_property
    def digest(self) -> str:
        """SHA-256 over shapes and pixels, as 64 hexadecimal digits."""
        total = hashlib.sha256()
        for image in self.images:
            total.update(f"{image.shape}\0".encode() + np.ascontiguousarray(image).tobytes())
        return total.hexdigest()

    def label(self, index: int) -> str:
        """An image's name."""
        return f"{self.name} {index}" if self.labels is None else self.labels[index]


def first_readable(
    index: int, count: int, read: Callable[[int], np.ndarray], damaged: set[int], gone: str
) -> np.ndarray:
    """Read one of `count` images; where it turns out to be damaged, the next readable one, with a warning.

    Args:
        index: in [-count, count).
        count: how many there are.
        read: reads an image in [0, count) or raises WavdiffError.
        damaged: those that are known to be damaged; what is found out is added.
        gone: the error if none can be read.
    """
    if not -count <= index < count:
        raise IndexError(f"image {index} of {count}")
    for step in range(count):
        place = (index + step) % count
        if place in damaged:
            continue
        try:
            return read(place)
        except WavdiffError as error:
            damaged.add(place)
            warnings.warn(f"skipped, replaced by the next image: {error}", stacklevel=3)
    raise WavdiffError(gone)


def reduce_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """An image, uint8 (H, W) or (H, W, 3), made gray if `channels` is 1: the mean of RGB, rounded."""
    if channels == 1 and image.ndim == 3:
        mean: np.ndarray = (image.astype(np.uint16).sum(axis=2) + 1) // 3
        return mean.astype(np.uint8)
    return image


class FirstImages:
    """The first images of a source; of one that lies class by class (`by_class`) as many, evenly spread.

    Args:
        source: all of them.
        count: how many are kept, at least 1.

    Raises:
        WavdiffError: the source has fewer, or they would not show all its classes.
    """

    def __init__(self, source: ImageSource, count: int) -> None:
        if count > len(source):
            raise WavdiffError(f"data.images must be at most the {len(source)} of {source.name}, got {count}")
        self.name, self.credit, self._source = source.name, source.credit, source
        self.classes = classes_of(source)
        spread = bool(self.classes) and getattr(source, "by_class", False)
        self._places = [k * len(source) // count for k in range(count)] if spread else range(count)
        if spread and len({source.class_of(k) for k in self._places}) < len(self.classes):  # type: ignore[attr-defined]
            raise WavdiffError(f"{count} images of {source.name} do not show all of its {len(self.classes)} classes")

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> np.ndarray:
        return self._source[self._places[index]]

    def label(self, index: int) -> str:
        """An image's name."""
        return self._source.label(self._places[index])

    def class_of(self, index: int) -> str:
        """The class of an image, of a source that has classes."""
        name: str = self._source.class_of(self._places[index])  # type: ignore[attr-defined]
        return name

    @cached_property
    def digest(self) -> str | None:
        """That of all images, and how many are kept."""
        found = source_digest(self._source)
        return None if found is None else hashlib.sha256(f"{found} {len(self)}".encode()).hexdigest()
