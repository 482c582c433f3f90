"""Texts from anywhere: read with a bound, parsed with one kind of error, and shown in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import one_line

LONGEST_TEXT = 1_000_000  # bytes; the configurations of this package have some thousands


def read_text(path: Path, longest: int = LONGEST_TEXT) -> str:
    """The text of a file.

    Raises:
        WavdiffError: no ordinary file, not readable, longer than `longest` bytes, or not UTF-8; the message is the
            reason alone, without the file's name.
    """
    try:
        if path.is_dir():
            raise WavdiffError("cannot be read (it is a folder)")
        if path.exists() and not path.is_file():  # a pipe would wait for a writer, a device may never end
            raise WavdiffError("cannot be read (it is a pipe or a device, no file)")
        with path.open("rb") as file:
            content = file.read(longest + 1)
    except OSError as error:
        raise WavdiffError(f"cannot be read ({error.strerror})") from error
    if len(content) > longest:
        raise WavdiffError(f"is too long: a configuration has at most {longest} bytes, this file {path.stat().st_size}")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise WavdiffError(f"is not UTF-8 (byte {content[error.start]:#04x} at place {error.start})") from error


def parse_yaml(text: str) -> Any:
    """The value of a YAML text.

    Raises:
        WavdiffError: it is not YAML of plain values; the message is the reason alone.
    """
    import yaml

    return _parsed(yaml.safe_load, text, "YAML")


def parse_json(text: str) -> Any:
    """The value of a JSON text; raises as `parse_yaml`."""
    return _parsed(json.loads, text, "JSON")


def _parsed(parse: Callable[[str], Any], text: str, kind: str) -> Any:
    try:
        return parse(text)
    except RecursionError as error:
        raise WavdiffError(f"is not {kind} that can be read (nested too deeply)") from error
    # A YAML tag or date that does not fit its text raises whatever the conversion does.
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
        raise WavdiffError(f"is not {kind} ({one_line(reason)})") from error
