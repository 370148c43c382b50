"""pydantic's validation with our errors: one line with what was expected and what came."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, TypeVar, cast, dataclass_transform

import pydantic
from pydantic import ConfigDict, Field, Strict, ValidationError

from slateflow.errors import InputError

T = TypeVar("T")

Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
"""Seeds that every library accepts: NumPy any whole number, torch 64 bits."""
MOST_EPISODES = 100_000_000
"""Most episodes of a dataset: 120 times the largest number measured; their plan takes 0.2 GB."""
Episodes = Annotated[int, Field(ge=1, le=MOST_EPISODES)]
Names = Annotated[tuple[str, ...], Strict(False)]
"""A list of names, which TOML and JSON have where Python has a tuple."""
Numbers = Annotated[tuple[float, ...], Strict(False), Field(min_length=1)]
"""A list of numbers."""
Matrix = Annotated[tuple[Numbers, ...], Strict(False), Field(min_length=1)]
"""A list of lists of numbers."""

_CONFIG = ConfigDict(strict=True, allow_inf_nan=False, extra="forbid")

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "a text",
    "dict_type": "a table",
    "tuple_type": "a list",
    "list_type": "a list",
    "missing": "a value",
    "missing_argument": "a value",
    "greater_than_equal": "at least {ge}",
    "greater_than": "more than {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "less than {lt}",
    "literal_error": "{expected}",
    "string_pattern_mismatch": "a text like {pattern}",
    "too_short": "at least {min_length} entries",
}
"""The expected value for each type of pydantic's errors; the error's context fills the braces."""


@dataclass_transform(frozen_default=True, field_specifiers=(Field,))
def validated(cls: type[T]) -> type[T]:
    """Make a class a frozen dataclass whose fields are checked by pydantic.

    Types are strict: `true` is not a number, and 2.0 is not a whole number. Bounds are those of
    `pydantic.Field`. `dataclasses.replace` checks again.

    Raises:
        InputError: At construction, where a value does not fit.

    Example:
        >>> @validated
        ... class Coin:
        ...     heads: Annotated[float, Field(ge=0, le=1)] = 0.5
        >>> Coin(2.0)
        Traceback (most recent call last):
        ...
        slateflow.errors.InputError: heads: expected at most 1, got 2.0
    """
    made = pydantic.dataclasses.dataclass(frozen=True, config=_CONFIG)(cls)
    construct: Callable[..., None] = made.__init__
    names = [field.name for field in dataclasses.fields(made)]

    def construct_or_refuse(self: Any, /, *args: Any, **fields: Any) -> None:
        try:
            # By name, so that an error names the field
            construct(self, *args[len(names) :], **dict(zip(names, args, strict=False)), **fields)
        except ValidationError as error:
            raise input_error(error) from None

    made.__init__ = construct_or_refuse  # type: ignore[method-assign, assignment]
    return cast(type[T], made)


def input_error(error: ValidationError) -> InputError:
    """The first of pydantic's errors as an `InputError` of one line."""
    first = error.errors(include_url=False)[0]
    kind = first["type"]
    context = {
        name: f"{value:g}" if isinstance(value, float) else value
        for name, value in first.get("ctx", {}).items()
    }
    where = ".".join(str(part) for part in first["loc"] if not str(part).startswith("function-"))
    if kind == "value_error":  # from a check of our own, whose message is complete
        message = str(context["error"])
        return InputError(f"{where}: {message}" if where and where not in message else message)
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        return InputError(f"{where}: expected no such field, got {first['input']!r}; leave it out")
    expected = _EXPECTED.get(kind, first["msg"]).format(**context)
    got = "none" if kind.startswith("missing") else repr(first["input"])
    return InputError(f"{where}: expected {expected}, got {got}")
