"""Logs in which all rows offer the whole catalogue, which is in memory once."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow.parquet as pq
import pytest

from slateflow.evaluation.off_policy.single_steps import SingleSteps
from slateflow.policies import RandomPolicy
from slateflow.shared_rows import joined, shared
from slateflow.trajectories import Dataset, Trajectories
from slateflow.trajectories.files import part_files
from slateflow.trajectories.schema import column_digest
from slateflow.user_models.support import left_out, logged_support
from tests.trajectories.sources.shop import log, published

ITEMS = 5


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    """Logs of three days with a part each, in which item 4 is hardly shown."""
    folder, rng = tmp_path_factory.mktemp("shop"), np.random.default_rng(3)
    chance = np.array([0.3, 0.3, 0.2, 0.199, 0.001])
    for day in range(3):
        item = rng.choice(ITEMS, 2_000, p=chance)
        columns = {
            "age": rng.integers(18, 80, 2_000),
            "item": [f"item {one}" for one in item],
            "propensity": chance[item],
            "reward": rng.random(2_000) < 0.2 + 0.1 * item,
        }
        log(folder, f"day-{day}.parquet", columns)
    return published(folder, '[columns]\nuser = ["age"]')


def row_by_row(rows: Trajectories) -> Trajectories:
    """The rows with separate offers."""
    return dataclasses.replace(rows, candidates=np.array(rows.candidates))


def test_offers_are_held_once_whatever_is_taken_of_them(dataset):
    rows = dataset.read()
    assert shared(rows.candidates)
    assert rows.candidates.shape == (6_000, ITEMS)
    mask = rows.reward > 0
    for some in (slice(10, 20), mask, np.array([5, 3, 5]), slice(0)):
        few = rows.where(some)
        assert len(few) == 0 or shared(few.candidates)
        expected = row_by_row(rows).where(some)
        np.testing.assert_array_equal(few.candidates, expected.candidates)
        np.testing.assert_array_equal(few.offered, expected.offered)
        features = few.observation()["candidates"]
        assert len(few) == 0 or shared(features)
        np.testing.assert_array_equal(features, expected.observation()["candidates"])
        np.testing.assert_array_equal(few.shown_features(), expected.shown_features())


def test_files_have_all_items_in_all_rows(dataset):
    part = dataset.parts[0]
    stored = pq.read_table(f"{dataset.path}/{part.path}", partitioning=None)
    assert stored["items"].to_pylist() == [[*range(ITEMS)]] * part.rows
    assert part.sha256 == column_digest(row_by_row(dataset.part(part)))


def test_parts_that_do_not_say_so_are_read_row_by_row(dataset, tmp_path):
    # As earlier versions wrote them
    part = dataset.parts[0]
    rows, folder = dataset.part(part), dataset.folder.__class__(str(tmp_path))
    part_files.write_part(folder, part.path, row_by_row(rows), dataset.spec, {})
    again = part_files.read_part(folder, part.path, dataset.spec, "", dataset.catalogue)
    assert not shared(again.candidates)
    for name, values in rows.columns().items():
        np.testing.assert_array_equal(again.columns()[name], values)


def test_different_offers_are_joined_row_by_row():
    one, other = (np.broadcast_to(np.arange(3) + start, (2, 3)) for start in (0, 1))
    assert shared(joined([one, one[:0], one]))
    assert joined([one, other]).tolist() == [[0, 1, 2]] * 2 + [[1, 2, 3]] * 2


def test_support_and_estimates_are_those_of_rows_with_their_own(dataset, monkeypatch):
    rows, policies = dataset.read(), {"random": RandomPolicy(1)}
    support = logged_support(rows)
    unseen = left_out(support, rows)
    assert unseen[:, 4].all()
    np.testing.assert_array_equal(unseen, left_out(support, row_by_row(rows)))

    def judged():
        logs, found, refusal = SingleSteps(dataset, held_out_only=False).evaluate(policies)
        weighted, overlap = found["random"]
        return [logs.dense, weighted.weight, weighted.target, overlap], refusal

    (*figures, overlap), refusal = judged()
    read = Dataset.part
    monkeypatch.setattr(Dataset, "part", lambda *args, **how: row_by_row(read(*args, **how)))
    (*expected, of_own), other = judged()
    for one, another in zip(figures, expected, strict=True):
        np.testing.assert_allclose(one, another, rtol=1e-12)
    assert (str(overlap), refusal) == (str(of_own), other)
