"""The one exception that means: the input is at fault, not the program."""


class InputError(ValueError):
    """Bad input. The message is one line: what was expected, what came, what to do."""


def unknown(kind: str, name: object, known: list[str]) -> InputError:
    """An error for a name that does not exist; it lists those that do."""
    return InputError(f"unknown {kind} {name!r}: expected one of {', '.join(known)}")
