"""sample.json: what a folder of samples was drawn with, and so what is still missing there.

The record is written before the first image, with `"finished": false`, and says all that decides the images. The same
command can then be run again in the same folder, also with more images; a command that would draw others is refused.
"""

from __future__ import annotations

import json
import platform
import shlex
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from wavdiff import __version__
from wavdiff.batch.drawers import Drawer, SamplingRequest
from wavdiff.images import check_readable
from wavdiff.models.folders import file_digest
from wavdiff.system.atomic import written_whole
from wavdiff.system.errors import WavdiffError

RECORD, SHEET, WALK, ANIMATION = "sample.json", "sheet.png", "walk.png", "walk.webp"
_WAY_OUT = "choose another --out or give --overwrite"


@dataclass(frozen=True)
class Plan:
    """What a run has to do: the record without "finished", the seeds to draw, and whether all is there already."""

    record: dict[str, Any]
    missing: tuple[int, ...]
    complete: bool


def image_name(seed: int) -> str:
    """The file of an image."""
    return f"{seed:06d}.png"


def begin(request: SamplingRequest, drawer: Drawer, out: Path, show_scales: bool, overwrite: bool) -> Plan:
    """Look at what `out` holds, and write the record of an unfinished run if something is missing; see `write_samples`.

    Raises:
        WavdiffError: `out` is a file; or it holds images of another request, or of none that is known, and `overwrite`
            is off.
    """
    if out.exists() and not out.is_dir():
        raise WavdiffError(f"--out {out} is a file, not a folder")
    record = _describe(request, drawer)
    old = None if overwrite else read_record(out)
    drawn: set[int] = set()
    if old is not None:
        _refuse_difference(out / RECORD, old, record)
        drawn.update(old["seeds"])
    names = [image_name(seed) for seed in request.seeds if seed not in drawn]
    extra = [RECORD, SHEET, *([WALK, ANIMATION] if show_scales else [])]
    taken = [name for name in (*(extra if old is None else []), *names) if (out / name).exists()]
    if taken and not overwrite:
        raise WavdiffError(f"{out / taken[0]} exists, but no {RECORD} says how it was drawn; {_WAY_OUT}")
    missing = tuple(seed for seed in request.seeds if seed not in drawn or not _is_whole(out / image_name(seed)))
    complete = (
        old is not None
        and old["finished"]
        and not missing
        and len(old["seeds"]) == len(request.seeds)
        and all(_is_whole(out / name) for name in extra[1:] if name != ANIMATION)
        and (not show_scales or (out / ANIMATION).is_file())  # several frames, which `check_readable` refuses
    )
    if not complete:
        # Nothing of another request may be left when the new record appears: a later run would take it for its own.
        for name in taken:
            (out / name).unlink()
        for leftover in out.glob(".wavdiff-*.tmp"):  # of a run that was killed
            with suppress(OSError):
                leftover.unlink()
        write_record(out, record, finished=False)
    return Plan(record, missing, complete)


def write_record(out: Path, record: dict[str, Any], *, finished: bool) -> None:
    """Write sample.json, completely or not at all."""
    with written_whole(out / RECORD) as file:
        file.write((json.dumps({**record, "finished": finished}, indent=1) + "\n").encode())


def read_record(out: Path) -> dict[str, Any] | None:
    """What sample.json says, or None where there is none.

    Raises:
        WavdiffError: it is damaged, or of a version that did not continue runs.
    """
    path = out / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, OSError, RecursionError) as error:
        raise WavdiffError(f"{path} exists and cannot be read ({error}); {_WAY_OUT}") from error
    kinds = {"finished": bool, "draws": dict, "seeds": list}
    right = isinstance(record, dict) and all(isinstance(record.get(name), kind) for name, kind in kinds.items())
    if not right or not record["seeds"] or not all(isinstance(seed, int) for seed in record["seeds"]):
        raise WavdiffError(f"{path} exists and is of a version that did not continue runs; {_WAY_OUT}")
    return record


def _describe(request: SamplingRequest, drawer: Drawer) -> dict[str, Any]:
    """The record without "finished"; what decides the images beside their seeds is under "draws"."""
    weights, settings = map(file_digest, drawer.model_files)
    draws, of_the_model = drawer.describe()
    draws = {**draws, "model": {"weights_sha256": weights, "config_sha256": settings}}
    if request.precision not in (None, "auto"):
        draws["precision"] = request.precision
    record = {
        **asdict(request),
        "model_sha256": weights,
        **of_the_model,
        "draws": draws,
        "device": drawer.device.type,
        "versions": {"wavdiff": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "repeat": _command(request),
    }
    for name in ("precision", "temperature"):  # records of versions that had no choice have no such key
        if record[name] is None:
            del record[name]
    plain: dict[str, Any] = json.loads(json.dumps(record))  # as it will be read: lists, no tuples
    return plain


def _refuse_difference(path: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    known, asked = dict(_flat(old["draws"])), dict(_flat(new["draws"]))
    for name in (*known, *asked):
        if known.get(name) != asked.get(name):
            raise WavdiffError(
                f"{path}: the images there are drawn with {name} {known.get(name)}, and now {asked.get(name)} is asked "
                f"for; {_WAY_OUT}"
            )
    before, now = old["seeds"], new["seeds"]
    if before[:1] != now[:1]:
        raise WavdiffError(f"{path}: the images there begin with --seed {before[0]}, not {now[0]}; {_WAY_OUT}")
    if now[: len(before)] != before:
        raise WavdiffError(f"{path}: --n {len(now)} does not continue the {len(before)} images there; {_WAY_OUT}")


def _flat(mapping: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in mapping.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _is_whole(path: Path) -> bool:
    """Whether there is a picture that can be read."""
    try:
        check_readable(path)
    except WavdiffError:
        return False
    return True


def _command(request: SamplingRequest) -> str:
    """The command line that draws the same images again, into another folder."""
    size, low_steps, ascents, limits = request.size, request.steps[0], request.ascents, request.lowpass_range
    given = {
        "model": shlex.quote(request.model),
        "n": len(request.seeds),
        "seed": request.seeds[0],
        "low-seed": request.low_seed,
        "size": size and f"{size[0]}x{size[1]}",
        "steps": None if low_steps is None else f"{low_steps},{request.steps[1]}",
        "solver": "ascent" if ascents else request.solver,
        "correctors": request.correctors and f"{request.correctors[0]},{request.correctors[1]}",
        **{
            name: ascents and _numbers(*(getattr(ascent, name.replace("-", "_")) for ascent in ascents))
            for name in ("beta", "h0", "sigma-0", "sigma-l")
        },
        "step-size": ascents and ",".join("growing" if ascent.growing else "fixed" for ascent in ascents),
        "range": None if limits == "model" else "none" if limits is None else _numbers(*limits),
        "stop-scale": request.stop_scale or None,
        "precision": request.precision,
        "temperature": request.temperature,
    }
    return " ".join(["wavdiff sample", *(f"--{name} {text}" for name, text in given.items() if text is not None)])


def _numbers(*values: float) -> str:
    """Numbers as an option takes them, which are read as exactly these again."""
    return ",".join(f"{value:g}" if float(f"{value:g}") == value else repr(value) for value in values)
