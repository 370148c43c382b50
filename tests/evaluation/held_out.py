"""The value of a scorer on the held-out sessions of a dataset."""

from __future__ import annotations

from slateflow.evaluation.off_policy.estimates import held_out_values
from slateflow.policies import AnyScorer
from slateflow.trajectories import Dataset


def held_out_value(dataset: Dataset, scorer: AnyScorer) -> float:
    found = held_out_values(dataset, {"it": scorer})["it"]
    assert found.value is not None, found.reason
    return found.value
