"""The columns that RLlib trains on, against RLlib's own row-by-row reader and plain loops."""

from __future__ import annotations

import dataclasses
import math
import shutil
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from scipy import stats

from slateflow.errors import InputError
from slateflow.learners.features import (
    FeatureMoments,
    flat_observation_space,
    scaled_rewards,
    share_of_window_left,
    window_returns,
)
from slateflow.learners.rllib.quiet import quiet_rllib
from slateflow.policies.scorer import Support
from slateflow.trajectories import Folder, Recipe, Trajectories, generate
from slateflow.user_models.reward_model import RewardScale, expected_rewards, fitted_model

with quiet_rllib():
    from ray.rllib.algorithms.bc import BCConfig
    from ray.rllib.connectors.learner import AddNextObservationsFromEpisodesToTrainBatch
    from ray.rllib.core.columns import Columns
    from ray.rllib.offline.offline_prelearner import OfflinePreLearner

    from slateflow.learners.rllib.input import (
        ColumnarOfflineData,
        ColumnIterator,
        InputOptions,
        read_tensors,
        train_columns,
    )

WINDOW = 3

SPLIT = 0.4
"""Candidates up to this value are rare where a test has a support."""


def made_up(
    lengths: list[int], seed: int = 0, candidates: int = 4, user_size: int = 1
) -> Trajectories:
    """Random episodes of these lengths; some terminate, some are truncated."""
    rng = np.random.default_rng(seed)
    episode = np.repeat(np.arange(len(lengths)), lengths)
    step = np.concatenate([np.arange(length) for length in lengths]).astype(np.int32)
    last = np.append(episode[1:] != episode[:-1], True)
    rows = len(episode)
    return Trajectories(
        episode=episode,
        step=step,
        user=rng.random((rows, user_size), dtype=np.float32),
        candidates=rng.random((rows, candidates, 1), dtype=np.float32),
        slate=np.argsort(rng.random((rows, candidates)), axis=1)[:, :2].astype(np.int32),
        propensity=np.ones(rows),
        clicked=rng.integers(-1, 2, rows, dtype=np.int32),
        reward=rng.normal(9.7, 2.0, rows).astype(np.float32),
        responses={},
        terminated=last & (episode % 2 == 0),
        truncated=last & (episode % 2 == 1),
    )


def observation_by_hand(rows: Trajectories, row: int, horizon: int) -> list[float]:
    """(user, steps left / window, candidates) of one row."""
    left = min(horizon - int(rows.step[row]), WINDOW) / WINDOW
    return [*rows.user[row].tolist(), left, *rows.candidates[row].ravel().tolist()]


def rllib_rows(rows: Trajectories, horizon: int) -> dict[str, np.ndarray]:
    """The clicked rows under RLlib's column names, one at a time."""
    rewards = expected_rewards(rows, fitted_model(rows)).tolist()
    mean = math.fsum(rewards) / len(rows)
    deviation = math.sqrt(math.fsum((r - mean) ** 2 for r in rewards) / len(rows))
    columns: dict[str, list] = {
        name: [] for name in ("obs", "new_obs", "actions", "rewards", "terminateds", "truncateds")
    }
    for row in range(len(rows)):
        if rows.clicked[row] < 0:
            continue
        ends = bool(rows.terminated[row] or rows.truncated[row])
        following = row if ends else row + 1  # rows after the end are not used
        columns["obs"].append(observation_by_hand(rows, row, horizon))
        columns["new_obs"].append(observation_by_hand(rows, following, horizon))
        columns["actions"].append(int(rows.slate[row][rows.clicked[row]]))
        columns["rewards"].append((rewards[row] - mean) / deviation)
        columns["terminateds"].append(ends)
        columns["truncateds"].append(False)
    floats = ("obs", "new_obs", "rewards")
    return {
        name: np.array(values, dtype=np.float32 if name in floats else None)
        for name, values in columns.items()
    }


def read_row_by_row(columns: dict[str, np.ndarray], spec) -> dict[str, np.ndarray]:
    """The batch of RLlib's own reader: an episode a row, through its connectors."""
    observations, actions = flat_observation_space(spec), gym.spaces.Discrete(spec.num_candidates)
    spaces = {"default_policy": (observations, actions), "__env__": (observations, actions)}
    config = (
        BCConfig()
        .environment(observation_space=observations, action_space=actions)
        .training(learner_connector=lambda *_: [AddNextObservationsFromEpisodesToTrainBatch()])
    )
    config.rl_module(rl_module_spec=config.get_multi_rl_module_spec(spaces=spaces))
    reader = OfflinePreLearner(config=config, spaces=(observations, actions))
    batch = reader(columns)
    return {
        name.removeprefix("default_policy/"): np.asarray(values) for name, values in batch.items()
    }


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_columns_are_those_of_rllibs_own_reader(small):
    rows = dataclasses.replace(small.read(), responses={})
    # Generated users always click; here some do not.
    clicked = np.where(np.random.default_rng(0).random(len(rows)) < 0.2, -1, 0).astype(np.int32)
    rows = dataclasses.replace(rows, clicked=clicked)
    ours = train_columns(rows, small.spec, WINDOW)
    theirs = read_row_by_row(rllib_rows(rows, small.spec.horizon), small.spec)
    assert len(theirs["actions"]) == (clicked >= 0).sum() > 4000
    for name in (Columns.OBS, Columns.ACTIONS, Columns.TERMINATEDS):
        np.testing.assert_array_equal(ours[name].numpy(), theirs[name])
        assert ours[name].numpy().dtype == theirs[name].dtype
    np.testing.assert_allclose(ours[Columns.REWARDS].numpy(), theirs["rewards"], rtol=1e-5)
    ongoing = ~theirs["terminateds"]
    np.testing.assert_array_equal(
        ours[Columns.NEXT_OBS].numpy()[ongoing], theirs["new_obs"][ongoing]
    )


def spec_of(horizon: int, candidates: int = 4, user_size: int = 1):
    return SimpleNamespace(
        horizon=horizon, user_size=user_size, num_candidates=candidates, document_size=1
    )


@pytest.mark.parametrize("user_size", [0, 1, 2])
def test_columns_are_those_of_a_plain_loop(user_size):
    rows = made_up([5, 5, 5, 5], user_size=user_size)
    ours = train_columns(rows, spec_of(5, user_size=user_size), WINDOW)
    expected = rllib_rows(rows, 5)
    assert 0 < len(expected["actions"]) < 20  # some were not clicked
    np.testing.assert_array_equal(ours["obs"], expected["obs"])
    np.testing.assert_array_equal(ours["actions"], expected["actions"])
    np.testing.assert_array_equal(ours["terminateds"], expected["terminateds"])
    np.testing.assert_allclose(ours["rewards"], expected["rewards"], rtol=1e-5)
    ongoing = ~expected["terminateds"]
    np.testing.assert_array_equal(ours["new_obs"][ongoing], expected["new_obs"][ongoing])


def test_with_a_support_rows_have_weights_and_rare_candidates_are_left_out():
    rows, support = made_up([5, 5, 5, 5]), halves(rows=(1, 9_999), offered=(500, 9_500))
    ours = train_columns(rows, spec_of(5), WINDOW, support=support)
    weights, nexts, rare = [], [], []
    for row in range(len(rows)):
        if rows.clicked[row] < 0:
            continue
        clicked = rows.candidates[row, rows.slate[row, rows.clicked[row]], 0]
        weights.append(30.0 if clicked <= SPLIT else 1.0)
        rare.append([one <= SPLIT for one in rows.candidates[row, :, 0].tolist()])
        unseen = [one <= SPLIT for one in rows.candidates[(row + 1) % len(rows), :, 0].tolist()]
        nexts.append([one and not all(unseen) for one in unseen])
    assert set(weights) == {1.0, 30.0}
    assert ours["row_weights"].tolist() == weights
    assert ours["rare"].tolist() == rare
    assert ours["next_left_out"].tolist() == nexts


def halves(rows: tuple[int, int], offered: tuple[int, int]) -> Support:
    """Support of candidates up to `SPLIT` and above it, by numbers of shown and offered rows."""
    return Support(
        feature=np.zeros(3, np.int64), threshold=np.array([SPLIT, 0, 0]),
        children=np.array([[1, 2], [1, 1], [2, 2]]), rows=np.array([0.0, *rows]),
        offered=np.array([0.0, *offered]), least=1 / 200, depth=1,
    )  # fmt: skip


@pytest.mark.parametrize("window", [1, 2, 5, 100])
@pytest.mark.parametrize("lengths", [[1], [5, 5], [3, 1, 4, 2]])
def test_window_returns_are_those_of_a_plain_loop(lengths, window):
    rows = made_up(lengths)
    expected = []
    for row in range(len(rows)):
        total = 0.0
        for ahead in range(row, min(row + window, len(rows))):
            total += rows.reward[ahead] if rows.episode[ahead] == rows.episode[row] else 0.0
        expected.append(total)
    np.testing.assert_allclose(window_returns(rows, rows.reward, window), expected, rtol=1e-6)


def test_value_targets_are_window_returns_of_scaled_rewards():
    rows = made_up([4, 4])
    ours = train_columns(rows, spec_of(4), WINDOW)
    targets = window_returns(rows, scaled_rewards(rows), WINDOW)
    np.testing.assert_array_equal(ours["value_targets"], targets[rows.clicked >= 0])


def test_steps_left_count_from_the_end_up_to_the_window():
    left = share_of_window_left(spec_of(6), np.arange(6, dtype=np.int32), 4)
    np.testing.assert_allclose(left, [1, 1, 1, 0.75, 0.5, 0.25])


def test_scaled_rewards_have_mean_0_and_deviation_1():
    rows = made_up([50] * 20)
    centred = scaled_rewards(rows)
    assert centred.dtype == np.float32
    assert np.mean(centred, dtype=float) == pytest.approx(0, abs=1e-6)
    assert np.std(centred, dtype=float) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(
        centred, stats.zscore(expected_rewards(rows, fitted_model(rows))), atol=1e-5
    )


@pytest.mark.parametrize("episodes", [2, 20])
def test_constant_rewards_are_centred_only(episodes):
    rows = made_up([2] * episodes)
    rows = dataclasses.replace(rows, reward=np.full(len(rows), 3.0, np.float32))
    np.testing.assert_allclose(scaled_rewards(rows), 0.0, atol=1e-12)


def test_episodes_of_different_lengths_keep_the_mean_of_their_rewards():
    """Without it, a session that ends early would be worth as much as one that continues."""
    rows = made_up([3, 2, 5])
    rewards = scaled_rewards(rows)
    np.testing.assert_allclose(rewards, rows.reward / rows.reward.std(), rtol=1e-6)
    even = made_up([3, 3, 3])
    assert scaled_rewards(even).mean() == pytest.approx(0.0, abs=1e-6)


def test_a_part_is_scaled_as_all_are():
    """Scaled separately, a part with sessions of one length would lose its mean reward."""
    rows = made_up([3, 2, 5])
    scale = RewardScale.from_rows(rows)
    part = scaled_rewards(rows.where(slice(3)), scale)
    np.testing.assert_array_equal(part, scaled_rewards(rows, scale)[:3])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rewards_that_are_no_numbers_are_refused(bad):
    rows = made_up([3, 3])
    rows.reward[4] = bad
    with pytest.raises(InputError, match=r"^reward: expected finite numbers, got NaN or infinity"):
        train_columns(rows, spec_of(3), WINDOW)


@pytest.mark.parametrize(("row", "flag"), [(2, False), (5, False), (1, True)])
def test_episodes_end_where_their_flags_say(row, flag):
    """Otherwise the value of the next user would be added to the end of this one's episode."""
    rows = made_up([3, 3])
    rows.terminated[row] = flag
    rows.truncated[row] = False
    step = row % 3
    with pytest.raises(InputError, match=rf"got something else in episode {row // 3}, step {step}"):
        train_columns(rows, spec_of(3), WINDOW)


def test_no_rows_are_refused():
    rows = made_up([3])
    with pytest.raises(InputError, match="expected rows to train from, got none"):
        train_columns(dataclasses.replace(rows, episode=rows.episode[:0]), spec_of(3), WINDOW)


def test_moments_are_those_of_all_features(small):
    rows, moments = small.read(), FeatureMoments.from_dataset(small)
    user, candidates = rows.user.astype(float), rows.candidates.astype(float)
    np.testing.assert_allclose(moments.offset, [user.mean(), 0, candidates.mean()], rtol=1e-9)
    np.testing.assert_allclose(moments.scale, [user.std(), 1, candidates.std()], rtol=1e-6)


def columns_of(count: int) -> dict[str, torch.Tensor]:
    """The row's number as its observation and its action."""
    return {"obs": torch.arange(count)[:, None].float(), "actions": torch.arange(count)}


def epoch(source: ColumnIterator, batch_size: int) -> list[list[int]]:
    """The rows of each minibatch."""
    batches = list(source.iter_torch_batches(batch_size=batch_size))
    for batch in batches:
        assert set(batch) == {"default_policy/obs", "default_policy/actions"}
        np.testing.assert_array_equal(
            batch["default_policy/obs"][:, 0], batch["default_policy/actions"]
        )
    return [batch["default_policy/actions"].tolist() for batch in batches]


@pytest.mark.parametrize(("rows", "size"), [(12, 4), (12, 12), (10, 4), (3, 8)])
def test_an_epoch_covers_every_row_once(rows, size):
    batches = epoch(ColumnIterator(columns_of(rows), InputOptions(1, seed=0)), size)
    drawn = [row for batch in batches for row in batch]
    size = min(size, rows)
    assert [len(batch) for batch in batches] == [size] * (rows // size)
    assert len(set(drawn)) == len(drawn) == rows - rows % size
    assert set(drawn) <= set(range(rows))


def test_every_row_comes_in_time():
    """Rows that do not fill the last batch of an epoch come in a later epoch."""
    source = ColumnIterator(columns_of(10), InputOptions(1, seed=0))
    assert {row for _ in range(20) for batch in epoch(source, 4) for row in batch} == set(range(10))


def test_the_order_depends_on_the_seed_alone():
    def order(seed: int, noise: int) -> list[list[int]]:
        torch.manual_seed(noise)
        source = ColumnIterator(columns_of(40), InputOptions(1, seed=seed))
        return [*epoch(source, 8), *epoch(source, 8)]

    with torch.random.fork_rng():
        assert order(1, 0) == order(1, 1)
        assert order(1, 0) != order(2, 0)
    first, second = order(1, 0)[:5], order(1, 0)[5:]
    assert first != second  # every epoch has its own


def test_an_iterable_can_be_passed_over_again():
    epochs = ColumnIterator(columns_of(8), InputOptions(1, seed=0)).iter_torch_batches(batch_size=4)
    assert len(list(epochs)) == len(list(epochs)) == 2


def test_rewards_are_scaled_by_the_dataset_that_is_there_now(tmp_path):
    for seed in (1, 2):
        recipe = Recipe("some", "modified-lts-10-1", 30, seed, {"random": 1.0}, {"time_budget": 4})
        shutil.rmtree(tmp_path / "some", ignore_errors=True)
        dataset = generate(recipe, Folder(str(tmp_path)))
        columns = read_tensors(dataset.path, InputOptions(WINDOW, 0))
        expected = train_columns(dataset.read(), dataset.spec, WINDOW)
        np.testing.assert_array_equal(columns["rewards"], expected["rewards"])


@pytest.mark.parametrize("shards", [1, 4])
def test_shards_share_the_rows_among_them(small, shards):
    config = SimpleNamespace(
        input_=[small.path], input_read_method_kwargs={"window": WINDOW, "seed": 0}
    )
    data = ColumnarOfflineData(config)
    iterators = data.sample(0, return_iterator=True, num_shards=shards)
    assert len(iterators) == shards
    share = small.rows // shards
    passes = [i.iter_torch_batches(batch_size=share) for i in iterators]
    drawn = torch.cat([next(iter(batches))["default_policy/obs"] for batches in passes])
    assert len(drawn) == small.rows
    expected = train_columns(small.read(), small.spec, WINDOW)["obs"]
    order, reference = (t[np.lexsort(t.numpy().T)] for t in (drawn, expected))
    np.testing.assert_array_equal(order, reference)


def test_a_sample_is_a_minibatch(small):
    config = SimpleNamespace(
        input_=[small.path], input_read_method_kwargs={"window": WINDOW, "seed": 0}
    )
    batch = ColumnarOfflineData(config).sample(32)
    assert batch["default_policy/obs"].shape == (32, 1 + 1 + 20)
