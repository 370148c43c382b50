"""The code that every registered version carries: a request in, a slate out.

It runs in the consumer's process and needs mlflow, NumPy and pandas, nothing else. The weights
come as `.npz` without pickle, the scoring function as the very files that were evaluated. Versions
of recipes with own logs also carry `encoder.py`, and the encoding and catalogue of these logs.
Other versions carry this file alone: so it imports nothing of that one, and `_missing` and
`_invalid` are in both.
"""

import importlib
import math
import sys
from collections.abc import Iterable
from decimal import Decimal
from numbers import Real
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

LAST_STEP = 2**31 - 1
ROUNDING = 1e-6  # of features that were stored in single precision

Group = tuple[np.ndarray | slice, np.ndarray, np.ndarray | None]
"""Rows with as many candidates, their candidates' features (R, N, D), and ids (R, N) of items."""


class Recommender(mlflow.pyfunc.PythonModel):
    """One request is one row: `user`, `candidates`, and the optional `step` and `history`.

    One answer is one row: `slate`, positions of the candidates, best first; `scores`, one number
    for each candidate; `propensity`, the probability of exactly this slate; and `outside`, how many
    features lie farther from the range seen in training than that is wide. Without `step` the
    session is at its beginning. `history` is for models that remember the session: a list for each
    earlier step, oldest first, of the user's features then, the shown candidates' features row by
    row, the clicked place (−1 for none) and the reward. Other models ignore it.

    Where the model was trained on own logs, `user` has the columns of the logs, as a list in the
    recipe's order or by name; and `items`, ids as the logs have them, take the place of
    `candidates`: without them all of the catalogue is on offer. The answer has the shown `items`,
    too. A step of the `history` is a mapping there, with `items` (shown), `clicked` and `reward`.

    With the parameter `epsilon` a row's slate is drawn with that probability: every ordered slate
    of distinct candidates is equally likely then, the best one included. With the parameter `seed`
    the draws repeat, and those of a row depend on the seed and the row's place alone.
    """

    encoder: Any = None  # of recipes with own logs

    def load_context(self, context: Any) -> None:
        """Read the weights and the scoring function that lie beside them."""
        artifacts = context.artifacts
        code = _module(Path(artifacts["scorer"]))
        self.scorer = code.SCORER.load(artifacts["weights"])
        with np.load(artifacts["ranges"], allow_pickle=False) as seen:
            width = seen["high"] - seen["low"] + ROUNDING * (1 + np.abs(seen["high"]))
            self.least, self.most = seen["low"] - width, seen["high"] + width
            self.most_steps = 2 * seen["last_step"]
        if "encoder" in artifacts:
            code = _module(Path(artifacts["encoder"]))
            self.encoder = code.Encoder(artifacts["encoding"], artifacts["catalogue"])

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Answer every row; rows may differ in their number of candidates."""
        del context
        epsilon, seed = _exploration(params or {})
        if self.encoder is None:
            users, groups = self._requests(model_input)
        else:
            requests = self.encoder.requests(model_input)
            users, groups = requests.users, requests.groups()
        memories, steps = self._memories(model_input), self._steps(model_input)
        shape = len(model_input), 1 + self.scorer.slate_size
        draws = np.random.default_rng(seed).random(shape) if epsilon else np.zeros(shape)
        names = ("slate", "scores") if self.encoder is None else ("slate", "items", "scores")
        answers: dict[str, Any] = {name: [None] * len(model_input) for name in names}
        propensities, outside = np.empty(len(model_input)), np.empty(len(model_input), np.int64)
        for rows, candidates, ids in groups:
            best, scores = self._answer(users[rows], steps[rows], candidates, memories[rows])
            if not (whole := np.isfinite(scores).all(axis=1)).all():
                row = np.arange(len(model_input))[rows][whole.argmin()]
                expected = "numbers that can be scored"
                raise _invalid(f"row {row}: expected {expected}, got numbers too large for that")
            slates, propensities[rows] = _explore(best, candidates.shape[1], epsilon, draws[rows])
            outside[rows] = self._outside(users[rows], candidates)
            outside[rows] += steps[rows] > self.most_steps
            _put(answers["slate"], rows, slates.tolist())
            _put(answers["scores"], rows, scores.tolist())
            if ids is not None:
                _put(answers["items"], rows, np.take_along_axis(ids, slates, axis=1).tolist())
        answers["propensity"], answers["outside"] = propensities, outside
        frame = pd.DataFrame(answers, index=model_input.index)
        return frame if len(frame) else frame.astype(dict.fromkeys(names, object))  # not numbers

    def _requests(self, model_input: pd.DataFrame) -> tuple[np.ndarray, Iterable[Group]]:
        """Features of the users (B, U), and groups of rows with as many candidates."""
        for name in ("user", "candidates"):
            if name not in model_input:
                raise _invalid(f"expected a column {name}, got {list(model_input)}")
        size = self.scorer.user_size
        users = np.array(self._numbers(model_input["user"], "user", (size,)))
        users = users.reshape(len(model_input), size)  # also where there are no rows
        shape = (-1, self.scorer.document_size)
        candidates = self._numbers(model_input["candidates"], "candidates", shape)
        if isinstance(candidates, np.ndarray):
            return users, [(slice(None), candidates, None)]
        counts = np.array([len(row) for row in candidates], dtype=int)
        alike = (np.flatnonzero(counts == count) for count in np.unique(counts))
        return users, ((rows, np.stack([candidates[row] for row in rows]), None) for rows in alike)

    @np.errstate(over="ignore", invalid="ignore")  # such a row is refused
    def _answer(
        self, users: np.ndarray, steps: np.ndarray, candidates: np.ndarray, memories: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Best slates (B, K) and scores of rows that have as many candidates, (B, N, D)."""
        scored = self.scorer.scores(users, steps, candidates, memories)
        shown = min(self.scorer.slate_size, candidates.shape[1])
        best = np.empty((len(scored), shown), dtype=np.int64)
        rest = scored.copy()
        for place in range(shown):  # few; of equal scores the first
            best[:, place] = rest.argmax(axis=1)
            np.put_along_axis(rest, best[:, place, None], -np.inf, axis=1)
        return best, scored

    def _outside(self, users: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """How many features of users (B, U) and candidates (B, N, D) lie far outside."""
        size = users.shape[1]
        if len(candidates) and not candidates.strides[0]:  # all rows have the same
            candidates = candidates[:1]
        of_users = (users < self.least[:size]) | (users > self.most[:size])
        of_candidates = (candidates < self.least[size:]) | (candidates > self.most[size:])
        far: np.ndarray
        far = np.count_nonzero(of_users, axis=1) + np.count_nonzero(of_candidates, axis=(1, 2))
        return far

    def _memories(self, model_input: pd.DataFrame) -> np.ndarray:
        """The session memory of each row, from its history."""
        scorer = self.scorer
        memories = np.zeros((len(model_input), scorer.memory_size))
        if "history" not in model_input or not scorer.memory_size:
            return memories
        users, places = scorer.user_size, scorer.slate_size
        size = users + places * scorer.document_size + 2
        history = model_input["history"]
        if self.encoder is not None:
            history = self.encoder.history(model_input, places)
        column = [() if _missing(value) else value for value in history]
        sessions = self._numbers(pd.Series(column, dtype=object), "history", (0, size))
        lengths = np.array([len(session) for session in sessions], dtype=int)
        for step in range(lengths.max(initial=0)):  # of all sessions that last as long
            rows = np.flatnonzero(lengths > step)
            events = np.stack([sessions[row][step] for row in rows])
            clicked = events[:, -2]
            wrong = ~np.isin(clicked, np.arange(-1, places))
            if wrong.any():
                raise _invalid(
                    f"history, row {rows[wrong.argmax()]}: expected a clicked place from 0 to "
                    f"{places - 1}, or -1 for none, before the reward, got "
                    f"{clicked[wrong.argmax()]:g} in step {step}"
                )
            shown = events[:, users:-2].reshape(len(rows), places, -1)
            memories[rows] = scorer.remember(
                memories[rows], events[:, :users], shown, clicked.astype(np.int64), events[:, -1]
            )
        return memories

    def _numbers(
        self, column: pd.Series, name: str, shape: tuple[int, ...]
    ) -> np.ndarray | list[np.ndarray]:
        """The column's rows as arrays of that shape; first -1 is one or more rows, 0 any number.

        Rows that are alike come as one array, which is fast; otherwise row by row, which also
        finds the row that does not fit.
        """
        free = shape[0] <= 0 and len(shape) > 1
        try:
            whole = np.array(column.tolist())
        except ValueError:  # rows of different lengths
            whole = np.empty(0)
        if (
            whole.dtype.kind in "iuf"
            and whole.ndim == len(shape) + 1
            and whole.shape[1 + free :] == shape[free:]
            and (whole.shape[1] > 0 or not free)
            and np.isfinite(whole).all()
        ):
            return whole.astype(np.float64, copy=False)
        return [_row(value, f"{name}, row {index}", shape) for index, value in enumerate(column)]

    def _steps(self, model_input: pd.DataFrame) -> np.ndarray:
        if "step" not in model_input:
            return np.zeros(len(model_input), dtype=np.int64)
        column = model_input["step"]
        steps = column.to_numpy()
        if steps.dtype.kind not in "iu":
            numbers = steps
            if steps.dtype.kind != "f":
                numbers = np.array([_number(value) for value in column], dtype=np.float64)
            steps = np.where(column.isna(), 0.0, numbers)  # missing is at the beginning
        whole = (steps >= 0) & (steps <= LAST_STEP) & (steps == np.floor(steps))
        wrong = np.flatnonzero(~whole)
        if len(wrong):
            got = f"{column.iloc[wrong[0]]!s:.60}"
            raise _invalid(
                f"step, row {wrong[0]}: expected a whole number from 0 to {LAST_STEP}, got {got}"
            )
        return steps.astype(np.int64)


def _put(answers: list[Any], rows: np.ndarray | slice, values: list[Any]) -> None:
    """Set the answers of some rows, by number, or of all."""
    if isinstance(rows, slice):
        answers[rows] = values
        return
    for row, value in zip(rows.tolist(), values, strict=True):
        answers[row] = value


def _exploration(params: dict[str, Any]) -> tuple[float, int | None]:
    """The parameters `epsilon`, 0 without it, and `seed`, None for fresh entropy."""
    epsilon, seed = params.get("epsilon"), params.get("seed")
    epsilon = 0.0 if epsilon is None else epsilon
    if not (_is_a(epsilon, int | float | np.number) and 0 <= epsilon <= 1):
        raise _invalid(f"epsilon: expected a number from 0 to 1, got {epsilon!s:.60}")
    if seed is not None and not (_is_a(seed, int | np.integer) and seed >= 0):
        raise _invalid(f"seed: expected a whole number of at least 0, or none, got {seed!s:.60}")
    return float(epsilon), seed


def _explore(
    best: np.ndarray, candidates: int, epsilon: float, draws: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Slates and their propensities.

    Args:
        best: (B, K), the slates without exploration.
        candidates: N, those that the slates are chosen from.
        epsilon: Probability of a random slate, which may be the best one as well.
        draws: (B, 1 + K or more) uniform draws in [0, 1): a coin, and one for each place.
    """
    if not epsilon:
        return best, np.ones(len(best))
    left = candidates - np.arange(best.shape[1])  # candidates that each place has to choose from
    drawn = (draws[:, 1 : 1 + len(left)] * left).astype(np.int64)
    for place in range(1, len(left)):  # few; from a position among what is left to one among all
        for taken in np.sort(drawn[:, :place], axis=1).T:
            drawn[:, place] += drawn[:, place] >= taken
    slates = np.where(draws[:, :1] < epsilon, drawn, best)
    of_best = (1 - epsilon) * (slates == best).all(axis=1)
    return slates, of_best + epsilon / np.prod(left, dtype=np.float64)


def _row(value: Any, where: str, shape: tuple[int, ...]) -> np.ndarray:
    """One row's numbers, or an error with what was expected and what came."""
    free = shape[0] <= 0 and len(shape) > 1
    expected = f"lists of {_count(shape[1])} each" if free else f"a list of {_count(shape[0])}"
    if shape[0] < 0:
        expected = f"one or more {expected}"

    def refusal(got: str) -> MlflowException:
        return _invalid(f"{where}: expected {expected}, got {got}")

    if _missing(value) or isinstance(value, str) or not hasattr(value, "__len__"):
        raise refusal("nothing" if _missing(value) else f"{value!s:.60}")
    try:
        # Lists from JSON, arrays of arrays from Parquet
        array = np.array([np.asarray(item) for item in value])
    except ValueError:
        raise refusal("lists of different lengths") from None
    if not array.size and shape[0] <= 0:
        array = array.reshape(0, *shape[1:])
    if array.dtype == object and any(map(_missing, array.ravel())):
        raise refusal("a list in which a number is missing")
    if array.size and array.dtype.kind not in "iuf":
        raise refusal(f"{value!s:.60}")
    if shape[0] < 0 and not len(array):
        raise refusal("an empty list")
    if array.ndim != len(shape):
        raise refusal(f"{value!s:.60}")
    if array.shape[free:] != shape[free:]:
        raise refusal(f"{'lists of ' * free}{_count(array.shape[-1])}")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise _invalid(f"{where}: expected finite numbers, got NaN or infinity")
    return array


def _count(count: int) -> str:
    return "1 number" if count == 1 else f"{count} numbers"


def _number(value: Any) -> float:
    """A number as a float, infinite if it is too large for one; NaN for texts and booleans."""
    if not _is_a(value, Real | Decimal):
        return math.nan
    try:
        return float(value)
    except (OverflowError, ValueError):  # a signalling NaN
        return math.inf


def _is_a(value: Any, kinds: Any) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))


def _invalid(message: str) -> MlflowException:
    """An error that a model server answers with 400 and this sentence."""
    return MlflowException(message, error_code=INVALID_PARAMETER_VALUE)


def _module(path: Path) -> ModuleType:
    """The file as a module, which may import others of its folder by a dot and their name.

    None of them stays in `sys.modules`, so that two versions do not mix.
    """
    package = ModuleType(f"slateflow_{uuid4().hex}")
    package.__path__ = [str(path.parent)]
    sys.modules[package.__name__] = package
    try:
        return importlib.import_module(f".{path.stem}", package.__name__)
    finally:
        for name in [name for name in list(sys.modules) if name.startswith(package.__name__)]:
            del sys.modules[name]


mlflow.models.set_model(Recommender())
