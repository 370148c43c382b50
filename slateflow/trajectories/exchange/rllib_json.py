"""What RLlib's JSON writer wrote: lines of `SampleBatch`, of its old API stack.

An observation is one vector: the user and the candidates row by row, perhaps with the share of
the episode that is left between them, as `flat` has it; or an object with `user` and
`candidates`. An action is a slate, or its number. `action_prob` or `action_logp` has to be there,
because a propensity cannot be made up. The click and the response are columns `clicked` and
those of the world; in long-term satisfaction they may be left out, because its user always
clicks the first place and watches as long as the reward, which is observed up to 100.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import EnvironmentSpec, world_of
from slateflow.environments.slates import slates_of
from slateflow.errors import InputError
from slateflow.records import resolve
from slateflow.trajectories.schema import Trajectories

Batch = dict[str, Any]


def read_json(path: Path, spec: EnvironmentSpec, first_episode: int) -> Iterator[Trajectories]:
    """The rows, line by line; episodes are numbered as they come, from `first_episode`.

    Raises:
        InputError: A line is no such batch; the message names file and line.
    """
    episode, last = first_episode - 1, None
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                batch = _batch(json.loads(line), where)
                ids = np.asarray(_column(batch, where, "eps_id")).astype(str)
                new = np.ones(len(ids), dtype=np.int64)
                new[1:] = ids[1:] != ids[:-1]
                new[:1] = ids[:1] != last
                episodes = episode + np.cumsum(new)
                rows = _rows(batch, spec, episodes, where)
            except InputError:
                raise
            except (ValueError, TypeError, KeyError, IndexError) as error:
                reason = str(error).splitlines()[0]
                raise InputError(f"{where}: expected a SampleBatch, got {reason}") from error
            if len(ids):
                episode, last = int(episodes[-1]), ids[-1]
                yield rows


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


def _column(batch: Batch, where: str, *names: str) -> Any:
    for name in names:
        if name in batch:
            if isinstance(batch[name], str):
                raise InputError(
                    f"{where}: {name}: expected numbers, got a compressed column; write it with "
                    '`output_config={"compress_columns": []}`'
                )
            return batch[name]
    raise InputError(f"{where}: expected a column {' or '.join(names)}, got {', '.join(batch)}")


def _rows(
    batch: Batch, spec: EnvironmentSpec, episodes: NDArray[np.int64], where: str
) -> Trajectories:
    count = len(episodes)
    user, candidates = _observed(_column(batch, where, "obs"), spec, count, where)
    reward = np.asarray(_column(batch, where, "rewards"), dtype=np.float32).reshape(count)
    terminated = _column(batch, where, "terminateds", "dones")
    truncated = batch.get("truncateds", np.zeros(count, dtype=np.bool_))
    clicked, responses = _responses(batch, spec, reward, where)
    return Trajectories(
        episode=episodes,
        step=np.asarray(_column(batch, where, "t"), dtype=np.int32).reshape(count),
        user=user,
        candidates=candidates,
        slate=_slates(np.asarray(_column(batch, where, "actions")), spec, count, where),
        propensity=_propensity(batch, where).reshape(count),
        clicked=clicked.reshape(count),
        reward=reward,
        responses=responses,
        terminated=np.asarray(terminated, dtype=np.bool_).reshape(count),
        truncated=np.asarray(truncated, dtype=np.bool_).reshape(count),
    )


def _observed(
    obs: Any, spec: EnvironmentSpec, count: int, where: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    users, documents = spec.user_size, spec.num_candidates * spec.document_size
    shape = (count, spec.num_candidates, spec.document_size)
    if isinstance(obs, dict):
        user = np.asarray(obs.get("user", []), dtype=np.float32).reshape(count, users)
        return user, np.asarray(obs["candidates"], dtype=np.float32).reshape(shape)
    vectors = np.asarray(obs, dtype=np.float32)
    widths = (users + documents, users + 1 + documents)
    if vectors.ndim != 2 or len(vectors) != count or vectors.shape[1] not in widths:
        raise InputError(
            f"{where}: obs: expected {count} vectors of {widths[0]} or {widths[1]} numbers for "
            f"{spec.name}, got shape {vectors.shape}"
        )
    return vectors[:, :users], vectors[:, -documents:].reshape(shape)


def _slates(
    actions: NDArray[Any], spec: EnvironmentSpec, count: int, where: str
) -> NDArray[np.int32]:
    if not np.issubdtype(actions.dtype, np.integer):
        raise InputError(f"{where}: actions: expected whole numbers, got {actions.dtype}")
    size = spec.slate_size
    if actions.shape == (count, size):
        return actions.astype(np.int32)
    if actions.shape != (count,):
        raise InputError(
            f"{where}: actions: expected {count} slates of {size} or their numbers, got shape "
            f"{actions.shape}"
        )
    most = math.perm(spec.num_candidates, size)
    if count and not 0 <= actions.min() <= actions.max() < most:
        raise InputError(
            f"{where}: actions: expected numbers of slates from 0 to {most - 1}, "
            f"got {actions.min()} to {actions.max()}"
        )
    return slates_of(actions, spec.num_candidates, size).astype(np.int32)


def _propensity(batch: Batch, where: str) -> NDArray[np.float64]:
    if "action_prob" in batch:
        return np.asarray(_column(batch, where, "action_prob"), dtype=np.float64)
    logarithm = _column(batch, where, "action_logp", "action_prob")
    return np.asarray(np.exp(np.asarray(logarithm, dtype=np.float64)))


def _responses(
    batch: Batch, spec: EnvironmentSpec, reward: NDArray[np.float32], where: str
) -> tuple[NDArray[np.int32], dict[str, NDArray[np.float32]]]:
    derive = resolve(world_of(spec).responses_of_reward)
    if derive is not None:
        batch = {**derive(reward), **batch}
    clicked = np.asarray(_column(batch, where, "clicked"), dtype=np.int32)
    responses = {
        name: np.asarray(_column(batch, where, name), dtype=np.float32).reshape(len(reward))
        for name in spec.response_columns
    }
    return clicked, responses
