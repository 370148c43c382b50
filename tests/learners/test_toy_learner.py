"""A learner added by another package: a configuration with `train`, without changes to ours."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
import pytest
from pydantic import Field

from slateflow.errors import InputError
from slateflow.learners import LEARNERS, LearnerConfig, learner_config, learners_for, train
from slateflow.learners.config import Trained
from slateflow.learners.search_space import Range
from slateflow.policies import ScoringPolicy
from slateflow.tuning.trial import draw_settings
from slateflow.validation import validated
from tests.learners.linear import linear_scorer


@validated
class TasteConfig(LearnerConfig):
    """Scores every candidate by its first feature times a fixed taste."""

    learner: ClassVar[str] = "taste"
    user_chooses: ClassVar[bool | None] = None
    search_space: ClassVar = {"taste": Range(-1.0, 1.0)}

    taste: Annotated[float, Field(ge=-1, le=1)] = 1.0
    """Weight of the first feature."""

    def train(self, dataset, seed, progress, checkpoints) -> Trained:
        weights = np.zeros(1 + dataset.spec.user_size + dataset.spec.document_size)
        weights[1 + dataset.spec.user_size] = self.taste
        progress(1, 1)
        return Trained(linear_scorer(weights, dataset.spec))


@pytest.fixture(autouse=True)
def listed(monkeypatch):
    """The learner in the list for these tests, and for no others."""
    monkeypatch.setattr(LEARNERS, "_entries", dict(LEARNERS._entries))
    LEARNERS.register("taste", TasteConfig)


def test_it_is_listed_configured_and_drawn(small_logs):
    assert learners_for(small_logs.spec)[-1] == "taste"
    assert set(draw_settings("taste", 1, seed=0)) == {"taste"}
    with pytest.raises(InputError, match=r"^taste\.taste: expected at most 1, got 2\.0$"):
        learner_config("taste", taste=2.0)


@pytest.mark.parametrize(("taste", "shown"), [(1.0, 1), (-1.0, 0)])
def test_it_trains_like_every_other(small_logs, taste, shown):
    scorer, summary = train(small_logs, learner_config("taste", taste=taste), seed=3)
    assert (summary.learner, summary.rows) == ("taste", small_logs.rows)
    observation = {
        "user": np.full((1, 1), 0.5),
        "candidates": np.array([[[0.2], [0.9], [0.5], [0.4]]]),
        "step": np.zeros((1, 1), int),
    }
    slates, _ = ScoringPolicy(scorer).act(observation, np.random.default_rng(0))
    assert slates[0, 0] == shown
