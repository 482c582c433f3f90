"""From a name or a folder to a source of images.

To add a source, write one file in `sources/` and one row in `SOURCES`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, get_args

from wavdiff.data.protocols import Images, Split
from wavdiff.system.errors import WavdiffError


@dataclass(frozen=True)
class SourceKind:
    """A row of `SOURCES`; functions of a file in `sources/` are written "file:function" and imported when needed.

    Attributes:
        name: what a user writes for it, or, of a source that is recognised, a word for it.
        opener: opens a split; called with `split` and the arguments in `takes`, all by name.
        takes: those arguments of `open_source` that the source needs.
        splits: the splits that it has.
        recognised: tells from what a user wrote whether this is the source; None for the name alone.
        crop: the side in pixels that an evaluation cuts out where no training says another; None for the largest.
        pad: whether such an evaluation puts the images on a black canvas instead.
    """

    name: str
    opener: str | Callable[..., Images]
    takes: tuple[str, ...] = ()
    splits: tuple[Split, ...] = ("train", "heldout")
    recognised: str | Callable[[str], bool] | None = None
    crop: int | None = None
    pad: bool = False

    def fits(self, name: str) -> bool:
        """Whether this is the source that a user means by `name`."""
        return name == self.name if self.recognised is None else _function(self.recognised)(name)


def _function(function: Any) -> Any:
    return resolve_name(f"wavdiff.data.sources.{function}") if isinstance(function, str) else function


_EVERY: tuple[Split, ...] = get_args(Split)
_ENCODED = ("name", "channels", "shuffle_buffer")
_FILES = ("name", "channels", "cache_megabytes", "decoded_cache")
SOURCES = [  # the first that fits counts, so a folder that has the name of a source is written "./faces"
    SourceKind("celeba", "celeba:open_celeba", ("data_dir", "channels"), _EVERY),
    SourceKind("faces", "faces:open_faces", ("data_dir", "validation"), _EVERY, crop=92),
    SourceKind("fashion-mnist", "fashion:open_fashion", ("data_dir", "validation"), _EVERY, pad=True),
    SourceKind("hub", "hub:open_hub", _ENCODED, recognised="hub:is_hub"),
    SourceKind("shards", "shards:open_shards", _ENCODED, recognised="shards:are_shards"),
    SourceKind(
        "celeba folder",
        "celeba:open_celeba_folder",
        ("name", "channels"),
        _EVERY,
        recognised="celeba:is_celeba_folder",
    ),
    SourceKind("folder", "folder:open_folder", _FILES, recognised="folder:is_folder"),
]


def source_names() -> list[str]:
    """The names of the sources that are written by name."""
    return [kind.name for kind in SOURCES if not kind.recognised]


def find_source(name: str) -> SourceKind:
    """The row of the source that a user means by `name`, or a WavdiffError."""
    for kind in SOURCES:
        if kind.fits(name):
            return kind
    what = "is a file, not a folder" if Path(name).expanduser().exists() else "no such folder"
    raise WavdiffError(
        f"data: {name!r}: {what}; expected one of the names {', '.join(source_names())}, a folder of images, "
        "shards (.tar) or hub:NAME"
    )


def open_source(
    name: str,
    split: Split,
    data_dir: Path | None = None,
    channels: int = 1,
    validation: tuple[str, ...] = (),
    cache_megabytes: int = 0,
    decoded_cache: Path | None = None,
    shuffle_buffer: int = 1000,
) -> Images:
    """Open one split of a source of images.

    Args:
        name: "faces" (ORL/AT&T), "fashion-mnist", "celeba", the path of a folder of images, shards (a folder of .tar
            files, or a pattern such as "train-{0000..0099}.tar"), or "hub:NAME" for a streamed data set of the Hugging
            Face hub or in a local folder. A folder that has one of these names is written "./faces". A folder with
            CelebA's list of splits is CelebA.
        split: "train", "heldout" (never trained on, never used for a choice), or "validation": for `faces` the
            people named in `validation`, for `celeba` the official validation images.
        data_dir: where the files of a named source lie, if not in the usual place.
        channels: 1 for gray (the mean of RGB) or 3; gray files stay gray.
        validation: for `faces`, people such as "s33" taken out of the training split, for choosing settings; for
            `fashion-mnist`, ranges such as "10000-14000" of the official training images.
        cache_megabytes: decoded images of a folder that are kept in memory.
        decoded_cache: a folder where decoded images of a folder are kept on disk, or None.
        shuffle_buffer: images of shards and streamed data sets that are shuffled at a time, and wait encoded.

    Returns:
        The source. The training images of shards and streamed data sets are an `ImageStream`, all else an
        `ImageSource`.

    Raises:
        WavdiffError: an unknown name, a missing or damaged file, an empty split, or an option that the source lacks.
    """
    if split not in get_args(Split):
        raise WavdiffError(f"split must be one of {', '.join(get_args(Split))}, not {split!r}")
    if channels not in (1, 3):
        raise WavdiffError(f"channels must be 1 (gray) or 3 (RGB), not {channels}")
    kind = find_source(name)
    given = {
        "name": name,
        "data_dir": data_dir,
        "channels": channels,
        "validation": validation,
        "cache_megabytes": cache_megabytes,
        "decoded_cache": decoded_cache,
        "shuffle_buffer": shuffle_buffer,
    }
    _refuse_options(kind, name, {option for option, value in given.items() if value and option not in kind.takes})
    if split not in kind.splits:
        raise WavdiffError(f"split: {name!r} has the splits {' and '.join(kind.splits)}, not {split}")
    images: Images = _function(kind.opener)(split=split, **{option: given[option] for option in kind.takes})
    return images


def _refuse_options(kind: SourceKind, name: str, options: set[str]) -> None:
    """Refuse those options that another source takes; settings such as the size of a buffer just have no effect."""

    def takers(option: str) -> list[str]:
        return [other.name for other in SOURCES if option in other.takes]

    if "validation" in options:
        those = " and ".join(map(repr, takers("validation")))
        raise WavdiffError(f"validation: only {those} have groups to leave out; {name!r} was asked for")
    if "decoded_cache" in options:
        raise WavdiffError(f"data.decoded_cache: is for folders of images, not for {name!r}")
    if "data_dir" in options:
        instead = f"; {name!r} is a folder itself" if kind.name == "folder" else f", not for {name!r}"
        raise WavdiffError(f"data_dir: is for the sources {', '.join(takers('data_dir'))}{instead}")
