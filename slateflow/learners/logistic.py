"""A contextual bandit for clicks: logistic regression, from logs (`logistic_regression`)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from slateflow.environments import EnvironmentSpec
from slateflow.learners.code_digest import code_digest
from slateflow.learners.config import Count, LearnerConfig, NonNegative, Trained
from slateflow.learners.search_space import Range, Space
from slateflow.progress import Progress
from slateflow.trajectories import Dataset
from slateflow.user_models import clicks_of_days
from slateflow.user_models.bilinear import MOST_BILINEAR_FEATURES, feature_count
from slateflow.user_models.bilinear_scorer import bilinear_scorer
from slateflow.validation import validated


@validated
class LogisticConfig(LearnerConfig):
    """Logistic regression of the click, or of a reward within its bounds, served by log-odds."""

    learner: ClassVar[str] = "logistic"
    user_chooses: ClassVar[bool | None] = True
    search_space: ClassVar[Space] = {"ridge": Range(1e-3, 1e3, log=True)}

    ridge: NonNegative = 0.0
    """Precision of the prior on the weights; with 0 the logs choose one for each group of them."""
    iterations: Count = 30
    """Most Newton steps with a prior, each a pass over the logs; four to eight are taken."""

    @classmethod
    def made_for(cls, spec: EnvironmentSpec) -> bool:
        """True also for own logs of single items: their rewards are mostly clicks."""
        return spec.user_chooses or not spec.simulated

    @classmethod
    def holds(cls, spec: EnvironmentSpec) -> bool:
        """True if products are few enough for a matrix."""
        return feature_count(spec, limit=None) <= MOST_BILINEAR_FEATURES

    def train(
        self, dataset: Dataset, seed: int, progress: Progress, checkpoints: Path | None
    ) -> Trained:
        """Serve the weights of greatest posterior density."""
        weights, squares, origin = clicks_of_days.weights_of_clicks(
            dataset, self.ridge, self.iterations, checkpoints, code_digest(clicks_of_days.__name__)
        )
        progress(1, 1)
        return Trained(bilinear_scorer(weights, dataset.spec, squares, origin))
