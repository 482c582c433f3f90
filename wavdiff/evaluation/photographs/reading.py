"""Clean photographs from a folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from wavdiff.data.sources.index import SUFFIXES
from wavdiff.images import load_image
from wavdiff.system.errors import WavdiffError


@dataclass(frozen=True)
class Photograph:
    """A clean picture: its name, which seeds its noise, and its pixels, (C, H, W) in [-1, 1], C = 1 or 3."""

    name: str
    pixels: Tensor


def find_photographs(place: Path) -> dict[str, Path]:
    """List the pictures of a folder, at any depth.

    Args:
        place: a folder, whose hidden files and folders are passed over, or one picture.

    Returns:
        {name: file}, sorted by name; a name is the path in the folder, with forward slashes.

    Raises:
        WavdiffError: no such folder, or one without pictures.
    """
    if place.is_file():
        return {place.name: place}
    if not place.is_dir():
        raise WavdiffError(f"{place}: no such folder of photographs (a source of training images is named by --data)")
    names = {path.relative_to(place).as_posix(): path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES}
    found = {name: path for name, path in sorted(names.items()) if "/." not in f"/{name}" and path.is_file()}
    if not found:
        raise WavdiffError(f"{place}: holds no picture ({', '.join(SUFFIXES)})")
    return found


def central(pixels: Tensor, side: int | None) -> Tensor:
    """The central part of at most `side` pixels a side, as (H - side) // 2 rows from the top; all of it for None."""
    height, width = (length if side is None else min(side, length) for length in pixels.shape[-2:])
    top, left = (pixels.shape[-2] - height) // 2, (pixels.shape[-1] - width) // 2
    return pixels[..., top : top + height, left : left + width]


def read_photographs(files: Mapping[str, Path], skipped: list[str]) -> Iterable[Photograph]:
    """Read pictures one by one as they are asked for; why one cannot be read goes to `skipped`.

    Transparency is passed over: what lies under it is measured too.
    """
    for name, path in files.items():
        try:
            pixels = load_image(path).pixels
        except WavdiffError as error:
            skipped.append(str(error).replace(str(path), name))
            continue
        yield Photograph(name, pixels)
