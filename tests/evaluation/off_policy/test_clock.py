"""Sessions of one length whose last step pays for good items in all steps."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from slateflow.evaluation.off_policy.estimates import estimate_policies
from slateflow.learners import learner_config, train
from slateflow.policies import RandomPolicy, ScoringPolicy
from slateflow.trajectories import Dataset, Folder, Recipe, generate
from slateflow.user_models.clock import rewards_by_the_clock
from slateflow.user_models.session_memory import session_state
from tests.evaluation.off_policy.shop import OneItem
from tests.trajectories.sources.shop import log, published

STEPS, ITEMS, GOOD = 3, 4, 2
"""Items 0 and 1 are good, 2 and 3 are clicked more."""
CLICK = np.array([0.1, 0.1, 0.2, 0.2])
ORDER = 3.0
COLUMNS = '[columns]\nepisode = "session"\ntime = "time"\nuser = ["good"]\n'


def ordered(good):
    """Probability of an order after `good` good items."""
    return 0.05 + 0.25 * good


def logs(folder: Path, sessions: int, seed: int) -> Dataset:
    """Sessions of the random policy; a column counts the good items so far."""
    rng = np.random.default_rng(seed)
    items = rng.integers(0, ITEMS, (sessions, STEPS))
    reward = (rng.random(items.shape) < CLICK[items]).astype(float)
    good = np.cumsum(items < GOOD, axis=1)
    reward[:, -1] += ORDER * (rng.random(sessions) < ordered(good[:, -1]))
    table = {
        "session": np.repeat(np.arange(sessions), STEPS),
        "time": np.tile(np.arange(STEPS), sessions),
        "good": (good - (items < GOOD)).ravel().astype(float),
        "item": items.ravel(),
        "propensity": 1 / ITEMS,
        "reward": reward.ravel(),
    }
    log(folder, "log.parquet", table)
    return published(folder, COLUMNS)


def value(probability) -> float:
    """Expected return of fixed probabilities (STEPS, ITEMS), over all sequences."""
    total = 0.0
    for items in product(range(ITEMS), repeat=STEPS):
        chance = np.prod([probability[step][item] for step, item in enumerate(items)])
        good = sum(item < GOOD for item in items)
        total += chance * (CLICK[list(items)].sum() + ORDER * ordered(good))
    return float(total)


UNIFORM = np.full((STEPS, ITEMS), 1 / ITEMS)
ALWAYS = {item: np.tile(np.eye(ITEMS)[item], (STEPS, 1)) for item in (0, 3)}


def test_what_the_last_step_brings_counts(tmp_path):
    dataset = logs(tmp_path, 20_000, 0)
    targets = {"random": RandomPolicy(1), "good": OneItem(0), "clicked": OneItem(3)}
    found = estimate_policies(dataset, targets, held_out_only=False).policies
    truths = [value(UNIFORM), value(ALWAYS[0]), value(ALWAYS[3])]
    for one, truth in zip(found.values(), truths, strict=True):
        assert one.refusal is None
        low, high = one.contributions.interval()
        wider = (high - low) / 4  # an interval of three standard errors on either side
        assert low - wider < truth < high + wider
        assert high - low < 0.3


@pytest.mark.parametrize("learner", ["fitted-q", pytest.param("cql", marks=pytest.mark.slow)])
def test_learners_go_for_the_order(tmp_path, learner):
    dataset = logs(tmp_path, 20_000, 1)
    scorer, _ = train(dataset, learner_config(learner))
    items = np.tile(np.eye(ITEMS), (STEPS, 1, 1))
    good = np.arange(STEPS)[:, None].astype(float)
    best = scorer.scores(good, np.arange(STEPS), items).argmax(axis=1)
    assert (best[:2] < GOOD).all()  # 3 × .25 for .1 of a click


@pytest.mark.parametrize("world", ["modified-lts-20-2", "modified-lts-20-2-hidden", "lts-10-1"])
def test_no_step_of_long_term_satisfaction_is_special(tmp_path, world):
    policies = {"random": 0.5, "greedy": 0.5}
    dataset = generate(Recipe("r", world, 300, 3, policies), Folder(str(tmp_path)))
    assert not rewards_by_the_clock(dataset.read())


@pytest.mark.parametrize("sessions", [1, 2, 11])
def test_few_sessions_say_nothing_of_the_clock(tmp_path, sessions):
    dataset = logs(tmp_path, sessions, 4)
    assert not rewards_by_the_clock(dataset.read())
    assert train(dataset, learner_config("fitted-q"))[0].slate_size == 1


def test_the_policy_that_was_learnt_is_judged_right(tmp_path):
    dataset = logs(tmp_path / "a", 20_000, 2)
    scorer, _ = train(dataset, learner_config("fitted-q"))
    other = logs(tmp_path / "b", 20_000, 3)
    policies = {"learnt": ScoringPolicy(scorer)}
    found = estimate_policies(other, policies, held_out_only=False).policies["learnt"]
    low, high = found.contributions.interval()
    wider = (high - low) / 4
    assert low - wider < value(ALWAYS[0]) < high + wider


def test_a_memory_of_a_short_session_tells_the_step(tmp_path):
    """With hidden moods, the logging policy's value is still the mean of its rewards.

    With values that share the rows of all steps it was 5.5 instead of the true 4.5.
    """
    rng, sessions = np.random.default_rng(8), 20_000
    mood = np.repeat(rng.normal(size=sessions), STEPS)
    item = rng.integers(0, ITEMS, len(mood))
    table = {
        "session": np.repeat(np.arange(sessions), STEPS),
        "time": np.tile(np.arange(STEPS), sessions),
        "good": np.repeat(rng.normal(size=sessions), STEPS),
        "item": item,
        "propensity": 1 / ITEMS,
        "reward": mood + item + rng.normal(size=len(mood)),
    }
    log(tmp_path, "log.parquet", table)
    dataset = published(tmp_path, COLUMNS)
    assert session_state(dataset).decays
    targets = {"random": RandomPolicy(1), "last": OneItem(ITEMS - 1)}
    found = estimate_policies(dataset, targets, held_out_only=False).policies
    for name, truth in (("random", STEPS * (ITEMS - 1) / 2), ("last", STEPS * (ITEMS - 1))):
        one = found[name].contributions
        assert found[name].refusal is None
        assert one.value == pytest.approx(truth, abs=3.5 * one.sem)
        assert one.sem < 0.1
