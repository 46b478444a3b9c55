"""Checks of config dataclasses and of arguments like their fields: the one place that says what a field may hold."""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
from collections.abc import Sequence
from types import NoneType
from typing import Any, Literal, NamedTuple, TypeGuard, TypeVar, get_args, get_origin, get_type_hints

import numpy as np

Config = TypeVar("Config")


class Bounds(NamedTuple):
    """Bounds that a number must satisfy; None means no bound."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None

    def allows(self, value: float) -> bool:
        """Whether the value satisfies all bounds."""
        return (
            (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        if self.at_least is not None and self.at_most is not None:
            return f"from {self.at_least} to {self.at_most}"
        low = (f"of at least {self.at_least}", f"above {self.above}")
        high = (f"at most {self.at_most}", f"below {self.below}")
        texts = zip((*low, *high), (self.at_least, self.above, self.at_most, self.below), strict=True)
        return " and ".join(text for text, bound in texts if bound is not None)


_COUNT = Bounds(at_least=1)
_WEIGHT = Bounds(at_least=0)


def check_fields(config: Any, *, may_be_empty: tuple[str, ...] = (), **bounds: Bounds) -> None:
    """Checks all fields of a config by their annotations, and makes their values plain Python's.

    ===================== ==================================================================================
    ``bool``              True or False
    ``int``               an integer, by default of at least 1
    ``float``             a finite number, by default of at least 0
    ``tuple[int, ...]``   a sequence or 1-D array of sizes of at least 1, by default one or more
    ``tuple[str, ...]``   a sequence of strings
    ``tuple[float, ...]`` a sequence of finite numbers, by default of at least 0
    ``str``               a string
    ``Literal``           one of its values
    a dataclass           an instance of it
    ``X | None``          None, or a value that X allows
    ===================== ==================================================================================

    Numpy's scalars are accepted and become Python's. A bool is not a number.

    Args:
        config: an instance of a dataclass, which may be frozen.
        may_be_empty: names of the ``tuple[int, ...]`` fields that may be empty.
        bounds: bounds, by name, of the fields that do not have the default ones.

    Raises:
        ValueError: a field that holds something else: "<config>: <field> must <expectation>, got <actual value>".
    """
    for name, kind in _field_types(type(config)).items():  # type: ignore[arg-type]  # mypy doubts that types can be hashed
        value = getattr(config, name)
        expected, checked = _check(kind, value, bounds.get(name), name in may_be_empty)
        if checked is _REFUSED:
            shown = list(value) if isinstance(value, tuple) else value
            shown = value.tolist() if isinstance(value, np.ndarray) else shown
            raise ValueError(f"{type(config).__name__}: {name} must {expected}, got {shown!r}")
        object.__setattr__(config, name, checked)


def check_object(section: object) -> dict[str, Any]:
    """Checks that a value parsed from JSON is an object, and returns it.

    Raises:
        ValueError: the value is not an object.
    """
    if not isinstance(section, dict):
        raise ValueError("there is nothing" if section is None else f"there is {section!r}")
    return section


def config_from_section(kind: type[Config], section: object) -> Config:
    """Builds a config from its fields as parsed from JSON.

    Args:
        kind: a dataclass that checks its fields.
        section: a JSON object of its fields.

    Raises:
        ValueError: the section is not an object, or a field is unknown, missing or refused by the dataclass.
    """
    section = check_object(section)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]  # a dataclass
    for name in section:
        if name not in fields:
            raise ValueError(f"{name!r} is not known to this version")
    for name, field in fields.items():
        has_default = not (field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING)
        if name not in section and not has_default:
            raise ValueError(f"{name!r} is missing")
    return kind(**section)


def check_integer(owner: str | None, name: str, value: object, bounds: Bounds = Bounds(at_least=1)) -> int:  # noqa: B008
    """Checks that an argument is an integer, as :func:`check_fields` checks a field.

    Args:
        owner: the function or class that takes the argument; None for an option of the command line, whose message
            begins with ``name``.
        name: what the message calls the argument.
        value: the value to check.
        bounds: what the integer must satisfy, by default at least 1.

    Returns:
        The value as Python's ``int``.

    Raises:
        ValueError: it is something else: "<owner>: <name> must be an integer <bounds>, got <actual value>".
    """
    return int(_checked_argument(int, owner, name, value, bounds))


def check_number(owner: str | None, name: str, value: object, bounds: Bounds = Bounds(at_least=0)) -> float:  # noqa: B008
    """Checks that an argument is a finite number, by default at least 0; arguments as for :func:`check_integer`.

    Returns:
        The value as Python's ``float``.

    Raises:
        ValueError: it is something else: "<owner>: <name> must be a finite number <bounds>, got <actual value>".
    """
    return float(_checked_argument(float, owner, name, value, bounds))


def is_integer(value: object) -> bool:
    """Whether the value is an integer of Python or numpy; a bool is not."""
    return _to_integer(value) is not None


def check_unused(config: Any, reason: str, *names: str) -> None:
    """Refuses fields that would have no effect.

    Args:
        config: an instance of a dataclass.
        reason: the requirement that the config does not meet, as the beginning of the message, such as
            "codebook_update must be 'ema'".
        names: the fields, which must have their defaults.

    Raises:
        ValueError: a field that has another value.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    for name in names:
        if getattr(config, name) != defaults[name]:
            raise ValueError(
                f"{type(config).__name__}: {reason} for {name} to mean anything, got {getattr(config, name)!r}"
            )


_REFUSED: Any = object()


def _checked_argument(kind: type, owner: str | None, name: str, value: object, bounds: Bounds) -> Any:
    expected, checked = _check(kind, value, bounds, False)
    if checked is _REFUSED:
        argument = name if owner is None else f"{owner}: {name}"
        raise ValueError(f"{argument} must {expected}, got {value!r}")
    return checked


@functools.cache
def _field_types(config: Any) -> dict[str, Any]:
    hints = get_type_hints(config)
    return {field.name: hints[field.name] for field in dataclasses.fields(config)}


def _check(kind: Any, value: object, bounds: Bounds | None, may_be_empty: bool) -> tuple[str, Any]:
    """Returns what a field of this kind must do, for the message, and the value as plain Python's or ``_REFUSED``."""
    if kind is bool:
        return "be True or False", bool(value) if isinstance(value, bool | np.bool_) else _REFUSED
    if kind is int:
        bounds = bounds or _COUNT
        integer = _to_integer(value)
        return f"be an integer {bounds}", integer if integer is not None and bounds.allows(integer) else _REFUSED
    if kind is float:
        bounds = bounds or _WEIGHT
        number = _to_finite_number(value)
        return f"be a finite number {bounds}", number if number is not None and bounds.allows(number) else _REFUSED
    if kind is str:
        return "be text", str(value) if isinstance(value, str) else _REFUSED
    if kind == tuple[int, ...]:
        sizes = [_to_integer(size) for size in value] if _is_sequence(value) else [None]
        fits = (sizes or may_be_empty) and all(size is not None and size >= 1 for size in sizes)
        return "hold sizes of at least 1", tuple(sizes) if fits else _REFUSED
    if kind == tuple[str, ...]:
        fits = _is_sequence(value) and all(isinstance(text, str) for text in value)
        return "hold texts", tuple(value) if fits else _REFUSED  # type: ignore[arg-type]
    if kind == tuple[float, ...]:
        bounds = bounds or _WEIGHT
        numbers = [_to_finite_number(number) for number in value] if _is_sequence(value) else [None]
        fits = all(number is not None and bounds.allows(number) for number in numbers)
        return f"hold finite numbers {bounds}".rstrip(), tuple(numbers) if fits else _REFUSED
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return f"be a {kind.__name__}", value if isinstance(value, kind) else _REFUSED
    if get_origin(kind) is Literal:
        return f"be {_join_choices(get_args(kind))}", _one_of(get_args(kind), value)
    others = [other for other in get_args(kind) if other is not NoneType]
    if len(others) != 1:
        raise TypeError(f"check_fields: a field must be of a kind that can be checked, got {kind}")
    if value is None:
        return "", None
    expected, checked = _check(others[0], value, bounds, may_be_empty)
    return f"{expected}, or None", checked


def _is_sequence(value: object) -> TypeGuard[Sequence[object]]:
    if isinstance(value, np.ndarray):
        return value.ndim == 1
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray | memoryview)


def _to_integer(value: object) -> int | None:
    is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return int(value) if is_integer else None  # type: ignore[call-overload]


def _to_finite_number(value: object) -> float | None:
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:  # an integer too large for a float
        return None
    return number if math.isfinite(number) else None


def _one_of(choices: tuple[Any, ...], value: object) -> Any:
    return next((choice for choice in choices if isinstance(value, type(choice)) and value == choice), _REFUSED)


def _join_choices(choices: tuple[Any, ...]) -> str:
    *others, last = (repr(choice) for choice in choices)
    return f"{', '.join(others)} or {last}" if others else last
