"""Data sets of the Hugging Face hub, or local ones in its formats, streamed by the library ``datasets``.

Images come encoded, as they are stored, and are decoded by the workers of the loader. The library shuffles the order of
the files and, with a buffer, the examples; both follow from the seed and the epoch. Only the column of the images is
read.
"""

import hashlib
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from wavdiff.data.cache import digest_of
from wavdiff.data.protocols import EncodedImage, Split
from wavdiff.data.sources.folder import HELDOUT_FOLDERS
from wavdiff.data.stream import FirstImages, find_substitutes
from wavdiff.system.errors import WavdiffError

PREFIX = "hub:"


HELDOUT_IMAGES = 100


_SPLITS = (*HELDOUT_FOLDERS, "valid", "dev")


_BY_HAND = (
    "to provide the data by hand, copy its files (parquet, or folders of images) into a folder and write hub:FOLDER, "
    "or unpack the images into a folder and write the folder"
)


def open_hub(name: str, split: Split, channels: int, buffer: int) -> "HubStream | FirstImages":
    """Open one split of a streamed data set.

    Where the data set has a split `val`, `validation`, `heldout`, `test`, `valid` or `dev`, the first of these is held
    out. Else the first 100 training images are, or the first tenth if there are fewer than 1,000.

    Args:
        name: "hub:NAME", "hub:NAME#SUBSET" for one of its subsets, or "hub:FOLDER" for a local folder.
        split: "train" or "heldout".
        channels: 1 for the mean of RGB, 3 to keep RGB.
        buffer: images that are shuffled at a time, which wait in memory encoded.

    Returns:
        A stream to train on; for "heldout" a source of at most 1,000 images.

    Raises:
        WavdiffError: datasets is not installed, the data set cannot be had, or it has no images to train on.
    """
    where, _, subset = name.removeprefix(PREFIX).partition("#")
    tables = _load(where, subset or None)
    if "train" not in tables:
        raise WavdiffError(f"{name}: has no split 'train', only {', '.join(map(str, tables))}")
    folder = Path(where).expanduser()
    digest = _digest(folder)
    if folder.is_dir():
        name = f"{PREFIX}{folder.resolve().name}"  # a model card says no paths of this machine
    beside = next((other for other in _SPLITS if other in tables), None)
    table, column = _images_of(tables["train"], name)
    length = _length(tables["train"], "train")
    if beside is not None:
        if split == "train":
            return HubStream(name, table, column, length, buffer, digest)
        held, column = _images_of(tables[beside], name)
        count = _length(tables[beside], beside)
    else:
        known = length if length is not None else sum(1 for _ in table.take(10 * HELDOUT_IMAGES))
        count = min(HELDOUT_IMAGES, max(1, known // 10))
        if split == "train":
            left = None if length is None else length - count
            return HubStream(name, table.skip(count), column, left, buffer, digest)
        held = table.take(count)
    return FirstImages(name, _credit(name), lambda: _encoded(held, column, name), channels, count, digest)


class HubStream:
    """Training images of a streamed data set; see `source.ImageStream`.

    Args:
        name: what the user calls it.
        table: a streaming data set.
        column: the column of the images.
        length: how many there are, or None.
        buffer: images that are shuffled at a time.
        digest: changes when the data change, or None.
    """

    def __init__(self, name: str, table: Any, column: str, length: int | None, buffer: int, digest: str | None) -> None:
        self.name, self.credit = name, _credit(name)
        self.digest, self.length = digest, length
        self._table, self._column, self._buffer = table, column, buffer
        self.substitutes = find_substitutes(_encoded(table, column, name), name)

    def epoch(self, seed: int, number: int, skip: int = 0) -> Iterator[EncodedImage]:
        """Give the images of epoch ``number`` in the order of ``seed``, without the first ``skip``."""
        table = self._table.shuffle(seed=seed, buffer_size=self._buffer)
        if skip:
            table = table.skip(skip)
        table.set_epoch(number)
        images = _encoded(table, self._column, self.name)
        if self.length is None:
            yield from images
            return
        # The published number counts, or a run that continues would lose its place where the number is wrong.
        given = 0
        for image in islice(images, self.length - skip):
            given += 1
            yield image
        for _ in range(self.length - skip - given):
            yield EncodedImage(b"", f"{self.name}: an image that the data set's card counts")


def _load(where: str, subset: str | None) -> Mapping[str, Any]:
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise WavdiffError(
            f'hub:{where}: needs the extra library datasets: pip install "wavdiff[hub]"; {_BY_HAND}'
        ) from error
    local = Path(where).expanduser()
    try:
        tables: Mapping[str, Any] = load_dataset(str(local) if local.is_dir() else where, subset, streaming=True)
    except Exception as error:  # Offline, unknown, of unknown files: whatever it is, the way out is the same.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WavdiffError(f"hub:{where}: cannot be loaded ({reason[:300]}); {_BY_HAND}") from error
    return tables


def _images_of(table: Any, name: str) -> tuple[Any, str]:
    """Give (the column of the images alone and encoded, its name)."""
    from datasets import Image

    features = table.features
    if features is None:  # the files do not say: the first example does
        features = dict(next(iter(table), {}))
    for column, kind in features.items():
        if isinstance(kind, Image) or (isinstance(kind, Mapping) and "bytes" in kind):
            return table.select_columns([column]).cast_column(column, Image(decode=False)), column
    raise WavdiffError(f"{name}: has no column of images, only {', '.join(features) or 'none'}")


def _encoded(table: Any, column: str, name: str) -> Iterator[EncodedImage]:
    for example in table:
        image = example[column] or {}
        data, path = image.get("bytes"), image.get("path")
        if data is None and path:
            data = _read(path)
        data = data or b""
        yield EncodedImage(data, path or f"{name}, the image of SHA-256 {hashlib.sha256(data).hexdigest()[:16]}")


def _read(path: str) -> bytes:
    from datasets.utils.file_utils import xopen

    try:
        with xopen(path, "rb") as file:
            content: bytes = file.read()
    except OSError:
        return b""  # which does not decode, and is named
    return content


def _length(table: Any, split: str) -> int | None:
    known = table.info.splits or {}
    return (known[split].num_examples or None) if split in known else None


def _digest(folder: Path) -> str | None:
    """Digest of a local folder's files; the hub's own are not asked."""
    if not folder.is_dir():
        return None
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return digest_of(*((file.relative_to(folder).as_posix(), file.stat().st_size) for file in files))


def _credit(name: str) -> str:
    return f"the images of the data set {name}"
