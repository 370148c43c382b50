"""How many digits of a figure are worth showing."""

from __future__ import annotations

import math


def decimals(*errors: float) -> int:
    """Digits after the point of figures with these standard errors: two of the smallest, or two.

    Example:
        >>> decimals(1.13, 0.0), decimals(0.0026, 0.0187)
        (2, 4)
    """
    least = min((error for error in errors if error > 0), default=1.0)
    return max(2, 1 - math.floor(math.log10(least)))


def with_error(mean: float, error: float) -> str:
    """A figure and its standard error.

    Example:
        >>> with_error(1157.806, 0.36), with_error(0.1595, 0.00259)
        ('1,157.81 ± 0.36', '0.1595 ± 0.0026')
    """
    digits = decimals(error)
    return f"{mean:,.{digits}f} ± {error:.{digits}f}"
