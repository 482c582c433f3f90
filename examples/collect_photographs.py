"""Assemble a folder of photographs for `wavdiff train --config photos --data OUT`.

Usage:
    collect_photographs.py OUT                      downloads three Debian packages (185 MB) with apt-get
    collect_photographs.py OUT --packages FOLDER    takes them from FOLDER: .deb files, or unpacked
    collect_photographs.py OUT --from FOLDER        takes your own photographs instead

Both options together take both. Writes RGB PNGs into OUT/train and, every tenth one, OUT/val, and OUT/CREDITS.md: who
made each photograph, its licence as far as the package states it, and where it came from. Photographs wider than 1400
pixels are halved (means of 2x2 blocks), which removes the softness of their compression; what is then below 500 pixels
on a side is left out. Names and split depend on the packages, or your folder, alone. OUT appears when it is complete;
if it is there already, nothing is done.

The photographs keep their own licences: neither OUT nor a photograph of it belongs into a repository.
See docs/photographs.md for what is in the packages.
"""

import argparse
import os
import re
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from photograph_packages import Photograph, UnpackedPackages, download, package_photographs, package_roots
from PIL import Image

from wavdiff.data.sources.folder import SUFFIXES
from wavdiff.images import read_pixels
from wavdiff.system.errors import WavdiffError

WIDEST = 1400
SMALLEST = 500


def own_photographs(folder: Path) -> Iterator[Photograph]:
    """All pictures of a folder, at any depth, in the order of their paths; what is hidden is passed over."""
    if not folder.is_dir():
        raise WavdiffError(f"--from {folder}: no such folder")
    for path in sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).parts):
        inside = path.relative_to(folder)
        if path.suffix.lower() in SUFFIXES and path.is_file() and not any(p.startswith(".") for p in inside.parts):
            yield Photograph("_".join(inside.with_suffix("").parts), path, f"{folder}: {inside.as_posix()}")


def prepared(pixels: np.ndarray) -> np.ndarray | None:
    """RGB of the size to train on, or None for what is too small. uint8 (H, W) or (H, W, 3)."""
    colour = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
    if colour.shape[1] > WIDEST:
        # Rounded means of 2x2 blocks; where the sides are odd, of what there is of a block.
        colour = np.asarray(Image.fromarray(colour).reduce(2))
    return colour if min(colour.shape[:2]) >= SMALLEST else None


def write_photographs(photographs: Iterator[Photograph], folder: Path) -> list[str]:
    """Write train/, val/ and CREDITS.md; returns the relative paths of the pictures."""
    rows: list[tuple[str, Photograph]] = []
    taken: set[str] = set()
    for part in ("train", "val"):
        (folder / part).mkdir()
    spool = folder / ".spool"
    for photograph in photographs:
        path = photograph.content if isinstance(photograph.content, Path) else spool
        if isinstance(photograph.content, bytes):
            spool.write_bytes(photograph.content)
        try:
            pixels = prepared(read_pixels(path))
        except WavdiffError as error:
            print(f"left out: {photograph.origin}: {str(error).rpartition('.spool: ')[2]}", file=sys.stderr)
            continue
        if pixels is None:
            continue
        name, count = photograph.name, 1
        while name.casefold() in taken:
            count += 1
            name = f"{photograph.name}_{count}"
        taken.add(name.casefold())
        part = "val" if len(rows) % 10 == 9 else "train"
        Image.fromarray(pixels).save(folder / part / f"{name}.png")
        rows.append((f"{part}/{name}.png", photograph))
    spool.unlink(missing_ok=True)
    if 2 <= len(rows) < 10:  # too few for a tenth one; still, one is needed
        last = Path(rows[-1][0]).name
        os.replace(folder / "train" / last, folder / "val" / last)
        rows[-1] = (f"val/{last}", rows[-1][1])
    (folder / "CREDITS.md").write_text(credits(rows), encoding="utf-8")
    return [name for name, _ in rows]


def one_line(text: str) -> str:
    """A field for the table: one line, without what would end a cell."""
    return re.sub(r"\s*\n\s*", "; ", text.strip()).replace("|", "\\|")


def credits(rows: Sequence[tuple[str, Photograph]]) -> str:
    """The text of CREDITS.md."""
    lines = [
        "# Where these photographs come from",
        "",
        "`examples/collect_photographs.py` of wavdiff decoded them, halved those wider than 1400 pixels (means of 2x2",
        "blocks) and stored them as PNG; nothing else was changed. Each keeps its own licence, stated here as its",
        "package states it. Read it before you pass a photograph on.",
        "",
        "| file | from | copyright | licence | source |",
        "|---|---|---|---|---|",
    ]
    for name, photograph in rows:
        cells = (name, photograph.origin, photograph.copyright, photograph.licence or "not stated", photograph.source)
        lines.append(f"| {' | '.join(one_line(cell) for cell in cells)} |")
    return "\n".join(lines) + "\n"


def collect(out: Path, packages: Path | None = None, own: Path | None = None) -> str:
    """Make the folder `out`; returns what to tell the user.

    Raises:
        WavdiffError: something else in the place of `out`, missing packages or folders, or no photographs.
    """
    if (out / "CREDITS.md").is_file():
        count = len(list(out.glob("*/*.png")))
        return f"{out} is there already, with {count} photographs; remove it to collect them anew"
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise WavdiffError(f"{out}: exists and is not a folder of photographs made by this program; name another one")
    work = out.absolute().with_name(f".{out.absolute().name}.{secrets.token_hex(4)}.tmp")
    work.parent.mkdir(parents=True, exist_ok=True)
    work.mkdir()
    try:
        with tempfile.TemporaryDirectory() as temporary:
            sources: list[Iterator[Photograph]] = []
            if packages is not None or own is None:
                roots = package_roots_or_download(packages, Path(temporary))
                sources.append(package_photographs(UnpackedPackages(roots)))
            if own is not None:
                sources.append(own_photographs(own))
            names = write_photographs(chain.from_iterable(sources), work)
        if not names:
            raise WavdiffError(f"no photograph of at least {SMALLEST} pixels on its smaller side was found")
        if out.is_dir():
            out.rmdir()
        os.replace(work, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    held_out = sum(name.startswith("val/") for name in names)
    return f"{out}: {len(names) - held_out} photographs for training, {held_out} for validation"


def package_roots_or_download(packages: Path | None, scratch: Path) -> list[Path]:
    """Folders with unpacked packages, which are downloaded if no folder is given."""
    (scratch / "unpacked").mkdir()
    if packages is None:
        packages = scratch / "downloaded"
        packages.mkdir()
        print("downloading 185 MB ...")
        download(packages)
    return package_roots(packages, scratch / "unpacked")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, usage=argparse.SUPPRESS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder to be made")
    parser.add_argument("--packages", type=Path, metavar="FOLDER", help="with the three packages, as .deb or unpacked")
    parser.add_argument("--from", dest="own", type=Path, metavar="FOLDER", help="with photographs of your own")
    chosen = parser.parse_args(arguments)
    try:
        print(collect(chosen.out, chosen.packages, chosen.own))
    except (WavdiffError, OSError) as error:
        print(f"collect_photographs: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
