"""Values and texts as messages show them, and the check of a noise level."""

from __future__ import annotations

import reprlib

from wavdiff.system.errors import WavdiffError


def check_sigma(sigma: float, name: str = "sigma") -> float:
    """`sigma` if it is a noise level in [0, 1] units.

    Raises:
        WavdiffError: negative, not finite, or 1 and more, with a hint at the 0..255 convention.
    """
    if not 0 <= sigma < 1:
        hint = f"; did you mean {sigma:g}/255 = {sigma / 255:.3f}?" if 1 <= sigma <= 255 else ""
        raise WavdiffError(f"{name} is a standard deviation in [0, 1) of the image's range, got {sigma:g}{hint}")
    return sigma


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
