"""Requests by item id: a version of own logs answers as with the logs' own encoders."""

from __future__ import annotations

import json
import os
import shutil
from decimal import Decimal
from types import SimpleNamespace

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow.exceptions import MlflowException

import tasks.register
from flows.cli.main import main
from slateflow.learners import learner_config, train
from slateflow.policies import ScoringPolicy
from slateflow.trajectories.sources.logged_rows import LoggedRows
from tasks.store.requests import logged_requests
from tasks.store.tracking import mlflow_client, version_rows
from tests.registry.published import register_winner
from tests.registry.test_consumer import ask_elsewhere
from tests.registry.test_serving import ask
from tests.servers import model_server
from tests.trajectories.sources.shop import log, published

ITEMS = """
id,price,brand
7,1.5,acme
8,3.0,acme
9,2.0,zenith
10,0.5,bolt
11,4.5,zenith
"""
NAMES = ["age", "country", "vip", "taste"]
RECIPE = """
unknown_items = "{unknown}"
[columns]
user = ["age", "country", "vip", "taste"]
item = "shown"
candidates = "offered"
{clicked}
[items]
file = "items.csv"
id = "id"
features = ["price", "brand"]
"""


def table(slate: int, rows: int = 600) -> pd.DataFrame:
    """Decisions among two to five of the items, of which one or `slate` are shown."""
    rng = np.random.default_rng(slate)
    offered = [rng.permutation([7, 8, 9, 10, 11])[:n] for n in rng.integers(slate, 6, rows)]
    shown = [rng.permutation(one)[:slate] for one in offered]
    counts = np.array([len(one) for one in offered])
    clicked = rng.integers(0, slate, rows)
    liked = np.array([one[place] % 2 for one, place in zip(shown, clicked, strict=True)])
    return pd.DataFrame(
        {
            "age": rng.integers(18, 80, rows),
            "country": rng.choice(["at", "de", "größte"], rows),
            "vip": rng.random(rows) < 0.3,
            "taste": [list(pair) for pair in rng.normal(size=(rows, 2))],
            "offered": [one.tolist() for one in offered],
            "shown": [one.tolist() for one in shown] if slate > 1 else [one[0] for one in shown],
            "propensity": 1 / counts if slate == 1 else 1 / (counts * (counts - 1)),
            "clicked": clicked,
            "reward": (rng.random(rows) < 0.2 + 0.5 * liked).astype(int),
        }
    )


def publish(name: str, dataset, learner: str):
    """Train and register; returns the scorer."""
    scorer, summary = train(dataset, learner_config(learner), seed=1)
    register_winner(dataset, name, scorer, summary)
    return scorer


@pytest.fixture(scope="module", params=[1, 2], ids=["single items", "slates"])
def shop(request, tmp_path_factory):
    """Dataset, table, scorer and registered model; with slates unknown items are zeros."""
    folder = tmp_path_factory.mktemp("shop")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
        frame = table(request.param)
        log(folder, "1.parquet", frame)
        (folder / "items.csv").write_text(ITEMS.strip() + "\n")
        unknown, clicked = ("refuse", "") if request.param == 1 else ("zeros", 'clicked="clicked"')
        dataset = published(folder, RECIPE.format(unknown=unknown, clicked=clicked))
        scorer = publish("shop", dataset, "linucb")
        model = mlflow.pyfunc.load_model("models:/slateflow-shop@champion")
        yield SimpleNamespace(dataset=dataset, table=frame, scorer=scorer, model=model)


def test_the_code_of_a_version_may_lie_in_any_folder(shop, tmp_path, monkeypatch):
    code = tmp_path / "50%41 off"
    shutil.copytree(
        tasks.register.RECOMMENDER, code, ignore=shutil.ignore_patterns("artifacts", "*.db*")
    )
    monkeypatch.setattr(tasks.register, "RECOMMENDER", code)
    publish("elsewhere", shop.dataset, "linucb")


def requests(frame: pd.DataFrame, by_name: bool = False) -> pd.DataFrame:
    """The table's columns as requests."""
    users = frame[NAMES].to_dict("records")
    return pd.DataFrame(
        {
            "user": users if by_name else [list(user.values()) for user in users],
            "items": frame["offered"].tolist(),
        }
    )


def expected_scores(shop, frame: pd.DataFrame) -> list[np.ndarray]:
    """Scores of each row by the dataset's own encoders, row by row."""
    users = shop.dataset.encoding.user_features({name: frame[name].tolist() for name in NAMES})
    scores = []
    for user, offered in zip(users, frame["offered"], strict=True):
        numbers = shop.dataset.encoding.item_numbers(offered)
        features = shop.dataset.catalogue.features[numbers] * (numbers >= 0)[:, None]
        scores.append(shop.scorer.scores(user[None], np.zeros(1, int), features[None])[0])
    return scores


@pytest.mark.parametrize("by_name", [False, True])
def test_answers_are_those_of_the_logs_own_encoders(shop, by_name):
    frame = shop.table[:200]
    answers = shop.model.predict(requests(frame, by_name))
    assert list(answers) == ["slate", "items", "scores", "propensity", "outside"]
    size = shop.scorer.slate_size
    for scores, offered, (_, answer) in zip(
        expected_scores(shop, frame), frame["offered"], answers.iterrows(), strict=True
    ):
        np.testing.assert_allclose(answer["scores"], scores, rtol=1e-12)
        best = sorted(range(len(scores)), key=lambda place: -scores[place])[:size]
        assert answer["slate"] == best
        assert answer["items"] == [str(offered[place]) for place in best]
        assert answer["propensity"] == 1.0


def test_the_logged_rows_get_the_slates_of_the_policy(shop):
    """The other direction: from the published rows, by the evaluated policy."""
    rows = shop.dataset.read()
    shown, _ = ScoringPolicy(shop.scorer).act(rows.observation(), np.random.default_rng(0))
    policy = [np.array(rows.catalogue.features)[rows.candidates[r][shown[r]]] for r in range(9)]
    asked = logged_requests(rows.where(slice(9)), shop.dataset.encoding)
    answers = shop.model.predict(asked)
    numbers = [shop.dataset.encoding.item_numbers(items) for items in answers["items"]]
    for features, found in zip(policy, numbers, strict=True):
        np.testing.assert_array_equal(shop.dataset.catalogue.features[found], features)


def test_without_items_the_whole_catalogue_is_on_offer(shop):
    frame = shop.table[:3].assign(offered=[list(shop.dataset.encoding.items)] * 3)
    whole = shop.model.predict(requests(frame))
    pd.testing.assert_frame_equal(shop.model.predict(requests(frame)[["user"]]), whole)
    some = requests(frame)
    some["items"] = [None, ["9", 8], None]  # ids as texts or as numbers
    mixed = shop.model.predict(some)
    pd.testing.assert_frame_equal(mixed.iloc[[0, 2]], whole.iloc[[0, 2]])
    assert len(mixed["scores"][1]) == 2


def test_no_requests_have_no_answers(shop):
    answers = shop.model.predict(requests(shop.table[:0]), params={"epsilon": 0.5})
    assert answers.columns.tolist() == ["slate", "items", "scores", "propensity", "outside"]
    assert answers["items"].dtype == object
    assert len(answers) == 0


def test_unknown_categories_are_zero(shop):
    frame = shop.table[:2].assign(country=["atlantis", None])
    known = expected_scores(shop, frame.assign(country="nowhere"))
    answers = shop.model.predict(requests(frame))
    for scores, answer in zip(known, answers["scores"], strict=True):
        np.testing.assert_allclose(answer, scores, rtol=1e-12)


def test_half_a_character_is_an_unknown_category_and_an_unknown_item(shop):
    asked = requests(shop.table[:1].assign(country="nowhere"))
    expected = shop.model.predict(asked)
    asked["user"] = [["\ud83d" if one == "nowhere" else one for one in asked["user"][0]]]
    pd.testing.assert_frame_equal(shop.model.predict(asked), expected)
    asked["items"] = [["\ud83d", 7]]
    if shop.scorer.slate_size > 1:
        assert "\ud83d" in shop.model.predict(asked)["items"][0]
        return
    with pytest.raises(MlflowException, match=r"row 0: expected items .*, got \?"):
        shop.model.predict(asked)


@pytest.mark.parametrize("written", ["True", "TRUE", "true"])
def test_booleans_may_be_texts(shop, written):
    frame = shop.table[:20]
    answers = shop.model.predict(requests(frame))
    other = {"True": "False", "TRUE": "FALSE", "true": "false"}[written]
    texts = frame.assign(vip=np.where(frame["vip"], written, other))
    pd.testing.assert_frame_equal(shop.model.predict(requests(texts)), answers)


def test_numbers_may_be_decimals(shop):
    frame = requests(shop.table[:20])
    decimals = frame.assign(
        user=[[Decimal(user[0]), *user[1:3], [*map(Decimal, user[3])]] for user in frame["user"]]
    )
    pd.testing.assert_frame_equal(shop.model.predict(decimals), shop.model.predict(frame))
    for wrong in (Decimal("NaN"), Decimal("sNaN"), 10**400, [Decimal(1)]):
        mixed = frame.assign(user=[[wrong, *user[1:]] for user in frame["user"]])
        with pytest.raises(MlflowException, match="row 0: expected a number as age, got "):
            shop.model.predict(mixed)


def test_answers_do_not_depend_on_other_requests(shop):
    """For Python True equals 1, and for NumPy 1 equals 1.0."""
    frame = shop.table[:5].assign(vip=[1, True, "true", 0, False], country=[1, True, 1.0, "at", 0])
    whole = shop.model.predict(requests(frame))
    for row in range(5):
        alone = shop.model.predict(requests(frame[row : row + 1].reset_index(drop=True)))
        assert alone["scores"][0] == whole["scores"][row]


def test_an_unknown_item_is_offered_once(shop):
    asked = requests(shop.table[:1])
    asked["items"] = [["99", 99, 7]]
    unknown = "each id once" if shop.scorer.slate_size > 1 else "items of the catalogue"
    with pytest.raises(MlflowException, match=f"items, row 0: expected {unknown}"):
        shop.model.predict(asked)


def test_unknown_items_are_what_the_recipe_says(shop):
    frame = shop.table[:2].assign(offered=[[7, 8, 9], [9, 99, 8]])
    if shop.scorer.slate_size == 1:
        with pytest.raises(MlflowException, match="items, row 1: expected items of the catalogue"):
            shop.model.predict(requests(frame))
        return
    answers = shop.model.predict(requests(frame))
    for scores, answer in zip(expected_scores(shop, frame), answers["scores"], strict=True):
        np.testing.assert_allclose(answer, scores, rtol=1e-12)


def test_what_is_shown_at_random_is_named_by_its_ids(shop):
    frame = pd.concat([shop.table[:100]] * 3)
    params = {"epsilon": 0.5, "seed": 3}
    answers = shop.model.predict(requests(frame), params=params)
    pd.testing.assert_frame_equal(shop.model.predict(requests(frame), params=params), answers)
    plain, size = shop.model.predict(requests(frame)), shop.scorer.slate_size
    for offered, best, (_, answer) in zip(
        frame["offered"], plain["slate"], answers.iterrows(), strict=True
    ):
        assert answer["items"] == [str(offered[place]) for place in answer["slate"]]
        slates = len(offered) * (len(offered) - 1 if size == 2 else 1)
        expected = 0.5 / slates + 0.5 * (answer["slate"] == best)
        assert answer["propensity"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("user", "items", "sentence"),
    [
        ([34, "at", True], [7, 8], "user, row 1: expected age, country, vip, taste as a list or"),
        ({"age": 3}, [7, 8], "user, row 1: expected age, country, vip, taste as a list or by name"),
        (None, [7, 8], "user, row 1: expected age, .*, got nothing"),
        (["old", "at", True, [0, 0]], [7, 8], "row 1: expected a number as age, got 'old'"),
        (["34", "at", True, [0, 0]], [7, 8], "row 1: expected a number as age, got '34'"),
        ([None, "at", True, [0, 0]], [7, 8], "row 1: expected a number as age, got nothing"),
        ([1e300, "at", True, [0, 0]], [7, 8], r"row 1: expected a number as age, got 1e\+300"),
        ([np.nan, "at", True, [0, 0]], [7, 8], "row 1: expected a number as age, got nothing"),
        (
            [34, ["at"], True, [0, 0]],
            [7, 8],
            r"user, row 1: expected a text or a .* as country, got \['at'\]",
        ),
        ([34, "at", True, [0]], [7, 8], r"row 1: expected a list of 2 numbers as taste, got \[0\]"),
        ([[34], "at", True, [0, 0]], [7, 8], r"row 1: expected a number as age, got \[34\]"),
        ([True, "at", True, [0, 0]], [7, 8], "row 1: expected a number as age, got True"),
        ([34, "at", True, "x"], [7, 8], "row 1: expected a list of 2 numbers as taste, got 'x'"),
        ([34, "at", True, [0, 0]], [], "items, row 1: expected ids, got an empty list"),
        ([34, "at", True, [0, 0]], "7", "items, row 1: expected a list, got 7"),
        ([34, "at", True, [0, 0]], [7, None], "items, row 1: expected items of .* got nothing"),
        ([34, "at", True, [0, 0]], [7, 7], "items, row 1: expected each id once"),
        (
            [34, "at", True, [0, 0]],
            [7, {"id": 8}],
            "items, row 1: expected a text or .* got {'id': 8}",
        ),
    ],
)
def test_a_wrong_request_is_refused_with_a_sentence(shop, user, items, sentence):
    good = requests(shop.table[:1]).to_dict("records")[0]
    with pytest.raises(MlflowException, match=sentence):
        shop.model.predict(pd.DataFrame([good, {"user": user, "items": items}]))


def test_features_in_place_of_ids_are_refused(shop):
    asked = requests(shop.table[:1]).assign(candidates=[[[1.0]]])
    with pytest.raises(MlflowException, match="column candidates: expected item ids"):
        shop.model.predict(asked)


def test_the_page_of_the_version_shows_a_request_that_it_answers(shop):
    client = mlflow_client()
    page = client.get_model_version_by_alias("slateflow-shop", "champion").description
    (document,) = [json.loads(line) for line in page.splitlines() if line.startswith("{")]
    (request,) = document["dataframe_records"]
    assert set(request) == {"user", "items", "step"}
    answers = shop.model.predict(pd.DataFrame([request]))
    assert set(answers["items"][0]) <= set(request["items"])


@pytest.mark.slow
def test_over_http(shop):
    frame = shop.table[:20]
    with model_server("models:/slateflow-shop@champion", os.environ["MLFLOW_TRACKING_URI"]) as at:
        records = json.loads(requests(frame, by_name=True).to_json(orient="records"))
        status, document = ask(at, {"dataframe_records": records, "params": {"epsilon": 0.0}})
        assert status == 200, document
        expected = shop.model.predict(requests(frame))
        assert [one["items"] for one in document["predictions"]] == expected["items"].tolist()
        status, document = ask(at, {"dataframe_records": [{"user": {"age": 1}, "items": [7]}]})
        assert status == 400
        assert "user, row 0: expected age, country, vip, taste" in document["message"]


@pytest.mark.parametrize("shop", [2], indirect=True)
def test_a_program_without_us_asks_by_id(shop, tmp_path):
    asked = requests(shop.table[:20], by_name=True)
    asked.to_json(tmp_path / "requests.json", orient="records")
    packages = ["mlflow-skinny", "numpy", "pandas", "sqlalchemy", "alembic"]
    uri, model = os.environ["MLFLOW_TRACKING_URI"], "models:/slateflow-shop@champion"
    answered = ask_elsewhere(packages, uri, tmp_path / "requests.json", tmp_path, model)
    assert answered == shop.model.predict(asked)["slate"].tolist()


def test_a_parquet_file(shop, tmp_path, capsys):
    frame = requests(shop.table[:50], by_name=True).assign(id=range(50))
    pq.write_table(pa.Table.from_pandas(frame), tmp_path / "in.parquet")
    asked = ["recommend", "--model", "models:/slateflow-shop@champion"]
    assert main([*asked, *(str(tmp_path / f"{one}.parquet") for one in ("in", "out"))]) == 0
    answers = pq.read_table(tmp_path / "out.parquet")
    assert answers.schema.names == ["id", "slate", "items", "scores", "propensity", "outside"]
    expected = shop.model.predict(requests(shop.table[:50]))
    assert answers["items"].to_pylist() == expected["items"].tolist()
    assert answers["slate"].to_pylist() == expected["slate"].tolist()


def test_a_version_carries_a_sample_of_the_rows_behind_it(shop):
    version = mlflow_client().get_model_version_by_alias("slateflow-shop", "champion")
    carried = version_rows(version)
    assert len(carried.sample.smallest) == 256  # of 600 rows
    assert carried.among(LoggedRows.of(shop.dataset))


def test_a_file_with_item_in_place_of_items_is_answered_with_a_remark(shop, tmp_path, capsys):
    frame = requests(shop.table[:2], by_name=True).drop(columns="items").assign(item=["1", "2"])
    pq.write_table(pa.Table.from_pandas(frame), tmp_path / "in.parquet")
    asked = ["recommend", "--model", "models:/slateflow-shop@champion"]
    assert main([*asked, *(str(tmp_path / f"{one}.parquet") for one in ("in", "out"))]) == 0
    lines = capsys.readouterr().err.splitlines()
    (line,) = [one for one in lines if "slateflow: " in one]
    assert "in.parquet: no column items (lists of ids)" in line
    assert line.endswith("offered the whole catalogue; item is only copied")
    scored = pq.read_table(tmp_path / "out.parquet")["scores"].to_pylist()
    assert {len(one) for one in scored} == {len(shop.dataset.catalogue.features)}


def test_a_session_without_user_columns_is_remembered_by_ids(tmp_path, monkeypatch):
    """Users like all items or hardly any in sessions of five steps; only rewards show which."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    rng = np.random.default_rng(2)
    shown, likes = rng.integers(0, 4, (200, 5)), rng.random((200, 1)) < 0.5
    sessions = {
        "session": np.repeat(np.arange(200), 5),
        "t": np.tile(np.arange(5), 200),
        "item": shown.ravel(),
        "propensity": 0.25,
        "reward": (np.where(likes, 1.0, 0.1) * (1 + shown % 2)).ravel(),
    }
    log(tmp_path, "1.parquet", sessions)
    dataset = published(tmp_path, '[columns]\nepisode = "session"\ntime = "t"\n')
    scorer = publish("sessions", dataset, "fitted-q")
    assert scorer.memory_size > 0
    model = mlflow.pyfunc.load_model("models:/slateflow-sessions@champion")
    history = [
        [{"items": [int(item)], "reward": float(liked)} for item in items[:steps]]
        for items, liked, steps in zip(
            shown[:40], likes[:40, 0], rng.integers(0, 5, 40), strict=True
        )
    ]
    steps = [len(one) for one in history]
    answers = model.predict(pd.DataFrame({"history": history, "step": steps}))
    features = dataset.catalogue.features
    for session, step, scores in zip(history, steps, answers["scores"], strict=True):
        memory = np.zeros((1, scorer.memory_size))
        for event in session:
            one = features[event["items"]][None]
            rewards = np.array([event["reward"]])
            memory = scorer.remember(memory, np.zeros((1, 0)), one, np.zeros(1, int), rewards)
        expected = scorer.scores(np.zeros((1, 0)), np.array([step]), features[None], memory)[0]
        np.testing.assert_allclose(scores, expected, rtol=1e-12, atol=1e-14)
    begun = model.predict(pd.DataFrame({"step": [0]}))
    for first in ([], None):
        asked = pd.DataFrame({"history": [first], "step": [0]})
        pd.testing.assert_frame_equal(model.predict(asked), begun)
    for wrong in ([{"items": [1]}], [{"items": [1, 2], "reward": 1}], [7], [{"reward": 1}]):
        with pytest.raises(MlflowException, match="history, row 0: expected steps with items"):
            model.predict(pd.DataFrame({"history": [wrong]}))
    good = {"items": [1], "reward": 1.0}
    for wrong, expected in (
        ({"reward": "much"}, "row 1: expected a number as reward, got 'much'"),
        ({"reward": 10**400}, "row 1: expected a number as reward, got 1000"),
        ({"clicked": None}, "row 1: expected a number as clicked, got nothing"),
        ({"clicked": 3}, r"row 1: expected a clicked place from 0 to 0, .* got 3 in step 1"),
    ):
        with pytest.raises(MlflowException, match=f"history, {expected}"):
            model.predict(pd.DataFrame({"history": [[good], [good, good | wrong]]}))
