"""The figures of a description equal those by pandas and SciPy from the same files."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from slateflow.charts import ticks
from slateflow.errors import InputError
from slateflow.trajectories import Dataset, Folder, Recipe, generate
from slateflow.trajectories.description.describe import describe
from slateflow.trajectories.description.page import page
from slateflow.trajectories.schema import no_rows

POLICIES = {
    "random": 0.5,
    "greedy": 0.3,
    "mixed": {"share": 0.2, "scorer": "greedy", "epsilon": 0.25},
}


@pytest.fixture(scope="module", params=["modified-lts-20-2", "lts-10-1", "interest-evolution"])
def dataset(request, tmp_path_factory) -> Dataset:
    """1,200 short episodes by three policies."""
    small = {"time_budget": 20.0} if "interest" in request.param else {"time_budget": 5}
    recipe = Recipe("small", request.param, 1_200, 4, POLICIES, small)
    return generate(recipe, Folder(str(tmp_path_factory.mktemp("data"))))


@pytest.fixture(scope="module")
def frame(dataset) -> pd.DataFrame:
    return pd.read_parquet(dataset.path)


def test_counts_returns_and_propensities_are_those_of_pandas(dataset, frame):
    described = describe(dataset)
    assert (described.episodes, described.steps) == (frame["episode"].nunique(), len(frame))
    assert [policy.policy for policy in described.policies] == list(POLICIES)
    for policy in described.policies:
        rows, plots = frame[frame["policy"] == policy.policy], policy.plots
        returns = rows["reward"].astype(float).groupby(rows["episode"]).sum()
        assert (policy.episodes, policy.steps) == (len(returns), len(rows))
        assert policy.share == len(returns) / 1_200
        assert policy.mean == pytest.approx(returns.mean(), rel=1e-9)
        assert policy.sem == pytest.approx(returns.sem(), rel=1e-9)
        assert (policy.lowest, policy.highest) == pytest.approx((returns.min(), returns.max()))
        assert policy.clicks == pytest.approx((rows["clicked"] >= 0).mean())
        assert policy.propensity == (rows["propensity"].min(), rows["propensity"].max())
        np.testing.assert_allclose(plots.returns, returns.to_numpy(), rtol=1e-9)
        assert plots.propensities.sum() == len(rows)


def test_trends_are_those_of_linregress(dataset, frame):
    described = describe(dataset)
    for policy in described.policies:
        rows, plots = frame[frame["policy"] == policy.policy], policy.plots
        fitted = stats.linregress(rows["step"], rows["reward"].astype(float))
        assert policy.reward_slope == pytest.approx(fitted.slope, rel=1e-6, abs=1e-12)
        assert plots.reward.intercept == pytest.approx(fitted.intercept, rel=1e-6)
        means = rows["reward"].astype(float).groupby(rows["step"]).mean()
        np.testing.assert_allclose(plots.reward.y, means.to_numpy(), rtol=1e-9)
        assert plots.reward.x.tolist() == means.index.tolist()
        if dataset.spec.name != "modified-lts-20-2":
            assert policy.satisfaction_slope is plots.observed is None
            continue
        fitted = stats.linregress(rows["step"], np.stack(rows["user"])[:, 0].astype(float))
        assert policy.satisfaction_slope == pytest.approx(fitted.slope, rel=1e-6, abs=1e-12)


def test_overlap_is_what_a_loop_over_the_rows_finds(dataset, frame):
    spec = dataset.spec
    uniform = 1 / math.perm(spec.num_candidates, spec.slate_size)
    for policy in describe(dataset).policies:
        rows = frame[frame["policy"] == policy.policy]
        weights: dict[str, list[float]] = {"random": [], "greedy": []}
        for _, row in rows.iterrows():
            slate, propensity = row["slate"], row["propensity"]
            if spec.name == "interest-evolution":  # the user's interest in the item's cluster
                scores = [float(row["user"][item]) for item in row["items"]]
            else:
                scores = row["candidates"][:: spec.document_size].tolist()
            best = sorted(range(len(scores)), key=lambda place: (-scores[place], place))
            shown = best[: spec.slate_size] == slate.tolist()
            weights["random"].append(uniform / propensity)
            weights["greedy"].append(shown / propensity)
        for overlap in policy.overlap:
            w = np.array(weights[overlap.target])
            assert overlap.coverage == pytest.approx(w.mean(), rel=1e-9)
            kish = w.sum() ** 2 / (w**2).sum() / len(w) if w.any() else 0.0
            assert overlap.effective == pytest.approx(kish * min(w.mean(), 1), rel=1e-9)


def test_overlap_has_its_closed_forms(dataset):
    by_name = {policy.policy: policy for policy in describe(dataset).policies}
    figures = {
        (name, overlap.target): overlap
        for name, policy in by_name.items()
        for overlap in policy.overlap
    }
    slates = math.perm(dataset.spec.num_candidates, dataset.spec.slate_size)
    for own in ("random", "greedy"):
        assert figures[own, own].coverage == pytest.approx(1)
        assert figures[own, own].effective == pytest.approx(1)
    assert figures["greedy", "random"].coverage == pytest.approx(1 / slates)
    assert figures["greedy", "random"].effective == pytest.approx(1 / slates)
    # Greedy with probability 3/4 + 1/4 of the uniform: w is 0 or one value.
    steps, chance = by_name["mixed"].steps, 0.75 + 0.25 / slates
    noise = 4 * math.sqrt(chance * (1 - chance) / steps)
    assert figures["mixed", "greedy"].effective == pytest.approx(chance, abs=2 * noise)
    assert figures["mixed", "greedy"].coverage == pytest.approx(1, abs=noise / chance)


def test_the_document_is_plain_json(dataset):
    document = json.loads(json.dumps(describe(dataset).to_dict()))
    assert document["digest"] == dataset.digest
    assert [policy["policy"] for policy in document["policies"]] == list(POLICIES)
    assert not any("plots" in policy for policy in document["policies"])


class Balanced(HTMLParser):
    """Fails where tags do not match, and collects text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.count: dict[str, int] = {}

    def handle_starttag(self, tag, attrs):
        self.count[tag] = self.count.get(tag, 0) + 1
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.count[tag] = self.count.get(tag, 0) + 1

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_stands_alone_and_shows_the_figures(dataset):
    described = describe(dataset)
    written = page(described)
    parsed = Balanced()
    parsed.feed(written)
    assert parsed.open == []
    text = " ".join(parsed.text)
    for policy in described.policies:
        assert policy.policy in text
        assert f"{policy.mean:,.2f} ± {policy.sem:.2f}" in text
    assert described.digest in text
    assert parsed.count["svg"] == (4 if dataset.spec.name == "modified-lts-20-2" else 3)
    assert parsed.count["polyline"] == 3 * (parsed.count["svg"] - 2)
    assert not re.search(r"(src|href)=|url\(|@import|nan|inf\b", written)
    assert "prefers-color-scheme: dark" in written


def test_the_bars_of_a_policy_hold_all_its_episodes(dataset):
    described = describe(dataset)
    chart = page(described).split("<h2>Return by policy</h2>")[1].split("</section>")[0]
    counts = [int(found.replace(",", "")) for found in re.findall(r": ([\d,]+)</title>", chart)]
    assert sum(counts) == described.episodes


def test_names_of_others_are_text_and_no_markup(small):
    import dataclasses

    described = describe(small)
    policies = tuple(dataclasses.replace(policy, policy="<b>&") for policy in described.policies)
    written = page(dataclasses.replace(described, policies=policies))
    assert "<b>&<" not in written
    assert "&lt;b&gt;&amp;" in written


def test_an_empty_dataset_is_described_too(tmp_path, small):
    folder = Folder(str(tmp_path / "empty"))
    described = describe(Dataset(folder, small.spec, {}, ()).publish())
    assert (described.episodes, described.steps, described.policies) == (0, 0, ())
    assert "<b>0</b>episodes" in page(described)
    assert len(no_rows(small.spec)) == 0


def test_a_damaged_part_is_not_described(copied, small):
    part = copied / small.parts[0].path
    part.write_bytes(part.read_bytes()[:-50])
    with pytest.raises(InputError, match=r"part-00000\.parquet: expected a Parquet file"):
        describe(Dataset.open(str(copied)))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 100, [0, 20, 40, 60, 80, 100]),
        (-3, 0, [-3, -2.5, -2, -1.5, -1, -0.5, 0]),
        (5, 5, [5]),
        (0.45, 0.503, [0.45, 0.46, 0.47, 0.48, 0.49, 0.5]),
        (1124.4, 1203.9, [1140, 1160, 1180, 1200]),
    ],
)
def test_ticks_are_round_numbers_within_the_range(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)
