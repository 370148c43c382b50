"""Decisions in VW's form: the expected rows are written by hand."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from pathlib import Path

import numpy as np
import pytest

from slateflow.errors import InputError
from slateflow.trajectories import Folder, generate
from slateflow.trajectories.contract import check_rows
from slateflow.trajectories.description.describe import describe
from slateflow.trajectories.sources.dsjson import item_id
from slateflow.trajectories.sources.lines_passed_by import passed_by_of
from tests.trajectories.sources.shop import log, published, recipe

DSJSON = 'format = "dsjson"\n'
TEA = {"_tag": "cmplx", "i": {"constant": 1, "id": "tea"}, "j": [{"hot": True}, {"price": 2}]}
RUM = {"i": {"constant": 1, "id": "rum"}, "j": [{"hot": False}, {"price": 30.5}]}


def line(cost=-1.0, probability=0.75, label=2, **changes) -> str:
    """A decision: rum was the best with 0.75, tea had 0.25."""
    document = {
        "_label_cost": cost,
        "_label_probability": probability,
        "_label_Action": label,
        "_labelIndex": label - 1,
        "Timestamp": "2026-11-26T10:00:00.5Z",
        "a": [2, 1],
        "p": [0.75, 0.25],
        "c": {"From": [{"day": "monday", "visits": 3}], "_multi": [TEA, RUM]},
        **changes,
    }
    return json.dumps({key: value for key, value in document.items() if value is not None})


def test_actions_become_items_and_nested_features_columns(tmp_path):
    other = {"From": {"day": "sunday", "new": True}, "_multi": [RUM, TEA, {"i": {"id": "none"}}]}
    text = [
        line(),
        line(cost=0, probability=0.25, label=1),
        json.dumps({"RewardValue": 1, "EventId": "e"}),  # a reward that came without a decision
        "",
        line(_skipLearn=True),
        line(cost=0.5, probability=0.5, label=1, a=[1, 3, 2], p=[0.5, 0.4, 0.1], c=other),
    ]
    log(tmp_path, "a.dsjson", "\n".join(text))
    dataset = published(tmp_path, DSJSON)
    rows = check_rows(dataset.read(), dataset.spec, "here")
    assert dataset.spec.user_features == (
        "From.day=monday", "From.day=sunday", "From.visits", "From.new=true",
    )  # fmt: skip
    assert rows.user.tolist() == [[1, 0, 3, 0], [1, 0, 3, 0], [0, 1, 0, 1]]
    # Catalogue in the order of the JSON: {"i":{"constant"… rum, tea; {"i":{"id"… none
    assert [json.loads(one)["i"]["id"] for one in dataset.encoding.items] == ["rum", "tea", "none"]
    assert dataset.spec.item_features == (
        "i.constant", "i.id=none", "i.id=rum", "i.id=tea", "j.hot=false", "j.hot=true", "j.price",
    )  # fmt: skip
    assert dataset.catalogue.features.tolist() == [
        [1, 0, 1, 0, 1, 0, 30.5],
        [1, 0, 0, 1, 0, 1, 2],
        [0, 1, 0, 0, 0, 0, 0],
    ]
    assert rows.candidates.tolist() == [[1, 0, -1], [1, 0, -1], [0, 1, 2]]
    assert rows.slate[:, 0].tolist() == [1, 0, 0]
    assert rows.propensity.tolist() == [0.75, 0.25, 0.5]
    assert rows.reward.tolist() == [1, 0, -0.5]


def test_packed_files_in_the_order_of_time(tmp_path):
    text = [line(cost=-n, Timestamp=f"2026-11-{n:02d}T00:00:00Z") for n in (3, 1, 2)]
    log(tmp_path, "x.json", "")
    (tmp_path / "logs" / "x.json").unlink()
    (tmp_path / "logs" / "a.json.gz").write_bytes(gzip.compress("\n".join(text).encode()))
    assert published(tmp_path, DSJSON + 'held_out = "last"').read().reward.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (line(p=[0.75, 0.75]), "decision 2: p: expected probabilities that add up to 1, got 1.5"),
        (line(p=[1.0]), "decision 2: p: expected 2 probabilities"),
        (line(a=[1, 1]), "decision 2: a: expected each action from 1 to 2 once, got [1, 1]"),
        (line(label=3), "decision 2: _label_Action: expected an action from 1 to 2, got 3"),
        (line(_labelIndex=0), "decision 2: _labelIndex: expected 1, as _label_Action has it"),
        (line(probability=0.5), "decision 2: _label_probability: expected 0.75, as `p` has it"),
        (line(probability=0, p=[0, 1]), "decision 2: _label_probability: expected a probability"),
        (
            line(cost="free"),
            "decision 2: _label_cost: expected a finite number, got the text 'free'",
        ),
        (line(cost="0.0"), "decision 2: _label_cost: expected a finite number, got the text '0.0'"),
        (
            line(cost=1e39),
            "decision 2: _label_cost: expected a number within ±3.4e38, the range of float32, got "
            "1e+39; correct the log and try again",
        ),
        (line(cost=-1e39), "decision 2: _label_cost: expected a number within ±3.4e38, the range"),
        (
            line(c={"From": {"age": 1e39}, "_multi": [TEA, RUM]}),
            "decision 2: From.age: expected a number within ±3.4e38, the range of float32, got 1e",
        ),
        (line(c={}), "decision 2: c._multi: expected a list of actions, got None"),
        (line(c={"_multi": [TEA, TEA]}), "decision 2: c._multi: expected each id once in a row"),
        (
            line(a=[], p=[], c={"_multi": []}),
            "decision 2: c._multi: expected a list of actions, got []",
        ),
        (line(pdrop="half"), "decision 2: pdrop: expected a finite number, got the text 'half'"),
        (line(pdrop=0.5), "decision 2: pdrop: expected 0.0, as in decisions before, got 0.5"),
        (line(_outcomes=[]), "line 3: _outcomes: expected one decision a line, got several"),
        ("{", "line 3: expected a JSON object, got unexpected end of data"),
        ("[1]", "line 3: expected a JSON object, got [1]"),
        (
            line(c={"From": {"day": 3}, "_multi": [TEA, RUM]}),
            "decision 2: From.day: expected texts, got 3",
        ),
    ],
)
def test_what_does_not_fit_is_named_and_leaves_nothing(tmp_path, text, message):
    log(tmp_path, "a.dsjson", "\n".join([line(), "{}", text]))
    with pytest.raises(InputError) as caught:
        generate(recipe(tmp_path, DSJSON), Folder(str(tmp_path / "data")))
    assert f"logs/a.dsjson: {message}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "data").glob("*"))


def test_the_largest_cost_that_float32_holds_is_kept(tmp_path):
    largest = float.fromhex("0x1.fffffep+127")  # (2 - 2^-23) 2^127, by IEEE 754
    log(tmp_path, "a.dsjson", "\n".join([line(), line(cost=-largest), line(cost=largest)]))
    assert sorted(published(tmp_path, DSJSON).read().reward.tolist()) == [-largest, 1, largest]


@pytest.mark.parametrize("time", [1700000000, [1], True])
def test_a_timestamp_that_is_not_a_text(tmp_path, time):
    log(tmp_path, "a.dsjson", "\n".join([line(), line(Timestamp=time)]))
    with pytest.raises(InputError) as caught:
        published(tmp_path, DSJSON + 'held_out = "last"')
    expected = f"decision 2: Timestamp: expected a point in time, as text, got {time}"
    assert f"logs/a.dsjson: {expected}" in str(caught.value)
    assert published(tmp_path, DSJSON).rows == 2  # it is not used


WAITING = line(DeferredAction=True, _skipLearn=True)
OUTCOME = json.dumps({"RewardValue": 1, "EventId": "e"})


def test_lines_that_are_passed_by_are_counted(tmp_path, capsys):
    from flows.cli.main import main

    unlabelled = [line(_label_cost=None), "{}", line(_label_cost=None)]
    again = [line(EventId=name) for name in "efghi"] * 2
    skipped = [line(_skipLearn=True)] * 4
    log(tmp_path, "a.json", "\n".join([WAITING, *skipped, OUTCOME, "", *again, *unlabelled]))
    log(tmp_path, "b.json", "\n".join([line(EventId=name) for name in "ej"]))
    path = published(tmp_path, DSJSON).path
    counts = {"sent_again": 6, "skipped": 4, "unlabelled": 3, "deferred": 1, "outcome_alone": 1}
    assert main(["describe", path, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["first_look"]
    assert found["rows"] == 6
    assert found["passed_by"] == counts
    assert main(["describe", path, "--page", str(tmp_path / "page.html")]) == 0
    told = (
        "15 of 21 lines passed by: 6 sent again (EventId), 4 skipped (_skipLearn), 3 without a "
        "label (_label_cost), 1 deferred (DeferredAction), 1 without a decision (RewardValue)"
    )
    assert f"source        {told}\n" in capsys.readouterr().out
    assert f"<p>{told}.</p>" in (tmp_path / "page.html").read_text()


def test_counts_of_a_day_that_is_taken_over_stay(tmp_path):
    log(tmp_path, "a.json", "\n".join([WAITING, line(EventId="e"), line(EventId="e")]))
    published(tmp_path, DSJSON)
    log(
        tmp_path, "b.json", "\n".join([WAITING, line(), line(c={"x": "new", "_multi": [RUM, TEA]})])
    )
    kept = published(tmp_path, DSJSON)
    assert Path(kept.path, kept.days[0].facts).stat().st_nlink > 1
    assert passed_by_of(kept) == {"deferred": 2, "sent_again": 1}
    log(tmp_path, "0.json", line(EventId="e"))  # before the others: a.json is read again
    assert passed_by_of(published(tmp_path, DSJSON)) == {"deferred": 2, "sent_again": 2}


def test_facts_of_days_without_any_are_as_they_were(tmp_path):
    log(tmp_path, "a.json", line())
    dataset = published(tmp_path, DSJSON)
    assert passed_by_of(dataset) == {}
    assert describe(dataset).first_look.of_lines == ""
    with np.load(io.BytesIO(dataset.folder.read(dataset.days[0].facts))) as stored:
        document = json.loads(zlib.decompress(stored["facts"].tobytes()))
    assert sorted(document) == ["facts", "file", "form"]


def test_where_all_lines_are_passed_by_they_are_told(tmp_path):
    log(tmp_path, "a.json", "\n".join([WAITING, WAITING, OUTCOME]))
    with pytest.raises(InputError) as caught:
        published(tmp_path, DSJSON)
    told = "3 of 3 lines passed by: 2 deferred (DeferredAction), 1 without a decision (RewardValue)"
    assert f"expected decisions that can be used, got none: {told};" in str(caught.value)
    log(tmp_path, "a.json", "\n\n")
    with pytest.raises(InputError, match=r"a\.json: expected rows, got none"):
        published(tmp_path, DSJSON)


def test_one_event_id_for_all_is_none(tmp_path):
    log(tmp_path, "a.json", "\n".join(line(EventId="e") for _ in range(3)))
    with pytest.raises(InputError, match=r"an EventId of its own .*, got 2 times one that came"):
        published(tmp_path, DSJSON)


def test_an_empty_key_and_numbers_beyond_those_that_floats_tell_apart(tmp_path):
    texts = [
        line(c={"": {"x": 2**60 + n}, "From": {"": n}, "_multi": [{"i": 2**63 + n}, {"i": 1}]})
        for n in (1, 2**59)
    ]
    log(tmp_path, "a.dsjson", "\n".join(texts))
    dataset = published(tmp_path, DSJSON)
    assert dataset.spec.user_features == ("x", "From.")
    assert dataset.read().user.tolist() == [[2.0**60, 1], [2.0**60 + 2.0**59, 2.0**59]]
    assert sorted(dataset.catalogue.features[:, 0].tolist()) == [1, 2.0**63, 2.0**63 + 2.0**59]


def test_the_id_of_an_action_is_that_of_pythons_own_json():
    action = {"j": {"tiny": 1e-7, "huge": 1e22, "name": "crème"}, "_tag": 1, "i": [0.1, True]}
    expected = '{"i":[0.1,true],"j":{"huge":1e+22,"name":"crème","tiny":1e-07}}'
    assert item_id(action) == expected
