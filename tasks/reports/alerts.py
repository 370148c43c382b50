"""Alerts, by the verdicts of a recipe's nights and the times of its logs."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise, takewhile

from slateflow.errors import InputError
from tasks.reports.past_runs import PastRun

_STANDARD_ERRORS = 3.0
"""Distance of two means, in standard errors, from which one is called lower: by chance this happens
once in two years of nights."""

_USUAL_GAPS = 2
"""Number of longest gaps between files of own logs, each at least a day, after which the next file
is missed."""


@dataclass(frozen=True)
class Alert:
    """An alert; its event is `slateflow.alert.` and the kind."""

    kind: str
    message: str


def alerts(recipe: str, nights: Sequence[PastRun], written: Sequence[datetime] = ()) -> list[Alert]:
    """Alerts on the newest verdict, each only once.

    Args:
        recipe: Name of the recipe.
        nights: Its nights, the newest first.
        written: Moments at which the files of its own logs were written; none of simulated ones.
    """
    nights = [night for night in nights if night.best is not None]
    return [
        *_no_winner(recipe, nights),
        *_champion_fell(recipe, nights),
        *_logs_stopped(recipe, nights, sorted(written)),
    ]


def winnerless_nights() -> int:
    """Nights without a winner after which there is an alert: `SLATEFLOW_ALERT_NIGHTS`.

    Raises:
        InputError: It is not a number of at least 1.
    """
    given = os.environ.get("SLATEFLOW_ALERT_NIGHTS", "14")
    if not given.isdecimal() or int(given) < 1:
        raise InputError(
            f"SLATEFLOW_ALERT_NIGHTS: expected a number of nights, such as 14, got {given!r}"
        )
    return int(given)


def _no_winner(recipe: str, nights: Sequence[PastRun]) -> list[Alert]:
    """The alert after `winnerless_nights` nights without a winner, and after each as many more."""
    days = [n.moment.date() for n in takewhile(lambda night: night.outcome != "Promoted", nights)]
    count = len(set(days))
    first_of_its_day = len(days) == 1 or days[:1] != days[1:2]
    if not count or count % winnerless_nights() or not first_of_its_day:
        return []
    nights_text = "a night" if count == 1 else f"{count} nights"
    return [Alert("no-winner", f"{recipe}: no winner for {nights_text}")]


def _logs_stopped(
    recipe: str, nights: Sequence[PastRun], written: Sequence[datetime]
) -> list[Alert]:
    """The alert when no file has come for twice the usual time, and after as long again.

    A single file does not show how often files come.
    """
    if len(written) < 2 or not nights:
        return []
    gaps = (later - earlier for earlier, later in pairwise(written))
    usual = max(timedelta(days=1), *gaps)
    missed = [(night.moment - written[-1]) // (_USUAL_GAPS * usual) for night in nights[:2]]
    if missed[0] < 1 or missed[0] <= max(missed[1:], default=0):
        return []
    text = f"{recipe}: no new logs since {written[-1]:%Y-%m-%d %H:%M}; "
    return [Alert("logs-stopped", text + f"until then a file came at least every {_days(usual)}")]


def _days(time: timedelta) -> str:
    """A time in days as text, such as `day` or `7.2 days`."""
    return "day" if time <= timedelta(days=1) else f"{time / timedelta(days=1):.3g} days"


def _champion_fell(recipe: str, nights: Sequence[PastRun]) -> list[Alert]:
    """The alert on the night on which the champion's value falls below what it was.

    Nights without a verdict do not count.
    """
    judged = [night for night in nights if night.judged]
    if nights[:1] != judged[:1] or not (fall := _fall(judged)) or _fall(judged[1:]):
        return []
    return [Alert("champion-fell", f"{recipe}: {fall}")]


def _fall(nights: Sequence[PastRun]) -> str:
    """How far the champion of the newest verdict is below its mean before; empty where it is not.

    "Before" is its reign so far, and the verdict that made it the champion.
    """
    if not nights or (now := nights[0].reigning) is None:
        return ""
    values = [
        value
        for night in nights[1:]
        if night.evidence == nights[0].evidence
        and (value := _value_of(now.version, night)) is not None
        and value[1] > 0
    ]
    if not values:
        return ""
    weights = [1 / sem**2 for _, sem in values]
    before = sum(w * mean for w, (mean, _) in zip(weights, values, strict=True)) / sum(weights)
    distance = (now.mean - before) / math.sqrt(now.sem**2 + 1 / sum(weights))
    if distance > -_STANDARD_ERRORS:
        return ""
    return (
        f"champion version {now.version} is worth {now.mean:.6g} ± {now.sem:.2g} "
        f"{'on fresh logs' if nights[0].evidence == 'logs' else 'in play'}; "
        f"before, it was worth {before:.6g}, {-distance:.1f} standard errors more"
    )


def _value_of(version: int, night: PastRun) -> tuple[float, float] | None:
    """Mean and standard error of a version in a night's verdict."""
    if night.reigning is not None and night.reigning.version == version:
        return night.reigning.mean, night.reigning.sem
    if night.champion == version and night.best is not None:
        return night.best.mean, night.best.sem
    return None
