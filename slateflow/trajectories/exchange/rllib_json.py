"""Logs of RLlib's JSON writer: lines of `SampleBatch`, of its old API stack.

An observation is one vector: the user and the features of the candidates row by row, perhaps with
the share of the episode that is left between them, as in `flat_rows`; or an object with `user` and
`candidates`. An action is a slate, or its number. `action_prob` or `action_logp` is required,
because a propensity cannot be made up. The click and the response are the columns `clicked` and
those of the world; they are optional where they follow from the reward, as in long-term
satisfaction.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import EnvironmentSpec, world_of
from slateflow.environments.slates import slates_of
from slateflow.errors import InputError, refused
from slateflow.records import resolve
from slateflow.trajectories.catalogue import Catalogue
from slateflow.trajectories.exchange.parquet_logs import in_catalogue
from slateflow.trajectories.schema import Trajectories, columns_of

Batch = dict[str, Any]
BROKEN = (ValueError, TypeError, KeyError, IndexError, AttributeError)
"""Errors that a malformed document causes."""


def read_json(path: Path, spec: EnvironmentSpec, first_episode: int) -> Iterator[Trajectories]:
    """The rows, line by line; episodes are numbered as they come, from `first_episode`.

    Raises:
        InputError: The file is not UTF-8 text, or a line is not a batch; the message names file and
            line.
    """
    catalogue = Catalogue.of_world(spec)
    episode, last = first_episode - 1, None
    unread = refused(f"{path}: expected lines of JSON", OSError, UnicodeDecodeError)
    with unread, path.open(encoding="utf-8") as lines:
        for where, batch in batches(lines, str(path)):
            with refused(f"{where}: expected a SampleBatch", *BROKEN):
                ids = np.asarray(column_of(batch, where, "eps_id")).astype(str)
                new = np.ones(len(ids), dtype=np.int64)
                new[1:] = ids[1:] != ids[:-1]
                new[:1] = ids[:1] != last
                episodes = episode + np.cumsum(new)
                rows = _rows(batch, spec, episodes, where)
                if catalogue is not None:
                    rows = in_catalogue(rows, catalogue, where)
            if len(ids):
                episode, last = int(episodes[-1]), ids[-1]
                yield rows


def batches(lines: Iterable[str], path: str) -> Iterator[tuple[str, Batch]]:
    """The columns of each line's batch, and its file and line for messages.

    Raises:
        InputError: A line is neither a `SampleBatch` nor a `MultiAgentBatch` of one policy.
    """
    for number, line in enumerate(lines, start=1):
        if line.strip():
            where = f"{path}, line {number}"
            with refused(f"{where}: expected a SampleBatch", *BROKEN):
                batch = _batch(json.loads(line), where)
            yield where, batch


def propensities(batch: Batch, where: str) -> Any:
    """The column `action_prob`, or the exponential of `action_logp`.

    Raises:
        InputError: The batch has neither.
    """
    if "action_prob" in batch:
        return column_of(batch, where, "action_prob")
    given = column_of(batch, where, "action_logp", "action_prob")
    return np.exp(_numbers(given, f"{where}: action_logp", np.float64))


def _batch(document: Any, where: str) -> Batch:
    kind = document.get("type") if isinstance(document, dict) else None
    if kind == "MultiAgentBatch":
        policies = document["policy_batches"]
        if len(policies) != 1:
            raise InputError(f"{where}: expected one policy, got {', '.join(policies)}")
        (batch,) = policies.values()
        return dict(batch)
    if kind != "SampleBatch":
        raise InputError(f"{where}: expected type SampleBatch, got {kind!r}")
    return dict(document)


def column_of(batch: Batch, where: str, *names: str) -> Any:
    """The first of these columns that the batch has.

    Raises:
        InputError: The batch has none of them, or it is compressed.
    """
    for name in names:
        if name in batch:
            if isinstance(batch[name], str):
                raise InputError(
                    f"{where}: {name}: expected numbers, got a compressed column; write it with "
                    '`output_config={"compress_columns": []}`'
                )
            return batch[name]
    raise InputError(f"{where}: expected a column {' or '.join(names)}, got {', '.join(batch)}")


def _numbers(values: Any, where: str, dtype: Any, shape: tuple[int, ...] = ()) -> NDArray[Any]:
    """The values as an array, of the given shape if any; `where` names their column.

    Floats are the nearest ones. Whole numbers and booleans are exact; 0 and 1 are booleans, too.
    """
    wanted = np.dtype(dtype)
    kinds, plural = _KINDS[wanted.kind]
    try:
        given = np.asarray(values)
        if given.dtype.kind not in kinds:
            raise TypeError(given.dtype)
        given = given.reshape(shape) if shape else given
    except (ValueError, TypeError) as error:
        expected = f"{plural} of shape {shape}" if shape else f"lists of {plural} of one length"
        got = shorten(json.dumps(values), 80, placeholder="...")
        raise InputError(f"{where}: expected {expected}, got {got}") from error
    with np.errstate(invalid="ignore", over="ignore"):  # rows that this changes are refused
        array = given.astype(wanted)
    if wanted.kind != "f" and (array != given).any():
        first = tuple(np.argwhere(array != given)[0])
        raise InputError(
            f"{where}, row {first[0] + 1}: expected {plural} ({wanted}), got {given[first]}"
        )
    return array


_KINDS = {"f": ("iufb", "numbers"), "i": ("iuf", "whole numbers"), "b": ("iufb", "booleans")}
"""Kinds of values that an array of each kind accepts, and their name in messages."""

_NAMES = {
    "step": ("t",),
    "propensity": ("action_prob",),
    "reward": ("rewards",),
    "terminated": ("terminateds", "dones"),
    "truncated": ("truncateds",),
}
"""RLlib's names of our columns, where they differ."""


def _rows(
    batch: Batch, spec: EnvironmentSpec, episodes: NDArray[np.int64], where: str
) -> Trajectories:
    count = len(episodes)
    user, candidates = _observed(column_of(batch, where, "obs"), spec, count, where)
    actions = _numbers(column_of(batch, where, "actions"), f"{where}: actions", np.int64)
    slate = _slates(actions, spec, count, where)
    values: dict[str, NDArray[Any]]
    values = {"episode": episodes, "user": user, "candidates": candidates, "slate": slate}
    derive = resolve(world_of(spec).responses_of_reward)
    if derive is not None:
        named = f"{where}: rewards"
        reward = _numbers(column_of(batch, where, "rewards"), named, np.float32, (count,))
        batch = {**derive(reward), **batch}
    batch.setdefault("truncateds", np.zeros(count, dtype=np.bool_))
    batch["action_prob"] = propensities(batch, where)
    for name, (dtype, _) in columns_of(spec, items=False).items():
        if name not in values:
            names = _NAMES.get(name, (name,))
            given, named = column_of(batch, where, *names), f"{where}: {names[0]}"
            values[name] = _numbers(given, named, dtype.to_pandas_dtype(), (count,))
    return Trajectories.from_columns(values, spec)


def _observed(
    obs: Any, spec: EnvironmentSpec, count: int, where: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    users, documents = spec.user_size, spec.num_candidates * spec.document_size
    shape = (count, spec.num_candidates, spec.document_size)
    if isinstance(obs, dict):
        named, f32 = f"{where}: obs", np.float32
        user = _numbers(obs.get("user", []), f"{named}.user", f32, (count, users))
        return user, _numbers(obs["candidates"], f"{named}.candidates", f32, shape)
    vectors = _numbers(obs, f"{where}: obs", np.float32)
    widths = (users + documents, users + 1 + documents)
    if vectors.ndim != 2 or len(vectors) != count or vectors.shape[1] not in widths:
        raise InputError(
            f"{where}: obs: expected {count} vectors of {widths[0]} or {widths[1]} numbers for "
            f"{spec.name}, got shape {vectors.shape}"
        )
    return vectors[:, :users], vectors[:, -documents:].reshape(shape)


def _slates(
    actions: NDArray[np.int64], spec: EnvironmentSpec, count: int, where: str
) -> NDArray[np.int32]:
    size = spec.slate_size
    if actions.shape not in ((count, size), (count,)):
        raise InputError(
            f"{where}: actions: expected {count} slates of {size} or their numbers, got shape "
            f"{actions.shape}"
        )
    listed = actions.ndim == 2
    end = spec.num_candidates if listed else math.perm(spec.num_candidates, size)
    if count and not 0 <= actions.min() <= actions.max() < end:
        raise InputError(
            f"{where}: actions: expected {'positions' if listed else 'numbers of slates'} from 0 "
            f"to {end - 1}, got {actions.min()} to {actions.max()}"
        )
    if listed:
        return actions.astype(np.int32)
    return slates_of(actions, spec.num_candidates, size).astype(np.int32)
