"""WebDataset shards: tar files that hold images, read from front to back by the library `webdataset`.

An epoch visits the shards in an order drawn from (seed, epoch) and shuffles the images in blocks of `buffer`; both are
functions of the position, so a run continues by opening one shard. How many images a shard holds is counted once, from
the headers alone, and kept in the user's cache folder. A shard gives just as many in every epoch: what cannot be
read any more is named, and another image stands in for it.
"""

import operator
import os
import re
import tarfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from wavdiff.data.cache import cache_folder, digest_of, read_array, store
from wavdiff.data.protocols import EncodedImage, Images, ImageStream, Split
from wavdiff.data.sources.index import SUFFIXES as IMAGE_SUFFIXES
from wavdiff.data.sources.index import reported
from wavdiff.data.splits import HELDOUT_FOLDERS, heldout_below, heldout_rank
from wavdiff.data.stream import FirstImages, exactly, find_substitutes
from wavdiff.system.errors import WavdiffError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def are_shards(name: str) -> bool:
    """Whether a name of data means shards: it ends in .tar, or is a folder that holds .tar files and no images."""
    folder = Path(name).expanduser()
    places = (folder, folder / "train")
    return name.endswith(".tar") or any(_holds_shards(place) for place in places if place.is_dir())


def open_shards(name: str, split: Split, channels: int, shuffle_buffer: int) -> Images:
    """Open one split of shards; arguments as for `open_source`.

    A folder with `train/` and one of `val/`, `validation/`, `heldout/`, `test/`, each with shards, is split as they
    say. Else an image is held out by the hash of its shard's file name and its own, so adding shards moves no image.

    Raises:
        WavdiffError: webdataset is not installed, a shard is missing, or the split holds no images.
    """
    _webdataset()
    train, beside = _find(name)
    ranks = _count(beside if beside and split == "heldout" else train)
    everything = 0 if split == "train" else 2**64
    limit = everything if beside else heldout_below(np.concatenate(list(ranks.values())))
    wanted = partial(operator.le if split == "train" else operator.gt, limit)  # no lambda: workers unpickle it
    counts = [(shard, sum(map(wanted, of.tolist()))) for shard, of in ranks.items()]
    length = sum(count for _, count in counts)
    name = Path(name).name
    if not length:
        purpose = "train on" if split == "train" else "hold out"
        raise WavdiffError(f"{name}: the shards hold no image to {purpose} ({', '.join(SUFFIXES)})")
    credit = f"the images of the shards {name}"
    digest = digest_of(limit, *((shard.name, shard.stat().st_size) for shard in ranks))
    in_order = _in_order(counts, wanted, 0)
    if split == "heldout":
        return FirstImages(name, credit, digest, in_order, channels, length)
    substitutes = find_substitutes(in_order, name)
    return _ShardStream(name, credit, digest, length, substitutes, counts, wanted, shuffle_buffer)


@dataclass(eq=False)
class _ShardStream(ImageStream):
    """Training images: of every shard the number of those that are wanted, and what says so of an image's rank."""

    shards: list[tuple[Path, int]]
    wanted: Callable[[int], bool]
    buffer: int

    def epoch(self, seed: int, number: int, skip: int = 0) -> Iterator[EncodedImage]:
        order = np.random.default_rng([seed, number]).permutation(len(self.shards)).tolist()
        block, start = divmod(skip, self.buffer)
        images = _in_order([self.shards[place] for place in order], self.wanted, block * self.buffer)
        while waiting := list(islice(images, self.buffer)):
            for place in np.random.default_rng([seed, number, block]).permutation(len(waiting))[start:].tolist():
                yield waiting[place]
            block, start = block + 1, 0


def _in_order(shards: list[tuple[Path, int]], wanted: Callable[[int], bool], skip: int) -> Iterator[EncodedImage]:
    """The images of shards one after the other; shards that lie before the first image are not opened."""
    for shard, count in shards:
        if skip < count:
            gone = f"{shard.name}: an image that was there at the start"
            yield from exactly(_read_shard(shard, wanted, skip), count - skip, gone)
        skip = max(skip - count, 0)


def _read_shard(shard: Path, wanted: Callable[[int], bool], skip: int) -> Iterator[EncodedImage]:
    """The wanted images of a shard up to where it is damaged, which is said; of the first `skip` no bytes are kept."""
    seen = 0

    def select(member: str) -> bool:
        nonlocal seen
        if not is_image(member) or not wanted(heldout_rank(f"{shard.name}/{member}")):
            return False
        seen += 1
        return seen > skip

    def go_on(error: Exception) -> bool:
        warnings.warn(f"{shard}: the rest is skipped: {str(error.args[0]) if error.args else error}", stacklevel=2)
        return True

    try:
        with open(shard, "rb") as file:
            source = [{"url": str(shard), "stream": file}]
            files = _webdataset().tar_file_expander(source, handler=go_on, select_files=select, eof_value=None)
            for member in files:
                yield EncodedImage(member["data"], f"{shard.name}/{member['fname']}")
    except OSError as error:
        go_on(error)


def is_image(member: str) -> bool:
    """Whether a member of a tar file is an image by its name; webdataset passes over names like __this__."""
    return member.lower().endswith(SUFFIXES) and not re.match(r"__[^/]*__($|/)", member)


def _webdataset() -> Any:
    try:
        from webdataset import tariterators
    except ImportError as error:
        raise WavdiffError(
            'reading shards needs the extra library webdataset: pip install "wavdiff[shards]"'
        ) from error
    return tariterators


def _tars(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.suffix.lower() == ".tar")


def _holds_shards(folder: Path) -> bool:
    """Whether tar files lie directly in a folder and no images; of a folder of images, one entry is enough."""
    found = False
    with os.scandir(folder) as entries:
        for entry in entries:
            suffix = os.path.splitext(entry.name)[1].lower()
            if suffix in IMAGE_SUFFIXES:
                return False
            found = found or suffix == ".tar"
    return found


def _find(name: str) -> tuple[list[Path], list[Path]]:
    """The shards, and those that are held out as a whole."""
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
    """The ranks of the images of every shard, uint64, from the headers or from what is known of them."""
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
                    found.append(heldout_rank(f"{shard.name}/{member.name}"))
            # The library takes the end of the file for the end of the archive, which is a block of zeros.
            if archive.fileobj is not None:
                archive.fileobj.seek(archive.offset)
                if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                    raise tarfile.ReadError("cut off, it has no end mark")
    except (tarfile.TarError, OSError, EOFError) as error:
        warnings.warn(f"{shard}: damaged or no tar file, images up to there count: {error}", stacklevel=5)
    return np.array(found, dtype=np.uint64)
