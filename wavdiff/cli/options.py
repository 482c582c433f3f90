"""What several commands share: options, and how their texts are read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import shown

OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace existing output files.")]
PrecisionOption = Annotated[
    str | None,
    typer.Option(help="Of the networks: float32, bf16, or auto (bf16 where it is faster); default $WAVDIFF_PRECISION."),
]
LEAST_MEMORY, MOST_MEMORY = 256 * 10**6, 10**15
LARGEST_SEED = 2**62
MOST_DRAWS = 1000
MOST_STEPS = 10_000


def check_number(name: str, value: int | None, least: int, most: int) -> None:
    """Refuse, as WavdiffError, a whole number too small, or so large that nothing could be done with it."""
    if value is not None and not least <= value <= most:
        rule = f"at least {least}" if value < least else f"at most {most}"
        raise WavdiffError(f"{name} must be {rule}, got {shown(value)}")


def whole_numbers(text: str, separator: str = ",") -> list[int] | None:
    """Whole numbers of at most 18 digits between separators; None where one is something else."""
    parts = [part.strip() for part in text.split(separator) if part.strip()]
    return [int(part) for part in parts] if all(part.isdecimal() and len(part) <= 18 for part in parts) else None


def noise_level(text: str, name: str = "--sigma") -> float:
    """A noise level "0.1" or "25/255", as the option `name` has it; WavdiffError where it is no number."""
    number, _, divisor = text.partition("/")
    try:
        return float(number) / float(divisor or 1)
    except (ValueError, ZeroDivisionError):
        raise WavdiffError(f"{name}: a noise level is a number such as 0.1 or 25/255, got {shown(text)}") from None


def noise_levels(text: str, name: str = "--sigmas") -> list[float]:
    """Noise levels between commas."""
    return [noise_level(part, name) for part in text.split(",") if part.strip()]


def is_other_family(model: str) -> bool:
    """Whether a model that is there belongs to another family than the cascade."""
    from wavdiff.models import DEFAULT_FAMILY
    from wavdiff.models.folders import family_of, find_any_model

    return family_of(find_any_model(model)).Config.family != DEFAULT_FAMILY


def refuse_existing(paths: list[Path], overwrite: bool) -> None:
    """Stop before any work where a file is in the way: WavdiffError, unless `overwrite` is given."""
    taken = [path for path in paths if path.exists()]
    if taken and not overwrite:
        raise WavdiffError(f"{taken[0]} exists; choose another --out or give --overwrite")


def refuse_given(options: dict[str, bool], why: str) -> None:
    """Refuse an option that was given and has no effect, rather than pass it over; `why` may hold its {option}."""
    for option, is_given in options.items():
        if is_given:
            raise WavdiffError(f"{option} {why.replace('{option}', option)}")


def memory_bytes(text: str) -> int:
    """Bytes of at least 256 MB: "500MB" and "1GB" count in thousands, "2GiB" in 1024s, a plain number is bytes."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*(?:([kmgt]?)(i?)b?)\s*", text, re.IGNORECASE)
    if match is None or (match[3] and not match[2]):
        raise WavdiffError(f"--memory is an amount such as 500MB, 1GB or 2GiB, got {shown(text)}")
    exact = float(match[1]) * (1024 if match[3] else 1000) ** " kmgt".index(match[2].lower() or " ")
    if exact > MOST_MEMORY:
        raise WavdiffError(f"--memory must be at most {MOST_MEMORY // 10**12}TB, got {shown(text)}")
    amount = int(exact)
    if amount < LEAST_MEMORY:
        raise WavdiffError(f"--memory must be at least {LEAST_MEMORY // 10**6}MB, got {text!r}")
    return amount
