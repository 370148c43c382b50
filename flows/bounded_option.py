"""Options of the command line whose numbers keep the bounds of `flows.bounds`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from cyclopts import Parameter
from pydantic import TypeAdapter, ValidationError

from slateflow.validation import input_error


def number(bound: Any, text: str) -> Parameter:
    """An option whose values keep a bound; its help names the bound."""
    adapter = TypeAdapter(bound)

    def check(kind: Any, value: Any) -> None:
        del kind
        if value is None:
            return
        try:
            adapter.validate_python(value)
        except ValidationError as error:
            raise ValueError(str(input_error(error)).removeprefix(": ")) from None

    limits = [limit for field in get_args(bound)[1:] for limit in field.metadata]
    words = [f"at least {limit.ge}" for limit in limits if hasattr(limit, "ge")]
    words += [f"at most {limit.le}" for limit in limits if hasattr(limit, "le")]
    return Parameter(
        help=f"{text} {', '.join(words).capitalize()}.",
        validator=check,
        converter=_whole if get_args(bound)[0] is int else None,
    )


def _whole(kind: Any, tokens: Sequence[Any]) -> int:
    """The number that was typed, which cyclopts would round."""
    del kind
    typed = tokens[0].value
    try:
        return int(typed)
    except ValueError:
        raise ValueError(f"expected a whole number, got {typed!r}") from None
