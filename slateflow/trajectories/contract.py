"""The contract of a log, checked row by row before learning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import EnvironmentSpec
from slateflow.errors import InputError
from slateflow.shared_rows import distinct
from slateflow.trajectories.schema import Trajectories

LEAST_PROPENSITY = 1e-100
"""Smallest propensity: squares of weights by smaller ones are beyond the range of float64."""

WEIGHABLE = f"a probability of {LEAST_PROPENSITY:g} or more"
"""Description of valid propensities above 0, for messages."""

FITS_FLOAT32 = "a number within ±3.4e38, the range of float32"
"""Description of valid rewards and features, for messages."""

Rule = tuple[str, Any, str, NDArray[Any]]  # column, wrong rows, expected, values


def check_rows(rows: Trajectories, spec: EnvironmentSpec, where: str) -> Trajectories:
    """Return the rows if they are whole episodes that keep the contract.

    Args:
        rows: Rows of whole episodes.
        spec: The rows' world.
        where: File, for the message.

    Raises:
        InputError: A row breaks the contract; the message names file, episode, step and column.
    """
    for column, wrong, expected, values in _rules(rows, spec):
        if wrong.any():
            row = int(wrong.argmax())
            raise InputError(
                f"{where}: episode {rows.episode[row]}, step {rows.step[row]}: {column}: "
                f"expected {expected}, got {values[row].tolist()}; correct the log and try again"
            )
    return rows


def _rules(rows: Trajectories, spec: EnvironmentSpec) -> Iterator[Rule]:
    starts = rows.starts
    again = np.zeros(len(rows), dtype=np.bool_)
    again[starts] = True
    again[starts[np.unique(rows.episode[starts], return_index=True)[1]]] = False
    yield "episode", again, "its rows side by side and once", rows.episode
    due = np.roll(rows.step, 1) + 1
    due[starts] = 0
    yield "step", rows.step != due, "steps from 0 without a gap", rows.step
    yield "step", rows.step >= spec.horizon, f"at most {spec.horizon} steps", rows.step
    for name, values in rows.columns().items():
        if values.dtype.kind == "f" and name != "propensity":
            wrong = ~np.isfinite(values)
            yield name, wrong.any(axis=tuple(range(1, wrong.ndim))), "finite numbers", values
    if rows.catalogue is not None:
        most = len(rows.catalogue) - 1
        candidates = distinct(rows.candidates)
        offered = rows.offered[: len(candidates)]
        missing = np.arange(candidates.shape[1]) >= offered[:, None]
        outside = (missing != (candidates == -1)) | (candidates > most)
        outside = outside.any(axis=1) | (offered < (1 if spec.offers_vary else spec.num_candidates))
        yield "items", outside, f"items of the catalogue, from 0 to {most}", rows.candidates
    fits = (rows.propensity > 0) & (rows.propensity <= 1)  # NaN does not
    yield "propensity", ~fits, "a probability in (0, 1]", rows.propensity
    yield "propensity", rows.propensity < LEAST_PROPENSITY, WEIGHABLE, rows.propensity
    outside = ((rows.slate < 0) | (rows.slate >= rows.offered[:, None])).any(axis=1)
    expected = f"positions from 0 to {spec.num_candidates - 1}"
    if spec.offers_vary:
        expected = "positions among the candidates of the row"
    yield "slate", outside, expected, rows.slate
    ordered = np.sort(rows.slate, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
    yield "slate", twice, "distinct candidates", rows.slate
    clicked, places = rows.clicked, spec.slate_size
    outside = (clicked < -1) | (clicked >= places)
    yield "clicked", outside, f"a place from 0 to {places - 1}, or -1", clicked
    if rows.visitor is not None:
        other = rows.visitor != rows.visitor[starts][rows.sessions]
        yield "visitor", other, "the visitor of its session", rows.visitor
    ends = rows.terminated | rows.truncated
    expected = "true at the last step of an episode and at no other"
    yield "terminated or truncated", ends != rows.last, expected, ends
