"""Lines of a source that cannot be used as decisions, counted by reason, and files without any."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np

from slateflow.trajectories.files.dataset import Dataset
from slateflow.trajectories.sources.days import UNREADABLE, Day

Reason = Literal["deferred", "skipped", "outcome_alone", "unlabelled", "sent_again"]

REASONS: dict[str, str] = {
    "deferred": "deferred (DeferredAction)",
    "skipped": "skipped (_skipLearn)",
    "outcome_alone": "without a decision (RewardValue)",
    "unlabelled": "without a label (_label_cost)",
    "sent_again": "sent again (EventId)",
}
"""Description of the lines with each reason."""


def reason_of(document: dict[str, Any]) -> Reason | None:
    """The reason for which a line of dsjson is passed by; None for a decision.

    Example:
        >>> reason_of({"_label_cost": 0, "_skipLearn": True}), reason_of({"_label_cost": 0})
        ('skipped', None)
    """
    if document.get("DeferredAction"):
        return "deferred"
    if document.get("_skipLearn"):
        return "skipped"
    if "_label_cost" in document:
        return None
    alone = "RewardValue" in document and "c" not in document
    return "outcome_alone" if alone else "unlabelled"


def passed_by(days: Iterable[Day]) -> dict[str, int]:
    """Numbers of lines by reason, largest first; decisions in several files were sent again."""
    counts: Counter[str] = Counter()
    events = []
    for day in days:
        counts.update(day.passed_by)
        events += [] if day.events is None else [day.events]
    if events:
        sent = np.concatenate(events)
        counts["sent_again"] += len(sent) - len(np.unique(sent))
    return dict((+counts).most_common())


def passed_by_of(dataset: Dataset) -> dict[str, int]:
    """Numbers of lines of a dataset's days by reason; empty where facts of a day are unreadable."""
    if dataset.recipe.get("format") != "dsjson":  # other formats use all rows
        return {}
    try:
        return passed_by(Day.from_bytes(dataset.folder.read(one.facts))[0] for one in dataset.days)
    except UNREADABLE:  # of another version
        return {}


def told(counts: Mapping[str, int], rows: int) -> str:
    """The counts as one line, given the number of rows that were used; empty without any counts.

    Example:
        >>> told({"skipped": 980, "sent_again": 45}, 18_975)
        '1,025 of 20,000 lines passed by: 980 skipped (_skipLearn), 45 sent again (EventId)'
    """
    if not counts:
        return ""
    count = sum(counts.values())
    each = ", ".join(f"{number:,} {REASONS.get(name, name)}" for name, number in counts.items())
    return f"{count:,} of {count + rows:,} lines passed by: {each}"


def source_remarks(dataset: Dataset) -> list[str]:
    """What to know of a dataset's source: lines that were passed by, and files without rows."""
    empty = [one.file["name"] for one in dataset.days if not one.most_steps]
    remarks = [told(passed_by_of(dataset), dataset.rows)]
    if empty:
        more = f" and {len(empty) - 3} more" * (len(empty) > 3)
        count = f"{len(empty)} of {len(dataset.days)} files without rows of their own"
        remarks.append(f"{count}: {', '.join(empty[:3])}{more}")
    return list(filter(None, remarks))
