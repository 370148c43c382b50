"""The scorer against plain loops, and as the file in a registered version."""

from __future__ import annotations

import ast
import importlib.util
import math
import shutil
import sys
import zipfile
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slateflow.policies import Scorer, ScoringPolicy, scorer, slate_choice, slate_scorer
from slateflow.policies.scorer import Support

HORIZON, WINDOW = 10, 4


def activation(x: float) -> float:
    """The layers, applied to a number."""
    return max(x, 0.0)


def polynomial(seed: int = 0, rows: int = 5, user_size: int = 1, document_size: int = 2) -> Scorer:
    """Monomials up to the third degree, with a row of the head for each step left."""
    rng = np.random.default_rng(seed)
    features = user_size + 1 + document_size
    return Scorer(
        user_size=user_size,
        slate_size=2,
        horizon=HORIZON,
        window=WINDOW,
        offset=rng.normal(size=features),
        scale=rng.uniform(0.5, 2, features),
        powers=rng.integers(0, 4, (6, features)),
        head=rng.normal(size=(rows, 6)),
        head_bias=rng.normal(size=rows),
    )


def network(seed: int = 0, rows: int = 5, user_size: int = 1, document_size: int = 2) -> Scorer:
    """Two hidden layers on unchanged features."""
    rng = np.random.default_rng(seed)
    features = user_size + 1 + document_size
    return replace(
        polynomial(seed, rows, user_size, document_size),
        powers=np.zeros((0, features), dtype=np.int64),
        weights=(rng.normal(size=(features, 3)), rng.normal(size=(3, 4))),
        biases=(rng.normal(size=3), rng.normal(size=4)),
        head=rng.normal(size=(rows, 4)),
    )


def linear(seed: int = 0, rows: int = 1, user_size: int = 1, document_size: int = 2) -> Scorer:
    """A head on unchanged features."""
    features = user_size + 1 + document_size
    return replace(
        polynomial(seed, rows, user_size, document_size),
        powers=np.eye(features, dtype=np.int64),
        head=np.random.default_rng(seed).normal(size=(rows, features)),
    )


def bilinear(seed: int = 0, rows: int = 5, user_size: int = 1, document_size: int = 2) -> Scorer:
    """Weights of the products of (1, user) and (1, candidate)."""
    rng, features = np.random.default_rng(seed), user_size + 1 + document_size
    return replace(
        polynomial(seed, rows, user_size, document_size),
        powers=np.zeros((0, features), np.int64),
        head=rng.normal(size=(rows, (1 + user_size) * (1 + document_size))),
    )


def spline(seed: int = 0, rows: int = 5, user_size: int = 1, document_size: int = 2) -> Scorer:
    """Monomials of features and hinges, two for each feature except the time."""
    rng = np.random.default_rng(seed)
    features = user_size + 1 + document_size
    bending = np.repeat(np.delete(np.arange(features), user_size), 2)
    every = features + len(bending)
    return replace(
        polynomial(seed, rows, user_size, document_size),
        offset=rng.normal(size=every),
        scale=rng.uniform(0.5, 2, every),
        powers=rng.integers(0, 3, (6, every)),
        knot_feature=bending,
        knot_value=rng.random(len(bending)),
    )


def both(seed: int = 0, rows: int = 5, user_size: int = 1, document_size: int = 2) -> Scorer:
    """Monomials and outputs of a network."""
    powers = polynomial(seed, rows, user_size, document_size)
    layers = network(seed, rows, user_size, document_size)
    return replace(
        powers,
        weights=layers.weights,
        biases=layers.biases,
        head=np.concatenate([powers.head, layers.head], axis=1),
    )


def score_by_hand(model: Scorer, user: list[float], step: int, candidate: list[float]) -> float:
    """The score of one candidate, in plain Python floats."""
    left = max(model.horizon - step, 1)
    x = [*user, min(left, model.window) / model.window, *candidate]
    x += [
        max(x[f] - v, 0.0) ** 2
        for f, v in zip(model.knot_feature.tolist(), model.knot_value.tolist(), strict=True)
    ]
    x = [(v - o) / s for v, o, s in zip(x, model.offset, model.scale, strict=True)]
    row = min(left, len(model.head)) - 1
    if not len(model.powers) and not model.weights:
        weights = iter(model.head[row].tolist())
        own = [1.0, *x[model.user_size + 1 :]]
        return model.head_bias[row] + sum(
            u * c * next(weights) for u in [1.0, *x[: model.user_size]] for c in own
        )
    terms = [
        math.prod(v**p for v, p in zip(x, exponents, strict=True))
        for exponents in model.powers.tolist()
    ]
    for weight, bias in zip(model.weights, model.biases, strict=True):
        x = [
            activation(sum(v * w for v, w in zip(x, column, strict=True)) + b)
            for column, b in zip(weight.T.tolist(), bias, strict=True)
        ]
    terms += x if model.weights else []
    return sum(v * w for v, w in zip(terms, model.head[row], strict=True)) + model.head_bias[row]


def requests(count: int, candidates: int, user_size: int = 1, document_size: int = 2):
    """Users, steps and candidates of `count` requests."""
    rng = np.random.default_rng(9)
    return (
        rng.random((count, user_size)),
        rng.integers(0, HORIZON, count),
        rng.random((count, candidates, document_size)),
    )


@pytest.mark.parametrize("make", [polynomial, spline, network, both, linear, bilinear])
@pytest.mark.parametrize("users", [1, 3])
def test_candidates_that_all_rows_share_are_scored_as_those_of_each(make, users):
    model = make(3)
    few, many = np.array([0.0, 0.0, 900.0]), np.array([0.0, 900.0, 900.0])
    leaves = np.array([[1, 2], [1, 1], [2, 2]])
    support = Support(np.zeros(3, int), np.full(3, 0.5), leaves, few, many, 0.01, 1)
    user, step, candidates = requests(users, 6)
    one = np.broadcast_to(candidates[:1], candidates.shape)
    for made in (model, replace(model, support=support)):
        expected = made.scores(user, step, np.ascontiguousarray(one))
        scores = made.scores(user, step, one)
        np.testing.assert_allclose(scores, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("filled", [0.0, 0.002, 0.1, 1.0])
def test_products_without_zeros_are_those_with_them(filled):
    rng = np.random.default_rng(4)
    features = rng.normal(size=(30, 400)) * (rng.random((30, 400)) < filled)
    features[:10, :10] += np.eye(10)
    weights = rng.normal(size=(7, 400))
    np.testing.assert_allclose(
        scorer.products_with(features)(weights), weights @ features.T, rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("rows", [1, 5, HORIZON])
@pytest.mark.parametrize("make", [polynomial, spline, network, both, linear, bilinear])
@pytest.mark.parametrize(("user_size", "document_size"), [(1, 1), (1, 2), (0, 1), (3, 2)])
def test_scores_are_those_of_a_plain_loop(make, rows, user_size, document_size):
    model = make(1, rows, user_size, document_size)
    user, _, candidates = requests(HORIZON + 3, 6, user_size, document_size)
    step = np.arange(HORIZON + 3)  # also past the horizon, which a request may ask for
    scores = model.scores(user, step, candidates)
    expected = [
        [score_by_hand(model, u, int(t), candidate) for candidate in offered]
        for u, t, offered in zip(user.tolist(), step, candidates.tolist(), strict=True)
    ]
    assert scores.shape == (HORIZON + 3, 6)
    np.testing.assert_allclose(scores, expected, rtol=1e-9, atol=1e-9)


def test_hinges_are_no_features_of_a_candidate():
    model = replace(spline(user_size=3, document_size=2), decays=np.array([0.5]), user_size=0)
    assert (model.document_size, model.memory_size) == (2, 3)


def test_the_head_has_a_row_for_each_number_of_steps_left():
    model = replace(
        linear(rows=3),
        head=np.zeros((3, 4)),
        head_bias=np.array([1.0, 2.0, 3.0]),
    )
    steps = np.array([HORIZON - 1, HORIZON - 2, HORIZON - 3, HORIZON - 4, 0])
    user, _, candidates = requests(5, 1)
    assert model.scores(user, steps, candidates)[:, 0].tolist() == [1, 2, 3, 3, 3]


def test_steps_left_stop_counting_at_the_window():
    model = linear()
    user, _, candidates = requests(HORIZON, 3)
    user[:], candidates[:] = user[0], candidates[0]
    scores = model.scores(user, np.arange(HORIZON), candidates)
    # 10 to 4 steps left are equivalent, 3, 2 and 1 are not.
    assert len(np.unique(scores[:, 0])) == WINDOW


@given(st.permutations(range(7)), st.sampled_from([polynomial, spline, network, linear]))
def test_candidates_are_scored_one_by_one(order, make):
    model = make(2)
    user, step, candidates = requests(3, 7)
    scores = model.scores(user, step, candidates)
    np.testing.assert_allclose(
        model.scores(user, step, candidates[:, order]), scores[:, order], rtol=1e-12
    )


@pytest.mark.parametrize("make", [polynomial, spline, network, both, linear, bilinear])
@pytest.mark.parametrize("count", [1, 3, 50])
def test_any_number_of_candidates_is_served(make, count):
    model = make(3)
    user, step, candidates = requests(4, 50)
    np.testing.assert_allclose(
        model.scores(user, step, candidates[:, :count]),
        model.scores(user, step, candidates)[:, :count],
        rtol=1e-12,
    )


@pytest.mark.parametrize("make", [polynomial, spline, network, both, linear, bilinear])
def test_save_and_load_keep_every_bit_without_pickle(make, tmp_path):
    model, path = make(4), tmp_path / "scorer.npz"
    model.save(path)
    loaded = Scorer.load(path)
    for field in fields(Scorer):
        one, other = getattr(model, field.name), getattr(loaded, field.name)
        assert type(one) is type(other)
        for mine, its in zip(
            *((v if isinstance(v, tuple) else (v,)) for v in (one, other)), strict=True
        ):
            assert np.asarray(mine).dtype == np.asarray(its).dtype
            np.testing.assert_array_equal(mine, its)
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as stream:
                assert np.lib.format.read_magic(stream) == (1, 0)
                _, _, dtype = np.lib.format.read_array_header_1_0(stream)
                assert dtype.kind in "bif"  # objects would be pickled


def test_more_than_ten_layers_keep_their_order(tmp_path):
    layers = tuple(np.full((1, 1), float(layer)) for layer in range(12))
    biases = tuple(np.full(1, float(layer)) for layer in range(12))
    model = replace(network(), weights=layers, biases=biases)
    model.save(tmp_path / "scorer.npz")
    assert [w.item() for w in Scorer.load(tmp_path / "scorer.npz").weights] == list(range(12))


def test_a_memory_of_older_files_has_no_counts(tmp_path):
    path = tmp_path / "scorer.npz"
    replace(
        polynomial(user_size=5, document_size=1), user_size=1, decays=np.array([0.9, 0.5])
    ).save(path)
    with np.load(path) as file:
        np.savez(path, **{name: file[name] for name in file.files if name != "counted"})
    older = Scorer.load(path)
    assert (older.counted, older.document_size, older.memory_size) == (False, 1, 4)


def test_a_pickle_is_not_loaded(tmp_path):
    path = tmp_path / "scorer.npz"
    np.savez(path, head=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        Scorer.load(path)


def test_policy_shows_the_best_by_hand():
    model = network(5)
    user, step, candidates = requests(8, 6)
    observation = {"user": user, "step": step[:, None], "candidates": candidates}
    slates, propensities = ScoringPolicy(model).act(observation, np.random.default_rng(0))
    for slate, u, t, offered in zip(slates, user.tolist(), step, candidates.tolist(), strict=True):
        scores = [score_by_hand(model, u, int(t), candidate) for candidate in offered]
        assert slate.tolist() == sorted(range(6), key=lambda i: -scores[i])[:2]
    assert propensities.tolist() == [1.0] * 8


@pytest.mark.parametrize("carried", [scorer, slate_choice, slate_scorer])
def test_files_of_a_version_need_nothing_but_numpy(carried):
    tree = ast.parse(Path(carried.__file__).read_text(encoding="utf-8"))
    roots, beside = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            beside.add(node.module)
        elif isinstance(node, ast.ImportFrom):
            roots.add(str(node.module).split(".")[0])
    assert roots - sys.stdlib_module_names == {"numpy"}
    assert beside == ({"slate_choice"} if carried is slate_scorer else set())


def test_a_copy_of_the_file_works_alone(tmp_path):
    copy = tmp_path / "carried_scorer.py"
    shutil.copy(scorer.__file__, copy)
    spec = importlib.util.spec_from_file_location("carried_scorer", copy)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    try:
        spec.loader.exec_module(module)
        model = polynomial(6)
        model.save(tmp_path / "scorer.npz")
        carried = module.Scorer.load(tmp_path / "scorer.npz")
    finally:
        del sys.modules[spec.name]
    np.testing.assert_array_equal(carried.scores(*requests(3, 4)), model.scores(*requests(3, 4)))
