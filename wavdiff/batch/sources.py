"""From what a user names to the files that are meant: files, folders, patterns."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wavdiff.images.formats import readable_suffixes, writable_formats

WRITABLE_SUFFIXES = tuple(writable_formats())
READABLE_SUFFIXES = readable_suffixes()

# What may follow the suffix in the names of results: see `restoration.planned_outputs`, and `upscale --n`.
_SIDE_RESULT = r"(_(std|mean|lower|upper|input|sample)(_\w+)?|_\d{6,})?"


@dataclass(frozen=True)
class Source:
    """A file, and the folder that was given or the fixed part of a pattern; the structure below that is kept."""

    path: Path
    root: Path


@dataclass(frozen=True)
class Problem:
    """Why a file cannot be restored, or an input leads to none: its name, and one line without it."""

    name: str
    reason: str


@dataclass
class Found:
    """Files by path, each once; inputs that do not exist or hold nothing; and what was passed over, for the user."""

    sources: list[Source] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def names_many(inputs: Sequence[str]) -> bool:
    """Whether the inputs are several, or a folder, or a pattern, so that the results need a folder."""
    return len(inputs) != 1 or os.path.isdir(inputs[0]) or _is_pattern(inputs[0])


def find_sources(inputs: Sequence[str], result_suffix: str = "", output_folder: Path | None = None) -> Found:
    """The files that the inputs stand for.

    In folders and patterns hidden files are passed over, and, with a note, files that are no pictures by their suffix,
    results of earlier runs, and what lies in the output folder.

    Args:
        inputs: files, folders (searched to any depth, links to folders not followed), and patterns with `*`, `?`, `[]`
            and `**`. A file whose very name looks like a pattern is that file.
        result_suffix: by which results of earlier runs are known, such as "_denoised".
        output_folder: where the results will go, if not beside the inputs.
    """
    found = Found()
    chosen: dict[str, Source] = {}
    for text in inputs:
        path = Path(text)
        if not text:  # an unset variable of a shell, not the current folder
            found.problems.append(Problem("''", "no such file"))
            continue
        if path.is_dir():
            root, files = path, _files_below(path, found)
        elif _is_pattern(text):
            root = _fixed_part(text)
            files = (Path(name) for name in glob.iglob(os.path.expanduser(text), recursive=True))
        elif os.path.lexists(path):
            chosen.setdefault(place_of(path), Source(path, path.parent))
            continue
        else:
            found.problems.append(Problem(text, "no such file"))
            continue
        is_apart = output_folder is not None and os.path.realpath(output_folder) != os.path.realpath(root)
        for picture in _choose(text, files, result_suffix, output_folder if is_apart else None, found):
            chosen.setdefault(place_of(picture), Source(picture, root))
    found.sources = sorted(chosen.values(), key=lambda source: source.path.parts)
    return found


def place_of(path: Path) -> str:
    """One text for all ways to write the same name in the same folder; links under another name stay apart."""
    return os.path.join(os.path.realpath(path.parent), path.name)


def _is_pattern(text: str) -> bool:
    return glob.has_magic(text) and not os.path.lexists(text)


def _fixed_part(pattern: str) -> Path:
    parts = Path(os.path.expanduser(pattern)).parts
    return Path(*parts[: next(k for k, part in enumerate(parts) if glob.has_magic(part))])


def _files_below(folder: Path, found: Found) -> Iterator[Path]:
    def report(error: OSError) -> None:
        found.problems.append(Problem(str(error.filename), error.strerror or "may not be read"))

    for place, folders, names in os.walk(folder, onerror=report):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(place) / name for name in names if not name.startswith("."))


def _choose(
    text: str, files: Iterable[Path], result_suffix: str, output_folder: Path | None, found: Found
) -> list[Path]:
    """The pictures among files that were not named one by one."""
    troubles = len(found.problems)
    is_result: Callable[[str], object] = re.compile(f".+{re.escape(result_suffix)}{_SIDE_RESULT}", re.S).fullmatch
    pictures: list[Path] = []
    passed_over: Counter[str] = Counter()
    for path in files:
        if not path.is_file():
            continue
        if path.suffix.lower() not in READABLE_SUFFIXES:
            passed_over["not pictures by their suffix"] += 1
        elif output_folder is not None and Path(place_of(path)).is_relative_to(os.path.realpath(output_folder)):
            passed_over[f"in the output folder {output_folder}"] += 1
        elif result_suffix and is_result(path.stem):
            passed_over[f"named like results of an earlier run ({result_suffix})"] += 1
        else:
            pictures.append(path)
    for reason, count in passed_over.items():
        found.notes.append(f"{text}: {count} file{'s' if count > 1 else ''} passed over, {reason}")
    if not pictures and len(found.problems) == troubles:
        no_match = _is_pattern(text) and not passed_over
        found.problems.append(
            Problem(text, "no file matches" if no_match else "the folder holds no picture to restore")
        )
    return pictures
