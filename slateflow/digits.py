"""Numbers of digits that are worth showing."""

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


def fixed(value: float, digits: int, sign: str = "") -> str:
    """A figure with `digits` digits after the point; from a billion on, four digits in all.

    Example:
        >>> fixed(1157.806, 2), fixed(2.5, 1, "+"), fixed(3.1832e24, 2)
        ('1157.81', '+2.5', '3.183e+24')
    """
    return f"{value:{sign}.{digits}f}" if abs(value) < 1e9 else f"{value:{sign}.4g}"


def with_error(mean: float, error: float) -> str:
    """A figure and its standard error.

    Example:
        >>> with_error(1157.806, 0.36), with_error(0.1595, 0.00259)
        ('1,157.81 ± 0.36', '0.1595 ± 0.0026')
    """
    digits = decimals(error)
    return f"{mean:,.{digits}f} ± {error:.{digits}f}"
