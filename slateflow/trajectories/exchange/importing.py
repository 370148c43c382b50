"""Import of logs from elsewhere: every row is checked, nothing is repaired or left out.

Parquet files have our schema (`parquet_logs`), JSON files the one of RLlib's writer (`rllib_json`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from slateflow.environments import EnvironmentSpec, preset
from slateflow.errors import InputError
from slateflow.trajectories.contract import check_rows
from slateflow.trajectories.exchange.parquet_logs import check_world, read_parquet, spec_of_parquet
from slateflow.trajectories.exchange.rllib_json import read_json
from slateflow.trajectories.files.dataset import MANIFEST, Dataset, remove_unpublished
from slateflow.trajectories.files.folder import Folder
from slateflow.trajectories.files.part_files import PART_ROWS, PartFile, part_path, write_part
from slateflow.trajectories.generation.recipe import NAME
from slateflow.trajectories.schema import Trajectories

LogFile = tuple[Path, str]
"""A file of logs, and the behaviour policy that wrote it."""

_POLICY = re.compile(r"policy=([^/]+)/")


def import_logs(source: Path, name: str, data: Folder, environment: str | None = None) -> Dataset:
    """Create a dataset from logs of other programs.

    `slateflow import --help` and `docs/datasets.md` list the columns of Parquet files. A column
    `policy` is ignored; partitions `policy=…` name the policy. RLlib's JSON files need `eps_id`,
    `t`, `obs`, `actions`, `rewards`, `action_prob` or `action_logp`, `terminateds` or `dones`, and
    the clicks and responses where they do not follow from the reward.

    Args:
        source: A file or a folder, either of Parquet files, perhaps in partitions `policy=…`, or of
            RLlib's JSON files. A catalogue `_items.arrow` beside them has to be the world's.
        name: Name of the dataset.
        data: Folder that holds the datasets.
        environment: Preset of the logs; not needed where the files' metadata names it.

    Raises:
        InputError: The name is taken, or the logs do not keep the contract; the message names
            file, episode and step. No file of the dataset remains in that case.
    """
    if not NAME.fullmatch(name):
        raise InputError(f"name: expected letters, digits, '.', '_' and '-', got {name!r}")
    folder = data / name
    if folder.exists(MANIFEST):
        raise InputError(
            f"{folder.url}: expected a name without a dataset, found one; choose another name "
            "or delete the dataset"
        )
    logs = _find_logs(source)
    spec = _spec_of(logs, environment)
    standard = preset(spec.name).to_dict()
    changed = {key: value for key, value in spec.to_dict().items() if standard[key] != value}
    recipe = {"imported": str(source), "environment": spec.name, "parameters": changed}
    parts: list[PartFile] = []
    with folder.claimed(json.dumps(recipe, sort_keys=True).encode()):
        numbers: dict[str, int] = {}
        try:
            for file, policy, rows in _checked(logs, spec):
                number = numbers[policy] = numbers.get(policy, -1) + 1
                path = part_path(policy, number)
                key = {"policy": policy, "from": file.name}
                digest = write_part(folder, path, rows, spec, key)
                episodes = len(rows.starts)
                parts.append(PartFile(path, policy, len(parts), episodes, len(rows), digest))
            return Dataset(folder, spec, recipe, tuple(parts)).publish()
        except InputError:
            remove_unpublished(folder, (part.path for part in parts))
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
        logs.append((path, match.group(1) if match else "logged"))
    if not logs:
        raise InputError(f"{source}: expected .parquet, .json or .jsonl files, found none")
    return logs


def _spec_of(logs: list[LogFile], environment: str | None) -> EnvironmentSpec:
    first, _ = logs[0]
    if first.suffix == ".parquet":
        return spec_of_parquet(first, environment)
    if environment is None:
        raise InputError(f"{first}: expected --environment for JSON files, got none")
    return preset(environment)


def _checked(
    logs: list[LogFile], spec: EnvironmentSpec
) -> Iterator[tuple[Path, str, Trajectories]]:
    """Parts of whole, checked episodes; an episode that an earlier part has is refused."""
    known = np.zeros(0, np.int64)  # numbers of the episodes so far
    for path, policy in logs:
        if path.suffix == ".parquet":
            check_world(path, spec, str(logs[0][0]))
            pieces: Iterable[Trajectories] = read_parquet(path, spec, PART_ROWS)
        else:
            pieces = read_json(path, spec, int(known.max(initial=-1)) + 1)
        for rows in _whole_episodes(pieces):
            check_rows(rows, spec, str(path))
            episodes = rows.episode[rows.starts]
            again = np.intersect1d(known, episodes)
            if len(again):
                raise InputError(
                    f"{path}: episode {again[0]}, step 0: episode: expected a number that comes "
                    "only once in the logs, got it again; renumber the episodes"
                )
            known = np.append(known, episodes)
            yield path, policy, rows


def _whole_episodes(pieces: Iterable[Trajectories]) -> Iterator[Trajectories]:
    """The rows in pieces of at least `PART_ROWS`, each of which ends with an episode."""
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
