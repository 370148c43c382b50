"""The exception for faults of the input, not of the program."""

from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """Bad input. The message is one line with the expectation, the finding and the way out."""


def unknown(kind: str, name: object, known: list[str]) -> InputError:
    """An error for a name that does not exist, with a list of the names that do."""
    return InputError(f"unknown {kind} {name!r}: expected one of {', '.join(known)}")


@contextmanager
def refused(expected: str, *kinds: type[Exception], remedy: str = "") -> Iterator[None]:
    """Turn errors of these kinds into an `InputError`: `expected`, their first line, the remedy.

    An `InputError` of the block is complete, and passes unless it is one of the kinds itself.

    Example:
        >>> with refused("share: expected one of the shares", KeyError):
        ...     {}["half"]
        Traceback (most recent call last):
        ...
        slateflow.errors.InputError: share: expected one of the shares, got no 'half'
    """
    try:
        yield
    except kinds as error:
        if isinstance(error, InputError) and InputError not in kinds:
            raise
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        reason = f"no {reason}" if isinstance(error, KeyError) else reason
        raise InputError("; ".join(filter(None, [f"{expected}, got {reason}", remedy]))) from error
