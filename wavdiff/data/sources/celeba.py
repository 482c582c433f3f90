"""CelebA: 202,599 photographs of celebrities, aligned, 178 wide and 218 high.

Source: Z. Liu, P. Luo, X. Wang, X. Tang, "Deep learning face attributes in the wild" (ICCV 2015), Multimedia
Laboratory, The Chinese University of Hong Kong; for non-commercial research. The crop is that of Kadkhodaie, Guth,
Mallat and Simoncelli (2023): 29 rows fewer above and below, 9 columns fewer left and right, which leaves 160 x 160.
"""

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
_NEEDED = (
    "what is needed is a folder, given with data_dir (--data-dir), that holds list_eval_partition.txt and "
    "img_align_celeba/000001.jpg to 202599.jpg (the official img_align_celeba.zip, unpacked)"
)


def open_celeba(split: Split, data_dir: Path | None, channels: int) -> ImageSource:
    """Open one official split; images are read when they are asked for.

    Args:
        split: "train", "validation" or "heldout" (the official test images).
        data_dir: the folder with list_eval_partition.txt and the aligned images, either directly in it or under
            img_align_celeba/; None to ask the Hugging Face hub through `datasets`.
        channels: 1 for the mean of RGB, 3 for RGB.

    Returns:
        uint8 images (160, 160) or (160, 160, 3).

    Raises:
        WavdiffError: the files are not there or not as published.
    """
    if data_dir is None:
        return _CelebaHubSource(split, channels)
    return _CelebaFolderSource(split, data_dir, channels)


def crop_aligned(image: np.ndarray, label: str) -> np.ndarray:
    """Cut the paper's 160 x 160 out of an aligned image.

    Args:
        image: uint8 (218, 178) or (218, 178, 3).
        label: what to call the image in an error.

    Raises:
        WavdiffError: the image has another size.
    """
    if image.shape[:2] != (218, 178):
        raise WavdiffError(
            f"{label}: an aligned CelebA image is 178 x 218 pixels, this one {image.shape[1]} x {image.shape[0]}"
        )
    return image[29:-29, 9:-9]


class _CelebaFolderSource:
    """The official files on disk."""

    name = "celeba"
    credit = CREDIT

    def __init__(self, split: Split, data_dir: Path, channels: int) -> None:
        self._channels = channels
        images = data_dir / "img_align_celeba"
        self._folder = images if images.is_dir() else data_dir
        self._names = _read_partition(data_dir / "list_eval_partition.txt", _PARTITION[split])
        # Of the names alone: the official images do not change.
        self.digest = digest_of(*self._names)
        # One listing, not 200,000 questions to the file system.
        present = {file.name for file in self._folder.iterdir()}
        missing = [name for name in self._names if name not in present]
        if missing or not self._names:
            what = f"{len(missing)} images of the split {split!r} are" if missing else f"the split {split!r} is"
            example = f" (the first: {missing[0]})" if missing else ""
            raise WavdiffError(f"celeba: {what} not in {self._folder}{example}; {_NEEDED}")

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> np.ndarray:
        name = self._names[index]
        return reduce_channels(crop_aligned(read_pixels(self._folder / name), name), self._channels)

    def label(self, index: int) -> str:
        return self._names[index]


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


class _CelebaHubSource:
    """The same images through the Hugging Face hub."""

    name = "celeba"
    credit = CREDIT

    def __init__(self, split: Split, channels: int) -> None:
        self._channels = channels
        self._split = split
        self._table: Any = load_tables(
            _HUB_DATASET,
            split=_HUB_SPLIT[split],
            missing=f"celeba: the images are not here; {_NEEDED}, "
            'or `pip install "wavdiff[hub]"` and a network connection',
            failed=f"celeba: the Hugging Face hub did not give {_HUB_DATASET}",
            remedy=_NEEDED,
        )

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> np.ndarray:
        image = np.asarray(self._table[index]["image"].convert("RGB"))
        return reduce_channels(crop_aligned(image, self.label(index)), self._channels)

    def label(self, index: int) -> str:
        return f"celeba {self._split} {index}"
