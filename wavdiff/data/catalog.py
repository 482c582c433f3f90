"""From a name or a folder to a source of images."""

from pathlib import Path
from typing import Literal, get_args, overload

from wavdiff.data.protocols import Images, ImageSource, Split
from wavdiff.data.sources.celeba import open_celeba
from wavdiff.data.sources.faces import open_faces
from wavdiff.data.sources.fashion import open_fashion
from wavdiff.data.sources.folder import open_folder
from wavdiff.data.sources.hub import PREFIX, open_hub
from wavdiff.data.sources.shards import are_shards, open_shards
from wavdiff.system.errors import WavdiffError

SOURCE_NAMES = ("celeba", "faces", "fashion-mnist")


@overload
def open_source(
    name: str,
    split: Literal["heldout", "validation"],
    data_dir: Path | None = None,
    channels: int = 1,
    validation: tuple[str, ...] = (),
    cache_megabytes: int = 0,
    decoded_cache: Path | None = None,
    shuffle_buffer: int = 1000,
) -> ImageSource: ...


@overload
def open_source(
    name: str,
    split: Split,
    data_dir: Path | None = None,
    channels: int = 1,
    validation: tuple[str, ...] = (),
    cache_megabytes: int = 0,
    decoded_cache: Path | None = None,
    shuffle_buffer: int = 1000,
) -> Images: ...


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
            Face hub or in a local folder. A folder that has one of these names is written "./faces".
        split: "train", "heldout" (never trained on, never used for a choice), or "validation": for ``faces`` the
            people named in ``validation``, for ``celeba`` the official validation images.
        data_dir: where the files of a named source lie, if not in the usual place.
        channels: 1 for gray (the mean of RGB) or 3; gray files stay gray.
        validation: for ``faces``, people such as "s33" taken out of the training split, for choosing settings.
        cache_megabytes: decoded images of a folder that are kept in memory.
        decoded_cache: a folder where decoded images of a folder are kept on disk, or None.
        shuffle_buffer: images of shards and streamed data sets that are shuffled at a time.

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
    if validation and name != "faces":
        raise WavdiffError(f"validation: only the source 'faces' has people to leave out; {name!r} was asked for")
    if split == "validation" and name not in ("faces", "celeba"):
        raise WavdiffError(f"split: {name!r} has the splits train and heldout, not validation")
    if decoded_cache is not None and (name in SOURCE_NAMES or name.startswith(PREFIX) or are_shards(name)):
        raise WavdiffError(f"data.decoded_cache: is for folders of images, not for {name!r}")
    if name == "faces":
        return open_faces(split, data_dir, validation)
    if name == "fashion-mnist":
        return open_fashion(split, data_dir)
    if name == "celeba":
        return open_celeba(split, data_dir, channels)
    if data_dir is not None and (name.startswith(PREFIX) or are_shards(name)):
        raise WavdiffError(f"data_dir: is for the sources {', '.join(SOURCE_NAMES)}, not for {name!r}")
    if name.startswith(PREFIX):
        return open_hub(name, split, channels, shuffle_buffer)
    if are_shards(name):
        return open_shards(name, split, channels, shuffle_buffer)
    folder = Path(name).expanduser()
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "no such folder"
        raise WavdiffError(
            f"data: {name!r}: {what}; expected one of the names {', '.join(SOURCE_NAMES)}, a folder of images, "
            "shards (.tar) or hub:NAME"
        )
    if data_dir is not None:
        raise WavdiffError(f"data_dir: is for the sources {', '.join(SOURCE_NAMES)}; {name!r} is a folder itself")
    return open_folder(folder, split, channels, cache_megabytes, decoded_cache)
