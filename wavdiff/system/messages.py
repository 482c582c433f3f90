"""Values and texts as messages show them, and the checks of numbers that users give."""

from __future__ import annotations

import reprlib
from typing import Any

from wavdiff.system.errors import WavdiffError


def real_number(value: Any, name: str) -> float:
    """A number, or a tensor or array of one, as Python's float.

    Raises:
        WavdiffError: it is none.
    """
    try:
        if isinstance(value, str | bytes | bool):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise WavdiffError(f"{name} must be one number, got {shown(value)}") from None


def whole_number(value: Any, name: str) -> int:
    """A whole number, also as 2.0 or a tensor or array of one, as Python's int.

    Raises:
        WavdiffError: it is none.
    """
    if type(value) is int:
        return value
    number = real_number(value, name)
    if not number.is_integer():
        raise WavdiffError(f"{name} must be a whole number, got {shown(value)}")
    return int(value)


def check_sigma(sigma: Any, name: str = "sigma") -> float:
    """`sigma` if it is a noise level in [0, 1] units.

    Raises:
        WavdiffError: no number, negative, not finite, or 1 and more, with a hint at the 0..255 convention.
    """
    sigma = real_number(sigma, name)
    if not 0 <= sigma < 1:
        hint = f"; did you mean {sigma:g}/255 = {sigma / 255:.3f}?" if 1 <= sigma <= 255 else ""
        raise WavdiffError(f"{name} is a standard deviation in [0, 1) of the image's range, got {sigma:g}{hint}")
    return sigma


def check_temperature(temperature: Any, name: str = "temperature") -> float:
    """`temperature` if it is a factor of standard deviations.

    Raises:
        WavdiffError: no number, or out of (0, 10].
    """
    temperature = real_number(temperature, name)
    if not 0 < temperature <= 10:
        raise WavdiffError(f"{name} must be above 0 and at most 10, got {temperature:g}")
    return temperature


class _Short(reprlib.Repr):
    """`repr`, cut where it is long; an integer of thousands of digits has none at all in Python."""

    def repr_int(self, x: int, level: int) -> str:
        """The integer, or how long it is."""
        return super().repr_int(x, level) if abs(x) < 10**60 else f"an integer of {x.bit_length()} bits"


_SHORT = _Short()
_SHORT.maxlevel, _SHORT.maxdict, _SHORT.maxlist, _SHORT.maxtuple = 3, 8, 8, 8
_SHORT.maxstring = _SHORT.maxother = 120


def shown(value: object) -> str:
    """A value as messages show it: `repr`, at most some hundred characters."""
    return _SHORT.repr(value)


def one_line(text: str) -> str:
    """Text without line breaks and other characters that a terminal would obey or that cannot be encoded."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
