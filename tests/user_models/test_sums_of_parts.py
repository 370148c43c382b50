"""Parts of large logs, processed in parallel on one machine."""

from __future__ import annotations

import numpy as np
import pytest

from slateflow.learners import learner_config, train
from slateflow.side_by_side import Workers
from slateflow.trajectories import Folder, Recipe, generate

pytestmark = pytest.mark.integration
WORLDS = {
    "fitted-q": ("modified-lts-10-1", 1600, {"degree": 2, "window": 3, "ridge": 1e-6}),
    "linucb": ("modified-lts-10-1", 1600, {}),
    "slateq": ("interest-evolution", 1600, {"iterations": 1, "classes": 1}),
}


@pytest.mark.parametrize("learner", WORLDS)
def test_weights_are_those_of_one_process(learner, tmp_path, monkeypatch):
    world, episodes, settings = WORLDS[learner]
    dataset = generate(Recipe("large", world, episodes, 0, {"random": 1.0}), Folder(str(tmp_path)))
    assert len(dataset.parts) > 2
    for limit in ("logged_steps", "slateq"):
        monkeypatch.setattr(f"slateflow.learners.{limit}.SAMPLE_ROWS", 10_000)
    monkeypatch.setattr("slateflow.user_models.sums_of_parts.PROCESSORS", 2)
    config = learner_config(learner, **settings)
    alone, _ = train(dataset, config)
    monkeypatch.setattr("slateflow.user_models.sums_of_parts.SIDE_BY_SIDE_ROWS", 0)
    passed = []
    real = Workers.map

    def watched(self, function, jobs, begin=None):
        passed.append(len(jobs))
        return real(self, function, jobs, begin)

    monkeypatch.setattr(Workers, "map", watched)
    together, _ = train(dataset, config)
    assert set(passed) == {len(dataset.parts)}
    for name in ("head", "item_values"):
        if hasattr(alone, name):
            np.testing.assert_allclose(getattr(together, name), getattr(alone, name), rtol=1e-5)
