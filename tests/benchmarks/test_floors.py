"""Distance from the limits of this machine: the necessary work of each step, and the share reached.

A floor is the necessary work: the random numbers, by the generator that is used; the bytes, read
from files that the system has in memory, or written to new ones; the multiplications and additions
of the formulas, at the rate of matrix products by this machine's BLAS. All are measured on one
core, in seconds of its time. Where a library has a floor of its own, that has a line, too; NumPy's
is an operation on arrays in the processor's cache, where there are no matrix products. Serving has
its floor in `test_serving.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from threadpoolctl import threadpool_limits

from slateflow.learners import learner_config, train
from slateflow.policies import Scorer
from slateflow.trajectories import Dataset, Folder, Recipe, generate
from slateflow.trajectories.files.part_files import LAYOUT
from slateflow.trajectories.schema import BLOCK_ROWS
from tests.benchmarks.test_simulators import HALVES, draws, from_recipe, medians

WORLD, EPISODES = "modified-lts-20-2", 5_000
SIZE = 1_000
"""Rows and columns of the matrices that are multiplied."""

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]


def multiplied() -> int:
    """Multiplications and additions of a product of matrices."""
    one = np.ones((SIZE, SIZE))
    for _ in range(5):
        one @ one
    return 5 * 2 * SIZE**3


def one_by_one() -> int:
    """Elementwise multiplications, in blocks as large as those of learners."""
    block, other = np.ones((BLOCK_ROWS, 20)), np.full((BLOCK_ROWS, 20), 1.0)
    for _ in range(2_000):
        np.multiply(block, other, out=block)
    return 2_000 * block.size


def files(dataset: Dataset) -> list[Path]:
    """The parts of a dataset."""
    return [Path(dataset.path) / part.path for part in dataset.parts]


def bytes_read(dataset: Dataset) -> int:
    """Read the files as bytes."""
    for path in files(dataset):
        path.read_bytes()
    return dataset.rows


def tables_read(dataset: Dataset) -> int:
    """Read the columns with pyarrow alone."""
    return sum(pq.read_table(path, use_threads=False).num_rows for path in files(dataset))


def rows_read(dataset: Dataset) -> int:
    """Read rows as learners do."""
    return sum(map(len, dataset.iter_parts()))


def bytes_written(dataset: Dataset, folder: Path) -> int:
    """Write new files with as many bytes."""
    for number, path in enumerate(files(dataset)):
        (folder / f"copy-{number}").write_bytes(bytes(path.stat().st_size))
    return dataset.rows


def tables_written(dataset: Dataset, folder: Path) -> int:
    """Read the columns and write them with pyarrow alone."""
    rows = 0
    for number, path in enumerate(files(dataset)):
        table = pq.read_table(path, use_threads=False)
        pq.write_table(table, folder / f"table-{number}", **LAYOUT)
        rows += table.num_rows
    return rows


def trained(dataset: Dataset, learner: str) -> int:
    """Train with the degree that held-out episodes choose."""
    train(dataset, learner_config(learner))
    return dataset.rows


def bandit_operations(scorer: Scorer) -> float:
    """Per row: half of the features' outer product with themselves, and one with the reward."""
    terms = len(scorer.powers)
    return terms * (terms + 1) + 2 * terms


def fitted_q_operations(scorer: Scorer, candidates: int) -> float:
    """Per row: the polynomial of each candidate by Horner's rule, its coefficients, two moments.

    These count at every stage; the monomials and half of their outer product once.
    """
    terms, stages = len(scorer.powers), len(scorer.head)
    own = len(np.unique(scorer.powers[:, -scorer.document_size :], axis=0))
    stage = candidates * (2 * (own - 1) + 1) + 2 * terms + 4 * terms
    return stages * stage + terms + terms * (terms + 1)


def test_share_of_what_the_machine_can_do(tmp_path, capsys):
    dataset = generate(Recipe("rows", WORLD, EPISODES, 0, HALVES), Folder(str(tmp_path)))
    scorers = {name: train(dataset, learner_config(name))[0] for name in ("linucb", "fitted-q")}
    made, copies = tmp_path / "made", tmp_path / "copies"
    made.mkdir()
    copies.mkdir()
    sides: dict[str, Callable[[], int]] = {
        "generate": partial(from_recipe, made, WORLD, EPISODES),
        "read": partial(rows_read, dataset),
        "linucb": partial(trained, dataset, "linucb"),
        "fitted-q": partial(trained, dataset, "fitted-q"),
        "numbers": draws,
        "bytes written": partial(bytes_written, dataset, copies),
        "tables written": partial(tables_written, dataset, copies),
        "bytes read": partial(bytes_read, dataset),
        "tables read": partial(tables_read, dataset),
        "operations": multiplied,
        "one by one": one_by_one,
    }

    def tidy_up() -> None:
        for written in [*made.rglob("*.parquet"), *copies.iterdir()]:
            written.unlink()

    with threadpool_limits(1):
        took = {name: cpu for name, (cpu, _) in medians(sides, tidy_up).items()}
    candidates = dataset.spec.num_candidates
    of_bandit = bandit_operations(scorers["linucb"]) * took["operations"]
    of_values = fitted_q_operations(scorers["fitted-q"], candidates)
    written = took["tables written"] - took["tables read"]
    floors = [
        ("generate", "numbers and bytes", took["numbers"] + took["bytes written"]),
        ("generate", "numbers, and pyarrow writes", took["numbers"] + written),
        ("read", "bytes", took["bytes read"]),
        ("read", "pyarrow reads", took["tables read"]),
        ("linucb", "bytes and operations", took["bytes read"] + of_bandit),
        ("linucb", "pyarrow reads, operations", took["tables read"] + of_bandit),
        ("fitted-q", "bytes and operations", took["bytes read"] + of_values * took["operations"]),
        (
            "fitted-q",
            "pyarrow reads, NumPy's operations",
            took["tables read"] + of_values * took["one by one"],
        ),
    ]
    with capsys.disabled():
        rate = 1 / took["operations"]
        print(
            f"\none core, {dataset.rows:,} rows of {WORLD}, {rate:.1f} billion operations a second,"
            f" load {psutil.getloadavg()[0]:.1f}"
        )
        print("| step | ns a row | at least | ns a row | share |\n|---|---|---|---|---|")
        for step, what, floor in floors:
            share = floor / took[step]
            print(f"| {step} | {took[step]:,.0f} | {what} | {floor:,.0f} | {share:.2f} |")
