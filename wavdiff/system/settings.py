"""Frozen dataclasses from YAML mappings: types converted, unknown names and wrong values refused with their place."""

from __future__ import annotations

import contextlib
import dataclasses
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import shown


def require(condition: bool, rule: str, value: object) -> None:
    """Refuse a value; raises WavdiffError with the rule and the value."""
    if not condition:
        raise WavdiffError(f"configuration: {rule}, got {shown(value)}")


@dataclass(frozen=True)
class Rule:
    """What a value must be: a test, and the words after "must be"."""

    test: Callable[[Any], bool]
    text: str


def at_least(least: float) -> Rule:
    """`least` and more."""
    return Rule(lambda value: value >= least, f"at least {least}")


def within(low: float, high: float, ends: str = "[]") -> Rule:
    """Between two numbers; `ends` are the interval's brackets, "(" and ")" for an end that is not in it."""

    def test(value: float) -> bool:
        above = value >= low if ends[0] == "[" else value > low
        return above and (value <= high if ends[1] == "]" else value < high)

    return Rule(test, f"in {ends[0]}{low:g}, {high:g}{ends[1]}")


def one_of(*names: str) -> Rule:
    """One of some names."""
    return Rule(lambda value: value in names, f"{', '.join(names[:-1])} or {names[-1]}")


POSITIVE = Rule(lambda value: value > 0, "positive")


def setting(default: Any, rule: Rule) -> Any:
    """A field of a `Checked` dataclass; None, where its type allows it, passes every rule."""
    return dataclasses.field(default=default, metadata={"rule": rule})


class Checked:
    """A dataclass that holds its fields to their rules when it is made.

    Attributes:
        where: what stands before a field's name in messages: "training."
    """

    where: ClassVar[str]

    def __post_init__(self) -> None:
        for field in dataclasses.fields(typing.cast(Any, self)):
            rule, value = field.metadata.get("rule"), getattr(self, field.name)
            if rule is not None and value is not None:
                require(rule.test(value), f"{self.where}{field.name} must be {rule.text}", value)


def _convert(annotation: Any, value: Any, where: str) -> Any:
    """`value` from YAML as `annotation`, or a WavdiffError that names `where`."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _convert(next(option for option in arguments if option is not type(None)), value, where)
    if dataclasses.is_dataclass(annotation):
        if not isinstance(value, dict):
            raise WavdiffError(f"configuration: {where} must be a mapping, got {shown(value)}")
        return from_fields(typing.cast(type, annotation), value, where)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            value = [value] * 2 if isinstance(value, int) and Ellipsis not in arguments else value
        if not isinstance(value, (list, tuple)) or (Ellipsis not in arguments and len(value) != len(arguments)):
            raise WavdiffError(f"configuration: {where} must be a list of {len(arguments)} values, got {shown(value)}")
        return tuple(_convert(arguments[0], item, where) for item in value)
    if origin is dict and isinstance(value, dict):  # YAML reads the name of scale 0 as a number
        return {str(key): item for key, item in value.items()}
    if annotation is float and not isinstance(value, bool) and isinstance(value, (int, float, str)):
        with contextlib.suppress(ValueError, OverflowError):  # YAML 1.1 reads 1e-3 as text
            number = float(value)
            if number == number:
                return number
    target = origin or annotation
    if isinstance(value, float) and value != value:
        raise WavdiffError(f"configuration: {where} must be a number, got nan")
    if not isinstance(value, target) or (isinstance(value, bool) and target is not bool):
        raise WavdiffError(f"configuration: {where} must be of type {target.__name__}, got {shown(value)}")
    return value


def from_fields(kind: type, mapping: dict[str, Any], where: str = "") -> Any:
    """A dataclass `kind` from a mapping; raises WavdiffError for unknown names and wrong types, which it names."""
    types_of = typing.get_type_hints(kind)
    hints = {field.name: types_of[field.name] for field in dataclasses.fields(kind)}
    unknown = [str(name) for name in mapping if name not in hints]
    if unknown:
        place = where or "the file"
        raise WavdiffError(f"configuration: {place} has no setting {shown(unknown[0])}; known: {', '.join(hints)}")
    prefix = f"{where}." if where else ""
    return kind(**{name: _convert(hints[name], value, prefix + name) for name, value in mapping.items()})


def merge_setting(base: dict[str, Any], name: str, value: Any) -> None:
    """Set the value with the dotted `name` inside nested mappings."""
    *path, last = name.split(".")
    for part in path:
        base = base.setdefault(part, {})
        if not isinstance(base, dict):
            raise WavdiffError(f"configuration: {shown(name)} names something inside a value")
    base[last] = value
