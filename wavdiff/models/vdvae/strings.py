"""The published notation of encoders and decoders: a comma list of blocks by resolution.

`RxN`: N blocks at resolution R. `RdK` (encoder): one block at R that pools by K afterwards. `RmS` (decoder): one cell
at R that first adds the state of resolution S, enlarged. `RxNrK` (ours): N blocks at R, each applied K times in a row
with the same weights, in the decoder with a latent of its own each time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import shown

MOST_CELLS = 1000
"""Executed blocks of one string."""
_ENTRY = re.compile(r"(\d{1,4})(?:x(\d{1,4})(?:r(\d{1,4}))?|d(\d{1,4})|m(\d{1,4}))")


@dataclass(frozen=True)
class Entry:
    """One block with weights of its own.

    Attributes:
        resolution: side of what it sees.
        repeats: how often it is applied in a row.
        pool: factor of the pooling behind it; 1 for none.
        mixes: resolution of the state that is added before it; None for none.
    """

    resolution: int
    repeats: int = 1
    pool: int = 1
    mixes: int | None = None


def parse_encoder(text: str, side: int) -> tuple[Entry, ...]:
    """The encoder's blocks, from the image of `side` pixels down.

    Raises:
        WavdiffError: what is no such string, or a block that does not follow from the one before.
    """
    entries = _parse(text, "encoder", "RxN, RxNrK or RdK")
    for entry in entries:
        if entry.mixes is not None or entry.resolution != side or side % entry.pool:
            raise WavdiffError(
                f"configuration: model.encoder: after {side} pixels a block at {side} follows, and pooling divides "
                f"them, got {_text(entry)} in {shown(text)}"
            )
        side //= entry.pool
    return entries


def parse_decoder(text: str, side: int) -> tuple[Entry, ...]:
    """The decoder's cells, up to the image of `side` pixels; as `parse_encoder`."""
    entries = _parse(text, "decoder", "RxN, RxNrK or RmS")
    at = entries[0].resolution
    for place, entry in enumerate(entries):
        mixes = entry.mixes == at and entry.resolution > at and entry.resolution % at == 0
        plain = entry.mixes is None and entry.resolution == at
        if entry.pool != 1 or not (mixes if place and entry.mixes is not None else plain):
            raise WavdiffError(
                f"configuration: model.decoder: after {at} pixels a cell at {at}, or one at a multiple that mixes {at} "
                f"in, got {_text(entry)} in {shown(text)}"
            )
        at = entry.resolution
    if at != side:
        raise WavdiffError(f"configuration: model.decoder must end at the image's {side} pixels, got {shown(text)}")
    return entries


def at_one_resolution(entries: tuple[Entry, ...], side: int) -> tuple[Entry, ...]:
    """The same blocks, all at the resolution of the image: what the multi-resolution model is compared with."""
    return tuple(replace(entry, resolution=side, pool=1, mixes=None) for entry in entries)


def _parse(text: str, which: str, forms: str) -> tuple[Entry, ...]:
    entries: list[Entry] = []
    for part in text.split(","):
        found = _ENTRY.fullmatch(part.strip())
        numbers = [int(number) if number else None for number in found.groups()] if found else []
        if not numbers or 0 in numbers:
            raise WavdiffError(f"configuration: model.{which} is a comma list of {forms}, got {shown(part.strip())}")
        resolution, count, repeats, pool, mixes = numbers
        assert resolution is not None
        entries += [Entry(resolution, repeats or 1, pool or 1, mixes)] * (count or 1)
    total = sum(entry.repeats for entry in entries)
    if total > MOST_CELLS:
        raise WavdiffError(f"configuration: model.{which} has at most {MOST_CELLS} blocks, got {total}")
    return tuple(entries)


def _text(entry: Entry) -> str:
    if entry.mixes is not None:
        return f"{entry.resolution}m{entry.mixes}"
    return f"{entry.resolution}d{entry.pool}" if entry.pool > 1 else f"{entry.resolution}x1"
