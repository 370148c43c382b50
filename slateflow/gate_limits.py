"""Limits of the gate before a verdict from logs, which a first look at logs uses, too."""

from __future__ import annotations

MOST_APART = 0.02
"""Difference of the mean weight from 1 that is always allowed, even if it is not chance."""

MOST_DEVIATIONS = 5.0
"""Standard errors beyond which the error of a mean weight is not chance; items are many."""

LEAST_EVENTS = 5.0
"""Fewest effective rewards for an estimate where rewards are rare and of about one size: its
interval allows for one more event, and is valid with so few. With fewer, hardly any interval
excludes a difference of 0."""
