"""Fashion-MNIST: 60,000 and 10,000 gray pictures of clothes, 28 x 28, in the IDX format of MNIST.

Source: H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning
algorithms" (2017, arXiv 1708.07747), Zalando SE, MIT licence. Debian's package dataset-fashion-mnist installs it.
"""

import gzip
import math
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from wavdiff.data.protocols import ArraySource, Split
from wavdiff.system.errors import WavdiffError

CREDIT = "Fashion-MNIST, Zalando SE (Xiao, Rasul and Vollgraf, 2017), MIT licence"
SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")
CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
_FILES = {"train": "train", "validation": "train", "heldout": "t10k"}
_IMAGES, _LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"
_UNSIGNED_BYTES = 0x0800  # the last digit is the number of axes


def open_fashion(split: Split, data_dir: Path | None, validation: tuple[str, ...] = ()) -> ArraySource:
    """Read one official split into memory, uint8 images (28, 28); arguments as for `open_source`.

    `data_dir` has the IDX files, packed (.gz) or not; without it they are those of Debian's package. `validation` are
    ranges such as "10000-14000" of the official training images, the last not included, that are not trained on.
    Images have classes where the files of their labels are there.

    Raises:
        WavdiffError: the file is missing or damaged, or a range is none of its images.
    """
    folder = SYSTEM_FOLDER if data_dir is None else data_dir
    images, labels = (_read(folder, f"{_FILES[split]}-{kind}", axes) for kind, axes in ((_IMAGES, 3), (_LABELS, 1)))
    if images is None:
        needed = " and ".join(f"{name}-{_IMAGES}.gz" for name in ("train", "t10k"))
        raise WavdiffError(
            f"fashion-mnist: {_FILES[split]}-{_IMAGES}.gz is not in {folder}; install Debian's package "
            f"dataset-fashion-mnist, or give with data_dir the folder that holds {needed}"
        )
    if labels is not None and (len(labels) != len(images) or int(labels.max()) >= len(CLASSES)):
        raise WavdiffError(f"fashion-mnist: {_FILES[split]}-{_LABELS} in {folder} does not fit the images")
    if split != "heldout" and validation:
        apart = np.zeros(len(images), dtype=bool)
        for text in validation:
            apart[_range(text, len(images))] = True
        if split == "train" and apart.all():
            raise WavdiffError(f"data.validation: {', '.join(validation)} of fashion-mnist leave no image to train on")
        chosen = apart if split == "validation" else ~apart
        images, labels = images[chosen], None if labels is None else labels[chosen]
    source = ArraySource("fashion-mnist", CREDIT, images)
    return source if labels is None else replace(source, classes=CLASSES, class_numbers=labels)


def _range(text: str, count: int) -> slice:
    first, _, last = text.partition("-")
    if not (first.isdecimal() and last.isdecimal() and int(first) < int(last) <= count):
        raise WavdiffError(
            f"data.validation of fashion-mnist are ranges within 0-{count}, as 10000-14000, got {text!r}"
        )
    return slice(int(first), int(last))


def _read(folder: Path, name: str, axes: int) -> np.ndarray | None:
    """The numbers of a file, packed or not; None where there is none."""
    file = next((file for file in (folder / f"{name}.gz", folder / name) if file.is_file()), None)
    return None if file is None else read_idx(file, axes)


def read_idx(file: Path, axes: int = 3) -> np.ndarray:
    """Read unsigned bytes, such as a stack of images (N, H, W), from an IDX file, gzip-packed if it ends in .gz.

    Raises:
        WavdiffError: the file cannot be unpacked, has not so many axes, or has not the length that its header
            announces.
    """
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise WavdiffError(f"{file}: damaged: {error}") from error
    head = 4 + 4 * axes
    if len(content) < head:
        raise WavdiffError(f"{file}: damaged: an IDX header has {head} bytes, the file has {len(content)}")
    magic, *shape = struct.unpack(f">{1 + axes}I", content[:head])
    if magic != _UNSIGNED_BYTES + axes:
        raise WavdiffError(
            f"{file}: not IDX images: the first four bytes must be {_UNSIGNED_BYTES + axes:#010x}, not {magic:#010x}"
        )
    if len(content) - head != math.prod(shape) or 0 in shape:
        raise WavdiffError(
            f"{file}: damaged: {' x '.join(map(str, shape))} images need {math.prod(shape)} bytes, "
            f"the file holds {len(content) - head}"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=head).reshape(shape)
