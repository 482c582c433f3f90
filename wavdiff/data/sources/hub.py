"""Data sets of the Hugging Face hub, or local ones in its formats, streamed by the library `datasets`.

Images come encoded, as they are stored, and are decoded by the workers of the loader. The library shuffles the order of
the files and, with a buffer, the examples; both follow from the seed and the epoch. Only the column of the images is
read.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wavdiff.data.cache import digest_of
from wavdiff.data.protocols import EncodedImage, Images, ImageStream, Split
from wavdiff.data.splits import heldout_folder
from wavdiff.data.stream import FirstImages, exactly, find_substitutes
from wavdiff.system.errors import WavdiffError

PREFIX = "hub:"
HELDOUT_IMAGES = 100
_BY_HAND = (
    "to provide the data by hand, copy its files (parquet, or folders of images) into a folder and write hub:FOLDER, "
    "or unpack the images into a folder and write the folder"
)


def is_hub(name: str) -> bool:
    """Whether a name of data means a data set of the hub."""
    return name.startswith(PREFIX)


def open_hub(name: str, split: Split, channels: int, shuffle_buffer: int) -> Images:
    """Open one split of "hub:NAME", "hub:NAME#SUBSET" or "hub:FOLDER"; arguments as for `open_source`.

    Where the data set has a split `val`, `validation`, `heldout`, `test`, `valid` or `dev`, the first of these is held
    out. Else the first 100 training images are, or the first tenth if there are fewer than 1,000.

    Raises:
        WavdiffError: datasets is not installed, the data set cannot be had, or it has no images to train on.
    """
    where, _, subset = name.removeprefix(PREFIX).partition("#")
    folder = Path(where).expanduser()
    tables: Mapping[str, Any] = load_tables(
        str(folder) if folder.is_dir() else where,
        subset or None,
        streaming=True,
        missing=f'hub:{where}: needs the extra library datasets: pip install "wavdiff[hub]"; {_BY_HAND}',
        failed=f"hub:{where}: cannot be loaded",
        remedy=_BY_HAND,
    )
    if "train" not in tables:
        raise WavdiffError(f"{name}: has no split 'train', only {', '.join(map(str, tables))}")
    if folder.is_dir():
        name = f"{PREFIX}{folder.resolve().name}"  # a model card says no paths of this machine
    beside = heldout_folder(tables, "valid", "dev")
    part = "train" if split == "train" or beside is None else beside
    table, column = _images_of(tables[part], name)
    length = _length(tables[part], part)
    if beside is None:
        known = length if length is not None else sum(1 for _ in table.take(10 * HELDOUT_IMAGES))
        held = min(HELDOUT_IMAGES, max(1, known // 10))
        if split == "train":
            table, length = table.skip(held), None if length is None else length - held
        else:
            table, length = table.take(held), held
    credit, digest = f"the images of the data set {name}", _digest(folder)
    if split == "train":
        substitutes = find_substitutes(_encoded(table, column, name), name)
        return _HubStream(name, credit, digest, length, substitutes, table, column, shuffle_buffer)
    return FirstImages(name, credit, digest, _encoded(table, column, name), channels, length)


@dataclass(eq=False)
class _HubStream(ImageStream):
    """Training images: a column of a streaming data set."""

    table: Any
    column: str
    buffer: int

    def epoch(self, seed: int, number: int, skip: int = 0) -> Iterator[EncodedImage]:
        table = self.table.shuffle(seed=seed, buffer_size=self.buffer)
        if skip:
            table = table.skip(skip)
        table.set_epoch(number)
        images = _encoded(table, self.column, self.name)
        if self.length is None:
            return images
        # The published number counts, or a run that continues would lose its place where the number is wrong.
        return exactly(images, self.length - skip, f"{self.name}: an image that the data set's card counts")


def load_tables(*what: str | None, missing: str, failed: str, remedy: str, **options: Any) -> Any:
    """What `datasets.load_dataset(*what, **options)` gives.

    Raises:
        WavdiffError: `missing` without the library; if it fails `failed`, the reason in brackets, and `remedy`.
    """
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise WavdiffError(missing) from error
    unreachable = None
    try:
        with nullcontext() if Path(str(what[0])).is_dir() else _offline_if_unreachable() as unreachable:
            return load_dataset(*what, **options)
    except Exception as error:  # Offline, moved, out of disk: whatever it is, the way out is the same.
        reason = unreachable or (str(error).splitlines()[0] if str(error) else type(error).__name__)
        raise WavdiffError(f"{failed} ({reason[:300]}); {remedy}") from error


@contextmanager
def _offline_if_unreachable() -> Iterator[str | None]:
    """Where the hub cannot be reached, let its libraries look into their cache at once instead of trying for long.

    Gives the reason, or None where it answers.
    """
    from huggingface_hub import constants, get_session

    before, unreachable = constants.HF_HUB_OFFLINE, None
    try:
        get_session().head(constants.ENDPOINT, timeout=10)
    except Exception as error:  # of whichever client the library uses
        unreachable = f"{constants.ENDPOINT} cannot be reached: {error}"
        constants.HF_HUB_OFFLINE = True
    try:
        yield unreachable
    finally:
        constants.HF_HUB_OFFLINE = before


def _images_of(table: Any, name: str) -> tuple[Any, str]:
    """The column of the images alone, encoded, and its name."""
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

    with suppress(OSError), xopen(path, "rb") as file:
        return bytes(file.read())
    return b""  # which does not decode, and is named


def _length(table: Any, split: str) -> int | None:
    known = table.info.splits or {}
    return (known[split].num_examples or None) if split in known else None


def _digest(folder: Path) -> str | None:
    """Digest of a local folder's files; the hub's own are not asked."""
    if not folder.is_dir():
        return None
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return digest_of(*((file.relative_to(folder).as_posix(), file.stat().st_size) for file in files))
