"""The texts of the options of `wavdiff sample` as numbers; WavdiffError names the option, the rule and the text."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from wavdiff.cli.options import MOST_STEPS, check_number, noise_level, refuse_given, whole_numbers
from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import shown

if TYPE_CHECKING:
    from wavdiff.models.cascade.ascent import Ascent

LARGEST_SIDE = 4096


def _two_numbers(option: str, least: int, example: str, text: str | None) -> tuple[int, int] | None:
    """LOW,DETAILS as whole numbers, or one number for both; None for none given."""
    if text is None:
        return None
    numbers = whole_numbers(text)
    if not numbers or len(numbers) > 2 or min(numbers) < least:
        raise WavdiffError(f"{option} is a number of at least {least}, or two as in {example}, got {shown(text)}")
    check_number(option, max(numbers), least, MOST_STEPS)
    return numbers[0], numbers[-1]


read_steps = partial(_two_numbers, "--steps", 1, "24,10")
read_correctors = partial(_two_numbers, "--correctors", 0, "3,0")


def read_ascents(texts: dict[str, str | None], solver: str | None) -> tuple[Ascent, Ascent] | None:
    """(low-pass, details) of `--solver ascent`, or None for another solver."""
    from wavdiff.models.cascade.ascent import DETAIL_ASCENT, LOWPASS_ASCENT

    given = {option: text for option, text in texts.items() if text is not None}
    if solver != "ascent":
        refuse_given(dict.fromkeys(given, True), f"is for --solver ascent, got --solver {solver or '(the model’s)'}")
        return None
    low: dict[str, Any] = {}
    details: dict[str, Any] = {}
    for option, text in given.items():
        values: list[Any] = text.split(",")
        name = option.removeprefix("--").replace("-", "_")
        if option != "--step-size":
            values = [noise_level(part, option) for part in values]
        elif set(values) <= {"fixed", "growing"}:
            name, values = "growing", [word == "growing" for word in values]
        else:
            raise WavdiffError(f"--step-size is fixed or growing, got {shown(text)}")
        if len(values) > 2:
            raise WavdiffError(f"{option} is one value, or LOW,DETAILS, got {shown(text)}")
        low[name], details[name] = values[0], values[-1]
    try:
        return replace(LOWPASS_ASCENT, **low), replace(DETAIL_ASCENT, **details)
    except WavdiffError as error:
        raise WavdiffError(f"--solver ascent: {error}") from error


def read_range(text: str | None) -> tuple[float, float] | Literal["model"] | None:
    """LOW,HIGH of --range; None for "none", and "model" where it is not given."""
    from wavdiff.models.cascade.verbs import check_range

    if text is None:
        return "model"
    if text.strip().lower() == "none":
        return None
    limits = [noise_level(part, "--range") for part in text.split(",")]
    check_range(limits, "--range")
    return limits[0], limits[1]


def read_size(text: str | None) -> tuple[int, int] | None:
    """HEIGHTxWIDTH of --size, or one number for both."""
    if text is None:
        return None
    sides = whole_numbers(text.lower(), "x")
    if not sides or len(sides) > 2 or min(sides) < 1:
        raise WavdiffError(f"--size is HEIGHTxWIDTH, such as 64x64, got {shown(text)}")
    if max(sides) > LARGEST_SIDE:
        raise WavdiffError(f"--size: a side has at most {LARGEST_SIDE} pixels, got {shown(text)}")
    return sides[0], sides[-1]
