"""Fashion-MNIST: 60,000 and 10,000 gray pictures of clothes, 28 x 28, in the IDX format of MNIST.

Source: H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning
algorithms" (2017, arXiv 1708.07747), Zalando SE, MIT licence. Debian's package dataset-fashion-mnist installs it.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from wavdiff.data.protocols import ArraySource, Split
from wavdiff.system.errors import WavdiffError

CREDIT = "Fashion-MNIST, Zalando SE (Xiao, Rasul and Vollgraf, 2017), MIT licence"
SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")
_FILES = {"train": "train-images-idx3-ubyte", "heldout": "t10k-images-idx3-ubyte"}
_MAGIC = 0x0803  # unsigned bytes (08) along three axes (03)


def open_fashion(split: Split, data_dir: Path | None) -> ArraySource:
    """Read one official split into memory, uint8 images (28, 28); arguments as for `open_source`.

    `data_dir` has the IDX files, packed (.gz) or not; without it they are those of Debian's package.

    Raises:
        WavdiffError: the file is missing or damaged.
    """
    folder = SYSTEM_FOLDER if data_dir is None else data_dir
    name = _FILES[split]
    for file in (folder / f"{name}.gz", folder / name):
        if file.is_file():
            return ArraySource("fashion-mnist", CREDIT, read_idx(file))
    raise WavdiffError(
        f"fashion-mnist: {name}.gz is not in {folder}; install Debian's package dataset-fashion-mnist, "
        f"or give with data_dir the folder that holds {' and '.join(f'{n}.gz' for n in _FILES.values())}"
    )


def read_idx(file: Path) -> np.ndarray:
    """Read a stack of images, uint8 (N, H, W), from an IDX file, which is gzip-packed if it ends in .gz.

    Raises:
        WavdiffError: the file cannot be unpacked, is not an IDX stack of images, or has not the length that its
            header announces.
    """
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise WavdiffError(f"{file}: damaged: {error}") from error
    if len(content) < 16:
        raise WavdiffError(f"{file}: damaged: an IDX header has 16 bytes, the file has {len(content)}")
    magic, *shape = struct.unpack(">4I", content[:16])
    if magic != _MAGIC:
        raise WavdiffError(f"{file}: not IDX images: the first four bytes must be {_MAGIC:#010x}, not {magic:#010x}")
    if len(content) - 16 != math.prod(shape) or 0 in shape:
        raise WavdiffError(
            f"{file}: damaged: {' x '.join(map(str, shape))} images need {math.prod(shape)} bytes, "
            f"the file holds {len(content) - 16}"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=16).reshape(shape)
