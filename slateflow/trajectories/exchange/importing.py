"""Import of logs from elsewhere: every row is checked, nothing is repaired or left out.

Parquet files have our schema (`parquet_logs`), JSON files the one of RLlib's writer (`rllib_json`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slateflow.environments import EnvironmentSpec, preset
from slateflow.errors import InputError
from slateflow.trajectories.catalogue import CATALOGUE
from slateflow.trajectories.contract import check_rows
from slateflow.trajectories.exchange.parquet_logs import read_parquet, spec_of_parquet
from slateflow.trajectories.exchange.rllib_json import read_json
from slateflow.trajectories.files.dataset import MANIFEST, Dataset
from slateflow.trajectories.files.folder import Folder
from slateflow.trajectories.files.part_files import PartFile, write_part
from slateflow.trajectories.schema import Trajectories

PART_ROWS = 60_000
"""Rows at which a part is closed; it ends with an episode."""

_POLICY = re.compile(r"policy=([^/]+)/")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class LogFile:
    """A file of logs and the behaviour policy that wrote it."""

    path: Path
    policy: str


def import_logs(source: Path, name: str, data: Folder, environment: str | None = None) -> Dataset:
    """Make a dataset of logs that somebody else wrote.

    Parquet files need these columns, a row per step, sorted by episode, then step: `episode`,
    `step` (from 0), `user` (list, absent where nothing of the user is observed), `candidates`
    (features of all candidates in one list) or `items` (numbers of the catalogue), `slate` (list
    of positions among the candidates), `propensity`, `clicked` (place in the slate, −1 for none),
    `reward`, the response columns of the world (`watch_time` in long-term satisfaction),
    `terminated` and `truncated`. A column `policy` is ignored; partitions `policy=…` name the
    policy. RLlib's JSON files need `eps_id`, `t`, `obs`, `actions`, `rewards`, `action_prob` or
    `action_logp`, `terminateds` or `dones`, and the clicks and responses where they do not follow
    from the reward.

    Args:
        source: A file, or a folder: of Parquet files, perhaps in partitions `policy=…`, or of
            RLlib's JSON files. A catalogue `_items.arrow` beside them has to be the world's.
        name: Name of the dataset.
        data: Folder that holds the datasets.
        environment: Preset that the logs are from; not needed where the files' metadata names it.

    Raises:
        InputError: The name is taken, or the logs do not keep the contract; the message names
            file, episode and step. No file of the dataset is left then.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"name: expected letters, digits, '.', '_' and '-', got {name!r}")
    folder = data / name
    if folder.exists(MANIFEST):
        raise InputError(
            f"{folder.url}: expected a name without a dataset, found one; choose another name "
            "or delete the dataset"
        )
    logs = _find_logs(source)
    spec = _spec_of(logs, environment)
    recipe = {
        "imported": str(source),
        "environment": spec.name,
        "parameters": _parameters(spec),
    }
    parts: list[PartFile] = []
    with folder.claimed(json.dumps(recipe, sort_keys=True).encode()):
        numbers: dict[str, int] = {}
        try:
            for log, rows in _checked(logs, spec):
                number = numbers[log.policy] = numbers.get(log.policy, -1) + 1
                path = f"policy={log.policy}/part-{number:05d}.parquet"
                key = {"policy": log.policy, "from": log.path.name}
                digest = write_part(folder, path, rows, spec, key)
                episodes = len(rows.starts)
                parts.append(PartFile(path, log.policy, len(parts), episodes, len(rows), digest))
            return Dataset(folder, spec, recipe, tuple(parts)).publish()
        except InputError:
            folder.remove([CATALOGUE, *(part.path for part in parts)])
            raise


def _find_logs(source: Path) -> list[LogFile]:
    if not source.exists():
        raise InputError(f"{source}: expected a file or folder of logs, found none")
    files = [source] if source.is_file() else sorted(source.rglob("*"))
    if (source / MANIFEST).exists():  # one of our datasets: its parts have an order
        files = [source / part.path for part in Dataset.open(str(source)).parts]
    logs = []
    for path in files:
        relative = str(path.relative_to(source)) if source.is_dir() else path.name
        if not path.is_file() or any(part[0] in "._" for part in Path(relative).parts):
            continue
        if path.suffix not in (".parquet", ".json", ".jsonl"):
            if path.name == "slateflow.json":
                continue
            raise InputError(
                f"{path}: expected logs in .parquet, .json or .jsonl files, got another; move it "
                "out of the folder"
            )
        match = _POLICY.search(relative)
        logs.append(LogFile(path, match.group(1) if match else "logged"))
    if not logs:
        raise InputError(f"{source}: expected .parquet, .json or .jsonl files, found none")
    return logs


def _spec_of(logs: list[LogFile], environment: str | None) -> EnvironmentSpec:
    first = logs[0].path
    if first.suffix == ".parquet":
        return spec_of_parquet(first, environment)
    if environment is None:
        raise InputError(f"{first}: expected --environment for JSON files, got none")
    return preset(environment)


def _parameters(spec: EnvironmentSpec) -> dict[str, Any]:
    """Fields that differ from the preset."""
    standard = preset(spec.name).to_dict()
    return {key: value for key, value in spec.to_dict().items() if standard[key] != value}


def _checked(logs: list[LogFile], spec: EnvironmentSpec) -> Iterator[tuple[LogFile, Trajectories]]:
    """Parts of whole, checked episodes, none of which was in an earlier part."""
    known: list[NDArray[np.int64]] = []
    next_episode = 0
    for log in logs:
        if log.path.suffix == ".parquet":
            pieces: Iterable[Trajectories] = read_parquet(log.path, spec, PART_ROWS)
        else:
            pieces = read_json(log.path, spec, next_episode)
        for rows in _whole_episodes(pieces):
            check_rows(rows, spec, str(log.path))
            episodes = rows.episode[rows.starts]
            for earlier in known:
                again = np.intersect1d(earlier, episodes)
                if len(again):
                    raise InputError(
                        f"{log.path}: episode {again[0]}, step 0: episode: expected a number that "
                        "no other part of the logs has, got it again; number the episodes anew"
                    )
            known.append(episodes)
            next_episode = max(next_episode, int(episodes.max()) + 1)
            yield log, rows


def _whole_episodes(pieces: Iterable[Trajectories]) -> Iterator[Trajectories]:
    """The rows in pieces of at least `PART_ROWS` that end where an episode does."""
    held: list[Trajectories] = []
    for piece in pieces:
        held.append(piece)
        if sum(map(len, held)) < PART_ROWS:
            continue
        rows = Trajectories.from_parts(held)
        last = int(rows.starts[-1])
        if last:
            yield rows.where(slice(0, last))
        held = [rows.where(slice(last, None))]
    if sum(map(len, held)):
        yield Trajectories.from_parts(held)
