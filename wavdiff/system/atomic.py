"""Files that appear complete or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from wavdiff.system.errors import WavdiffError


@contextmanager
def written_whole(target: Path) -> Iterator[BinaryIO]:
    """Write a file beside its place under a temporary name, and move it there once it is complete.

    Missing folders are made. The bytes are on the disk before the name is, so that not even a power cut leaves half a
    file. After an exception nothing is left, and what stood there before stands there still.

    Args:
        target: the file to be written.

    Yields:
        An open file for writing and reading.

    Raises:
        WavdiffError: the folder or the file cannot be written.
    """
    temporary = target.with_name(f".wavdiff-{secrets.token_hex(6)}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
        sync_folder(target.parent)
    except OSError as error:
        raise WavdiffError(f"{target}: cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # gone after the move, or never made
            temporary.unlink()


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the system and the file system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def replace_folder(fresh: Path, target: Path) -> None:
    """Put the complete folder `fresh` in the place of `target`."""
    old = target.with_name(f".replaced-{target.name}")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        os.replace(target, old)
    os.replace(fresh, target)
    shutil.rmtree(old, ignore_errors=True)


def recover_folder(target: Path) -> None:
    """Clean up after a process that was killed in `replace_folder`."""
    old = target.with_name(f".replaced-{target.name}")
    if old.is_dir() and not target.exists():
        os.replace(old, target)
    for leftover in (old, target.with_name(f".unfinished-{target.name}")):
        shutil.rmtree(leftover, ignore_errors=True)
