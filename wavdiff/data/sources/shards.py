"""WebDataset shards: tar files that hold images, read from front to back by the library ``webdataset``.

An epoch visits the shards in an order drawn from (seed, epoch) and shuffles the images in blocks of `buffer`; both are
functions of the position, so a run continues by opening one shard. How many images a shard holds is counted once, from
the headers alone, and kept in the user's cache folder. A shard gives just as many in every epoch: what cannot be
read any more is named, and another image stands in for it.
"""

import os
import re
import tarfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from wavdiff.data.cache import cache_folder, digest_of, read_array, store
from wavdiff.data.protocols import EncodedImage, Split
from wavdiff.data.sources.folder import HELDOUT_FOLDERS, HELDOUT_FRACTION, heldout_rank
from wavdiff.data.sources.index import SUFFIXES as IMAGE_SUFFIXES
from wavdiff.data.sources.index import reported
from wavdiff.data.stream import FirstImages, find_substitutes
from wavdiff.system.errors import WavdiffError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


_NEEDED = 'reading shards needs the extra library webdataset: pip install "wavdiff[shards]"'


def are_shards(name: str) -> bool:
    """Tell whether a name of data means shards: it ends in .tar, or is a folder that holds .tar files and no images."""
    if name.endswith(".tar"):
        return True
    folder = Path(name).expanduser()
    places = [folder, folder / "train"]
    return any(_holds_shards(place) for place in places if place.is_dir())


def open_shards(name: str, split: Split, channels: int, buffer: int) -> "ShardStream | FirstImages":
    """Open one split of shards.

    A folder with `train/` and one of `val/`, `validation/`, `heldout/`, `test/`, each with shards, is split as they
    say. Else an image is held out if the hash of its shard's file name and its own lies in the lowest tenth, so adding
    shards moves no image.

    Args:
        name: a pattern such as "shards/train-{0000..0003}.tar" or "shards/*.tar", one shard, or a folder of shards.
        split: "train" or "heldout".
        channels: 1 for the mean of RGB, 3 to keep RGB.
        buffer: images that are shuffled at a time, which wait in memory encoded.

    Returns:
        A stream to train on; for "heldout" a source of at most 1,000 images.

    Raises:
        WavdiffError: webdataset is not installed, a shard is missing, or the split holds no images.
    """
    _webdataset()
    shards, beside = _find(name)
    if beside:
        ranks = _count(shards if split == "train" else beside)
        everything = ShardReader(name, ranks, 0 if split == "train" else 2**64)
        return everything.stream(buffer) if split == "train" else everything.heldout(channels)
    ranks = _count(shards)
    reader = ShardReader(name, ranks, heldout_below(np.concatenate(list(ranks.values()))))
    return reader.stream(buffer) if split == "train" else reader.heldout(channels)


def heldout_below(ranks: np.ndarray) -> int:
    """Give the rank below which images are held out: a tenth of all, at least one and not all of two or more.

    Args:
        ranks: uint64 (N,), the images' ranks by `heldout_rank`.
    """
    limit = int(HELDOUT_FRACTION * 2**64)
    if len(ranks) < 2:
        return 0
    return min(max(limit, int(ranks.min()) + 1), int(ranks.max()))


class ShardReader:
    """The images of some shards on one side of a rank.

    Args:
        name: what the user calls them.
        ranks: the ranks of all images of every shard, uint64.
        limit: images of a lower rank are held out.
    """

    def __init__(self, name: str, ranks: dict[Path, np.ndarray], limit: int) -> None:
        self.name = Path(name).name
        self.credit = f"the images of the shards {self.name}"
        self._shards = list(ranks)
        self._limit = limit
        self._held = {shard: sum(rank < limit for rank in of.tolist()) for shard, of in ranks.items()}
        self._kept = {shard: len(of) - self._held[shard] for shard, of in ranks.items()}
        self.digest = digest_of(limit, *((shard.name, shard.stat().st_size) for shard in self._shards))

    def stream(self, buffer: int) -> "ShardStream":
        """Give the training images."""
        if not sum(self._kept.values()):
            raise WavdiffError(f"{self.name}: the shards hold no image to train on ({', '.join(SUFFIXES)})")
        return ShardStream(self, self._shards, list(self._kept.values()), buffer)

    def heldout(self, channels: int) -> FirstImages:
        """Give the images that are held out, in the order of the shards."""
        total = sum(self._held.values())
        if not total:
            raise WavdiffError(f"{self.name}: the shards hold no image to hold out ({', '.join(SUFFIXES)})")
        return FirstImages(self.name, self.credit, self._heldout, channels, total, self.digest)

    def _heldout(self) -> Iterator[EncodedImage]:
        for shard, count in self._held.items():
            yield from read_shard(shard, lambda rank: rank < self._limit, 0, count)

    def training(self, shard: Path, skip: int) -> Iterator[EncodedImage]:
        """Give the training images of one shard, without the first ``skip``."""
        return read_shard(shard, lambda rank: rank >= self._limit, skip, self._kept[shard])


class ShardStream:
    """Training images of shards, shuffled; see `source.ImageStream`.

    Args:
        reader: reads the shards.
        shards: the shards.
        counts: images of each.
        buffer: images that are shuffled at a time.
    """

    def __init__(self, reader: ShardReader, shards: list[Path], counts: list[int], buffer: int) -> None:
        self.name, self.credit = reader.name, reader.credit
        self.digest: str | None = reader.digest
        self.length: int | None = sum(counts)
        self._reader, self._shards, self._counts, self._buffer = reader, shards, counts, buffer
        self.substitutes = find_substitutes(self._in_order(list(range(len(shards))), 0), self.name)

    def epoch(self, seed: int, number: int, skip: int = 0) -> Iterator[EncodedImage]:
        """Give the images of epoch ``number`` in the order of ``seed``, without the first ``skip``."""
        order = np.random.default_rng([seed, number]).permutation(len(self._shards)).tolist()
        block, start = divmod(skip, self._buffer)
        images = self._in_order(order, block * self._buffer)
        while True:
            waiting = list(islice(images, self._buffer))
            if not waiting:
                return
            for place in np.random.default_rng([seed, number, block]).permutation(len(waiting))[start:].tolist():
                yield waiting[place]
            block, start = block + 1, 0

    def _in_order(self, order: list[int], skip: int) -> Iterator[EncodedImage]:
        """Give the images of shards one after the other; shards that lie before the first image are not opened."""
        for place in order:
            count = self._counts[place]
            if skip < count:
                yield from self._reader.training(self._shards[place], skip)
            skip = max(skip - count, 0)


def read_shard(shard: Path, wanted: Callable[[int], bool], skip: int, count: int) -> Iterator[EncodedImage]:
    """Read some images of a shard.

    Args:
        shard: the tar file.
        wanted: says of an image's rank whether it is one of them.
        skip: so many of them are passed over, without keeping their bytes.
        count: how many there were when the shard was counted.

    Yields:
        ``count - skip`` images. Where the shard is damaged and has fewer, empty ones, which do not decode.

    Warns:
        UserWarning: the shard is damaged or gone.
    """
    seen = 0

    def select(member: str) -> bool:
        nonlocal seen
        if not is_image(member) or not wanted(_rank(shard, member)):
            return False
        seen += 1
        return seen > skip

    def go_on(error: Exception) -> bool:
        warnings.warn(f"{shard}: the rest is skipped: {str(error.args[0]) if error.args else error}", stacklevel=2)
        return True

    given = 0
    try:
        with open(shard, "rb") as file:
            source = [{"url": str(shard), "stream": file}]
            files = _webdataset().tar_file_expander(source, handler=go_on, select_files=select, eof_value=None)
            for member in islice(files, count - skip):
                given += 1
                yield EncodedImage(member["data"], f"{shard.name}/{member['fname']}")
    except OSError as error:
        go_on(error)
    for _ in range(count - skip - given):
        yield EncodedImage(b"", f"{shard.name}: an image that was there at the start")


def is_image(member: str) -> bool:
    """Tell whether a member of a tar file is an image by its name; webdataset passes over names like __this__."""
    return member.lower().endswith(SUFFIXES) and not re.match(r"__[^/]*__($|/)", member)


def _rank(shard: Path, member: str) -> int:
    return heldout_rank(f"{shard.name}/{member}")


def _webdataset() -> Any:
    try:
        from webdataset import tariterators
    except ImportError as error:
        raise WavdiffError(_NEEDED) from error
    return tariterators


def _tars(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.suffix.lower() == ".tar")


def _holds_shards(folder: Path) -> bool:
    """Tell whether tar files lie directly in a folder and no images; of a folder of images, one entry is enough."""
    found = False
    with os.scandir(folder) as entries:
        for entry in entries:
            suffix = os.path.splitext(entry.name)[1].lower()
            if suffix in IMAGE_SUFFIXES:
                return False
            found = found or suffix == ".tar"
    return found


def _find(name: str) -> tuple[list[Path], list[Path]]:
    """Find (shards, shards that are held out as a whole)."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        inside, train = _tars(folder), _tars(folder / "train")
        beside = next((found for top in HELDOUT_FOLDERS if (found := _tars(folder / top))), [])
        return (train, beside) if train and beside else (sorted({*inside, *train}), [])
    from webdataset.shardlists import expand_urls

    shards: list[Path] = []
    for text in expand_urls(str(folder)):
        path = Path(text)
        found = sorted(path.parent.glob(path.name)) if any(sign in path.name for sign in "*?[") else [path]
        if not found or not found[0].is_file():
            raise WavdiffError(f"data: {text}: no such shard")
        shards += found
    return shards, []


def _count(shards: list[Path]) -> dict[Path, np.ndarray]:
    """Find the ranks of the images of every shard, uint64, from the headers or from what is known of them."""
    entries = {}
    for shard in shards:
        status = shard.stat()
        key = digest_of(shard.resolve(), shard.name, status.st_size, status.st_mtime_ns)
        entries[shard] = cache_folder() / "shards" / f"{key}.npy"
    ranks = {shard: read_array(entry, np.dtype(np.uint64)) for shard, entry in entries.items()}
    unknown = [place for place, shard in enumerate(shards) if ranks[shard] is None]
    for place in reported(unknown, "counting the images of the shards"):
        shard = shards[place]
        counted = ranks[shard] = _count_one(shard)
        store(entries[shard], partial(np.save, arr=counted, allow_pickle=False))
    return {shard: of for shard, of in ranks.items() if of is not None}


def _count_one(shard: Path) -> np.ndarray:
    found = []
    try:
        with tarfile.open(shard) as archive:
            for member in archive:
                if member.isreg() and is_image(member.name):
                    found.append(_rank(shard, member.name))
            # The library takes the end of the file for the end of the archive, which is a block of zeros.
            if archive.fileobj is not None:
                archive.fileobj.seek(archive.offset)
                if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                    raise tarfile.ReadError("cut off, it has no end mark")
    except (tarfile.TarError, OSError, EOFError) as error:
        warnings.warn(f"{shard}: damaged or no tar file, images up to there count: {error}", stacklevel=5)
    return np.array(found, dtype=np.uint64)
