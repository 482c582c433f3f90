"""What is white in files that use 10, 12 or 14 bits of 16, or whose numbers have no largest one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from wavdiff.images.rectangle import bands
from wavdiff.restoration.channels import Source
from wavdiff.restoration.request import RestorationRequest
from wavdiff.system.errors import WavdiffError

DEPTHS = (10, 12, 14)
"""Bits that cameras and microscopes put into files of 16."""


def used_share(reader: Source, white: float | None, messages: list[str]) -> float:
    """The white of a picture, as a part of what its file can hold; 1 where nothing else is known.

    Args:
        reader: the picture.
        white: its value in the file, where the user names it.
        messages: takes a line where a smaller white is found.
    """
    info = reader.info
    if white is not None:
        if not 0 < white <= (float("inf") if info.is_float else info.maximum):
            raise WavdiffError(f"white must be above 0 and at most {info.maximum} for this picture, got {white:g}")
        return white / info.maximum
    if info.is_float and info.white != 1:
        messages.append(f"white is taken to be the largest value, {info.white:g}; else give --white")
    if info.bits != 16:
        return 1.0
    largest = max(float(reader.read(band).colour.max()) for band in bands(info.size))
    value = round((largest + 1) / 2 * info.maximum)
    used = next((depth for depth in DEPTHS if value < 2**depth), info.bits)
    if used == info.bits or value < 1:
        return 1.0
    messages.append(f"no value is above {value}: taken as {used} bits, white {2**used - 1}; else give --white")
    return (2**used - 1) / info.maximum


def request_within(request: RestorationRequest, white: float) -> RestorationRequest:
    """The request in units of the white that was found; where the user names the white, they are so already."""
    if white == 1 or request.white is not None:
        return request
    scaled: dict[str, Any] = {}
    for name in ("sigma", "gain", "read_noise"):
        value = getattr(request, name)
        if value is not None and value >= white:
            raise WavdiffError(
                f"{name} {value:g} is of what the file can hold, of which this picture uses only {white:.3g}; "
                "give it in the picture's own range, with --white"
            )
        scaled[name] = value if value is None else value / white
    return replace(request, **scaled)
