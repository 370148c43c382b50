"""Limits of the gate in front of a verdict from logs, by which a first look at logs goes, too."""

from __future__ import annotations

MOST_APART = 0.02
"""Difference of the mean weight from 1 that is allowed, however sure the logs are of it."""

MOST_DEVIATIONS = 5.0
"""Standard errors at which a mean weight that is further off is no accident; items are many."""

LEAST_EVENTS = 5.0
"""Effective rewards on which an estimate has to rest where they are rare and of about one size: its
interval allows for an event more, and holds with as few. With fewer hardly any interval excludes
that there is no difference."""
