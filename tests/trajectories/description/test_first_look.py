"""The first look at own logs: figures by hand, and remarks on uninformative logs."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from slateflow.evaluation.off_policy.estimates import refusal_of_random
from slateflow.trajectories.description.describe import describe
from slateflow.trajectories.description.page import page
from tests.evaluation.off_policy.tired_shop import TiredShop
from tests.trajectories.sources.shop import log, published, slates_table


def look(folder, frame, text=""):
    log(folder, "a.parquet", frame)
    return describe(published(folder, text)).first_look


def test_the_figures_are_those_of_a_pencil(tmp_path):
    frame = {
        "item": ["a", "b", "a", "c"],
        "offered": [["a", "b"], ["a", "b", "c", "d"], ["a", "b"], ["c", "d"]],
        "propensity": [0.5, 0.5, 0.25, 1.0],
        "reward": [1.0, 0.0, 2.0, 0.0],
        "session": [1, 1, 2, 2],
    }
    found = look(tmp_path, frame, '[columns]\ncandidates = "offered"\nepisode = "session"')
    # w = 1, 1/2, 2, 1/2
    assert (found.rows, found.sessions, found.items, found.candidates) == (4, 2, 4, (2, 4))
    assert (found.reward, found.rewarded, found.propensity) == (0.75, 0.5, (0.25, 1.0))
    assert found.mean_weight == 1
    assert found.mean_weight_sem == pytest.approx(np.std([1, 0.5, 2, 0.5]) / 2)
    assert found.largest_share == 0.5
    assert found.effective_rows == pytest.approx(16 / 5.5)
    assert found.effective_rewards == pytest.approx(25 / 17)
    assert found.agreeing_rows is found.agreeing_rewards is None  # sessions of two steps
    assert found.outlook.startswith("no verdict to expect: random would rest on 1.5 effective")


def shop(rewards: float, wrong: float = 1.0) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    chances = np.array([0.7, 0.1, 0.1, 0.1])
    item = rng.choice(4, 5000, p=chances)
    return pd.DataFrame(
        {
            "item": item,
            "propensity": chances[item] * wrong,
            "reward": (rng.random(5000) < rewards).astype(float),
        }
    )


@pytest.mark.parametrize(
    ("frame", "outlook"),
    [
        (shop(0.1), "a verdict against random is possible"),
        (shop(0.1, wrong=0.5), "no verdict to expect: the mean weight of random is 2.0"),
        (shop(0.0), "no verdict to expect: all rewards are 0;"),
        (shop(0.1).assign(reward=2), "no verdict to expect: all rewards are 2;"),
        (shop(0.1).assign(item=0, propensity=1.0), "no verdict to expect: no row offers more"),
    ],
)
def test_the_outlook(tmp_path, frame, outlook):
    assert look(tmp_path, frame.to_dict("list")).outlook.startswith(outlook)


@pytest.mark.parametrize(
    ("probability", "meaning"),
    [
        (1 / 6, "they look like those of the first place alone, and have to be those of the whole"),
        (1 / 20, "they look like those of the slate in any order, and have to be those of the"),
        (1 / 2, "check them, and whether everything that was offered is shown at times"),
    ],
)
def test_what_propensities_of_slates_were_taken_for(tmp_path, probability, meaning):
    """Slates of three of six items: 120 in order, 20 in any, and six items in the first place."""
    rng = np.random.default_rng(0)
    shown = rng.permuted(np.tile(np.arange(6), (2_000, 1)), axis=1)[:, :3]
    frame = slates_table(shown, rng.integers(-1, 3, 2_000), items=6)
    text = '[columns]\nclicked = "clicked"'
    assert look(tmp_path, frame, text).propensities_of == ""
    frame["propensity"] = np.full(2_000, probability)
    (tmp_path / "wrong").mkdir()
    outlook = look(tmp_path / "wrong", frame, text).outlook
    assert outlook.startswith("no verdict to expect: the mean weight of random is 0.")
    assert meaning in outlook


def test_ratings_of_both_signs_are_rewards(tmp_path):
    """The sum of such rewards is near 0, whatever their number."""
    frame = shop(0.5)
    frame["reward"] = np.where(frame["reward"] > 0, 1.0, -1.0)
    found = look(tmp_path, frame.to_dict("list"))
    assert found.effective_rewards == pytest.approx(found.effective_rows)
    assert found.outlook.startswith("a verdict against random is possible")


@pytest.mark.parametrize("rows", [4_000, 6_000])
def test_rows_that_agree_with_another_policy_are_counted(tmp_path, rows):
    """With 100 equally frequent items: one in a hundred of a fifth of the rows."""
    rng = np.random.default_rng(rows)
    item, reward = rng.integers(0, 100, rows), (rng.random(rows) < 0.25).astype(float)
    frame = {"item": item, "propensity": np.full(rows, 0.01), "reward": reward}
    found = look(tmp_path, frame)
    assert found.agreeing_rows == pytest.approx(rows / 500)
    held_out = np.arange(rows) % 5 == 4
    agreed = [np.count_nonzero(item[held_out] == one) for one in range(100)]
    assert found.agreeing_rows == pytest.approx(np.mean(agreed))
    assert found.agreeing_rewards == pytest.approx(0.25 * rows / 500, rel=0.1)
    expected = "no verdict to expect: about 8.0 held-out rows show what another policy would show"
    assert found.outlook.startswith(expected) == (rows == 4_000)


@pytest.mark.parametrize("clicked", [20, 200])
def test_rows_that_agree_need_a_reward_at_times(tmp_path, clicked):
    """With 50 equally frequent items: a reward in a 250th of the rows that have one."""
    item = np.arange(10_000) % 50
    frame = {"item": item, "propensity": np.full(10_000, 0.02), "reward": item * 0.0}
    frame["reward"][np.random.default_rng(0).permutation(10_000)[: 5 * clicked]] = 1.0
    found = look(tmp_path, frame)
    assert found.agreeing_rewards == pytest.approx(clicked / 50)
    expected = "no verdict to expect: about 0.4 held-out rows with a reward show what another"
    assert found.outlook.startswith(expected) == (clicked == 20)
    if clicked == 20:
        assert "and it takes 5; log more rows" in found.outlook


@pytest.mark.parametrize(("sessions", "possible"), [(100, False), (3_000, True)])
def test_the_gate_is_asked_about_random(tmp_path, sessions, possible):
    """A verdict on sessions needs many steps per feature of a model; weights alone do not."""
    dataset = TiredShop(0.0).logs(tmp_path, sessions, 0)
    outlook = describe(dataset, refusal_of_random).first_look.outlook
    assert describe(dataset).first_look.outlook.startswith("a verdict against random is possible")
    if possible:
        assert outlook.startswith("a verdict against random is possible")
    else:
        assert "no verdict to expect: random: the logs have" in outlook
        assert "log more sessions" in outlook


def test_an_item_that_came_later_is_named(tmp_path):
    """Half the rows offer three of the four items; without `candidates` all count as offered."""
    rng = np.random.default_rng(3)
    late = np.arange(4000) >= 2000
    item = np.where(late, rng.integers(0, 4, 4000), rng.integers(0, 3, 4000))
    frame = {
        "item": [f"i{one}" for one in item],
        "offered": [[f"i{one}" for one in range(4 if some else 3)] for some in late],
        "propensity": np.where(late, 1 / 4, 1 / 3),
        "reward": rng.integers(0, 2, 4000),
    }
    assert look(tmp_path, frame, '[columns]\ncandidates = "offered"').outlook.startswith(
        "a verdict"
    )
    found = look(tmp_path, frame).outlook
    assert (
        "; item 'i3' is not shown in the first 50% of the rows: name `candidates` if it was not "
        "offered then; otherwise check them, and whether everything"
    ) in found
    shuffled = pd.DataFrame(frame).sample(frac=1, random_state=0).to_dict("list")
    assert "`candidates`" not in look(tmp_path, shuffled).outlook


def test_it_stands_in_the_command_and_in_its_json(tmp_path, capsys):
    from flows.cli.main import main

    log(tmp_path, "a.parquet", shop(0.1).to_dict("list"))
    path = published(tmp_path).path
    assert main(["describe", path, "--page", str(tmp_path / "page.html")]) == 0
    printed = capsys.readouterr().out
    assert "outlook       a verdict against random is possible" in printed
    assert "items         4, of which 4 are offered at a time\n" in printed
    assert "propensity    0.1 to 0.7\n" in printed
    assert "as another    about 51" in printed  # 1,000 (.7² + 3 × .1²), up to chance
    assert "clicks" not in printed
    page = (tmp_path / "page.html").read_text()
    assert "A verdict against random is possible" in page
    assert "<th>clicks</th>" not in page
    assert main(["describe", path, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)["first_look"]
    assert "user          no columns\n" in printed
    assert document["columns"] == {}
    assert document["rows"] == 5000
    assert document["outlook"].startswith("a verdict")


@pytest.mark.parametrize(("first", "anew"), [(3990, False), (0, True)])
def test_sessions_whose_ids_begin_anew_are_noticed(tmp_path, capsys, first, anew):
    from flows.cli.main import main

    frame = shop(0.1).assign(session=np.arange(5000) // 5, t=np.arange(5000))
    log(tmp_path, "a.parquet", frame[:4000].to_dict("list"))
    again = frame[first : first + 1010].assign(t=np.arange(6000, 7010))
    log(tmp_path, "b.parquet", again.to_dict("list"))
    text = '[columns]\nepisode = "session"\ntime = "t"\n'
    dataset = published(tmp_path, text)
    # 798 and 799 are in both files, or all 202 of the second
    assert describe(dataset).first_look.spread == (202 if anew else 2)
    assert main(["describe", dataset.path]) == 0
    printed = capsys.readouterr().out
    hint = "; ids that begin anew in each file would join them" * anew
    assert (
        f"sessions      {202 if anew else 2} of them have rows in several files{hint}\n" in printed
    )
    assert describe(dataset).first_look.sessions == (800 if anew else 1000)


def test_it_says_what_columns_of_the_user_were_read_as(tmp_path, capsys):
    from flows.cli.main import main

    frame = shop(0.1).assign(age=34.0, country=np.array(["at", "de", "fr"])[np.arange(5000) % 3])
    kept = {"taste": [[0.5, 0.25]] * 5000, **{f"n{number}": 1 for number in range(12)}}
    log(tmp_path, "a.parquet", {**frame.to_dict("list"), **kept})
    columns = ["age", "country", *kept]
    path = published(tmp_path, f"[columns]\nuser = {json.dumps(columns)}\n").path
    assert main(["describe", path]) == 0
    row = "user          age: number; country: 3 categories; taste: 2 numbers; n0: number; "
    printed = capsys.readouterr().out
    assert row in printed
    assert "; n8: number; 3 more\n" in printed
    assert main(["describe", path, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)["first_look"]
    assert [*document["columns"]] == columns


def test_the_page_of_single_decisions_has_no_steps_and_digits_enough(tmp_path):
    log(tmp_path, "a.parquet", shop(0.1))
    described = describe(published(tmp_path, ""))
    (policy,) = described.policies
    written = page(described)
    assert "Reward over the step" not in written
    assert f"{policy.mean:.4f} ± {policy.sem:.4f}" in written  # 0.0990 ± 0.0042
