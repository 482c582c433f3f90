"""CelebA: 202,599 photographs of celebrities, aligned, 178 wide and 218 high.

Source: Z. Liu, P. Luo, X. Wang, X. Tang, "Deep learning face attributes in the wild" (ICCV 2015), Multimedia
Laboratory, The Chinese University of Hong Kong; for non-commercial research. The crop is that of Kadkhodaie, Guth,
Mallat and Simoncelli (2023): 29 rows fewer above and below, 9 columns fewer left and right, which leaves 160 x 160.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from wavdiff.data.cache import digest_of
from wavdiff.data.protocols import ImageSource, Split, reduce_channels
from wavdiff.data.sources.hub import load_tables
from wavdiff.images import read_pixels
from wavdiff.system.errors import WavdiffError

CREDIT = (
    "CelebA, Multimedia Laboratory, The Chinese University of Hong Kong (Liu, Luo, Wang and Tang, 2015); for "
    "non-commercial research"
)
_PARTITION = {"train": "0", "validation": "1", "heldout": "2"}
_HUB_DATASET = "flwrlabs/celeba"
_HUB_SPLIT = {"train": "train", "validation": "valid", "heldout": "test"}
_LIST = "list_eval_partition.txt"
_IMAGES = "img_align_celeba"
_NEEDED = (
    f"what is needed is a folder, ./celeba or another given with data_dir (--data-dir), that holds {_LIST} and "
    f"{_IMAGES}/000001.jpg to 202599.jpg (the official img_align_celeba.zip, unpacked)"
)


def is_celeba_folder(name: str) -> bool:
    """Whether a name of data is a folder of CelebA, told by its official list of splits."""
    return _with_list(Path(name).expanduser()) is not None


def open_celeba_folder(split: Split, name: str, channels: int) -> ImageSource:
    """Open one official split of such a folder; arguments as for `open_source`."""
    return open_celeba(split, _with_list(Path(name).expanduser()), channels)


def _with_list(folder: Path) -> Path | None:
    """The folder that holds the list: `folder`, or where its images are meant by it, the one above."""
    places = [folder, folder.parent] if folder.name == _IMAGES and folder.is_dir() else [folder]
    return next((place for place in places if (place / _LIST).is_file()), None)


def _unpacked_here() -> Path | None:
    """CelebA in the working directory, as people unpack it."""
    for folder in (Path("celeba"), Path(_IMAGES)):
        if folder.is_dir():
            return _with_list(folder) or folder
    return None


def open_celeba(split: Split, data_dir: Path | None, channels: int) -> ImageSource:
    """Open one official split, whose images are read when they are asked for; arguments as for `open_source`.

    The aligned images lie in `data_dir` beside list_eval_partition.txt, or there under img_align_celeba/. Without
    `data_dir` they are looked for in ./celeba and ./img_align_celeba; else the Hugging Face hub is asked through
    `datasets`.

    Raises:
        WavdiffError: the files are not there or not as published.
    """
    data_dir = data_dir or _unpacked_here()
    if data_dir is None:
        table = load_tables(
            _HUB_DATASET,
            split=_HUB_SPLIT[split],
            missing=f"celeba: the images are not here; {_NEEDED}, "
            'or `pip install "wavdiff[hub]"` and a network connection',
            failed=f"celeba: the Hugging Face hub did not give {_HUB_DATASET}",
            remedy=_NEEDED,
        )
        return _CelebaSource([f"celeba {split} {row}" for row in range(len(table))], partial(_of_row, table), channels)
    folder = data_dir / _IMAGES
    folder = folder if folder.is_dir() else data_dir
    names = _read_partition(data_dir / _LIST, _PARTITION[split])
    # One listing, not 200,000 questions to the file system.
    present = {file.name for file in folder.iterdir()}
    missing = [name for name in names if name not in present]
    if missing or not names:
        what = f"{len(missing)} images of the split {split!r} are" if missing else f"the split {split!r} is"
        example = f" (the first: {missing[0]})" if missing else ""
        raise WavdiffError(f"celeba: {what} not in {folder}{example}; {_NEEDED}")
    # The digest is of the names alone: the official images do not change.
    return _CelebaSource(names, partial(_of_file, folder, names), channels, digest_of(*names))


@dataclass(eq=False)
class _CelebaSource:
    """Images by name; `read` gives an aligned image, (218, 178) or (218, 178, 3)."""

    names: list[str]
    read: Callable[[int], np.ndarray]
    channels: int
    digest: str | None = None
    name: str = "celeba"
    credit: str = CREDIT

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> np.ndarray:
        return reduce_channels(crop_aligned(self.read(index), self.names[index]), self.channels)

    def label(self, index: int) -> str:
        return self.names[index]


def _of_file(folder: Path, names: list[str], index: int) -> np.ndarray:
    return read_pixels(folder / names[index])


def _of_row(table: Any, index: int) -> np.ndarray:
    return np.asarray(table[index]["image"].convert("RGB"))


def crop_aligned(image: np.ndarray, label: str) -> np.ndarray:
    """The paper's 160 x 160 of an aligned image.

    Raises:
        WavdiffError: the image is not (218, 178) or (218, 178, 3); the message calls it `label`.
    """
    if image.shape[:2] != (218, 178):
        raise WavdiffError(
            f"{label}: an aligned CelebA image is 178 x 218 pixels, this one {image.shape[1]} x {image.shape[0]}"
        )
    return image[29:-29, 9:-9]


def _read_partition(file: Path, wanted: str) -> list[str]:
    """The names of the images of one part."""
    if not file.is_file():
        raise WavdiffError(f"celeba: {file} is missing; {_NEEDED}")
    names = []
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        words = line.split()
        if words and (len(words) != 2 or words[1] not in _PARTITION.values()):
            raise WavdiffError(f"{file}: line {number} must be a file name and 0, 1 or 2, not {line[:80]!r}")
        if words and words[1] == wanted:
            names.append(words[0])
    return names
