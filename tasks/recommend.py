"""Batch scoring: a Parquet file of requests in, a Parquet file of slates out."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slateflow.errors import InputError, refused
from tasks.server.progress import stage
from tasks.store.tracking import mlflow_client

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

COLUMNS = ("user", "candidates", "step", "history")  # of a request; the first two are required
ANSWERS = ("slate", "scores", "propensity")
BATCH_ROWS = 10_000


def recommend(
    model_uri: str, source: Path, out: Path, epsilon: float = 0.0, seed: int | None = None
) -> int:
    """Answer every row of `source` with the model, in its order; returns the number of rows.

    The file is read and written row group by row group, at most `BATCH_ROWS` rows at once. `out`
    has `slate`, `scores` and `propensity`, and before them the columns of `source` that are not
    part of a request, such as an id. It appears when it is complete.

    Args:
        model_uri: A recommender, such as models:/NAME@champion.
        source: Parquet file of requests.
        out: Parquet file of the answers.
        epsilon: Probability of a random slate.
        seed: With it the same file gives the same random slates.

    Raises:
        InputError: A file, a row or the model is not what is expected.
    """
    import pyarrow.parquet as pq

    requests = _open(source)
    if out.exists() and out.samefile(source):
        raise InputError(f"OUT: expected a file other than IN, got {out}")
    if not out.parent.is_dir():
        raise InputError(f"OUT: expected a folder {out.parent} to write in, found none; make it")
    model = _load(model_uri)
    unfinished = out.with_name(f".{out.name}.tmp")
    progress = stage(f"recommend {source.name}")
    answers, rows = _answers(model, requests, source, epsilon, seed), 0
    first = next(answers, None)
    if first is None:
        raise InputError(f"{source}: expected requests, got a file without rows")
    try:
        with pq.ParquetWriter(unfinished, first.schema) as writer:
            for table in chain([first], answers):
                writer.write_table(table)
                rows += table.num_rows
                progress(rows, requests.metadata.num_rows)
        unfinished.replace(out)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}; choose another OUT") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return rows


def _open(source: Path) -> pq.ParquetFile:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not source.exists():
        raise InputError(f"IN: expected a Parquet file at {source}, found none")
    with refused(f"IN: expected a Parquet file at {source}", OSError, pa.ArrowInvalid):
        requests = pq.ParquetFile(source)
    names = requests.schema_arrow.names
    for name in COLUMNS[:2]:
        if name not in names:
            raise InputError(f"{source}: expected a column {name}, got {', '.join(names)}")
    for name in ANSWERS:
        if name in names:
            raise InputError(f"{source}: expected no column {name}, which an answer has; rename it")
    return requests


def _load(model_uri: str) -> Any:
    """The recommender without MLflow's check, which goes value by value; it checks rows itself."""
    mlflow_client()
    import mlflow
    from mlflow.exceptions import MlflowException

    expected = f"--model {model_uri}: expected a model such as models:/NAME@champion"
    with refused(expected, MlflowException, OSError):
        return mlflow.pyfunc.load_model(model_uri).unwrap_python_model()


def _answers(
    model: Any, requests: pq.ParquetFile, source: Path, epsilon: float, seed: int | None
) -> Iterator[pa.Table]:
    """A table of answers for each batch, each with draws of its own."""
    import pandas as pd
    import pyarrow as pa
    from mlflow.exceptions import MlflowException

    types = (pa.list_(pa.int64()), pa.list_(pa.float64()), pa.float64())
    schema = pa.schema(zip(ANSWERS, types, strict=True))
    start = 0
    for batch in _batches(requests, source):
        asked = [name for name in COLUMNS if name in batch.schema.names]
        # Not `to_pandas`, whose arrays of arrays would have to be taken apart row by row
        frame = pd.DataFrame({name: _values(batch.column(name)) for name in asked})
        params = {"epsilon": epsilon, "seed": None if seed is None else _seed_at(start, seed)}
        try:
            answers = model.predict(None, frame, params)
        except MlflowException as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"{source}, in the rows from {start}: {reason}") from error
        if list(answers) != schema.names:
            raise InputError(
                f"--model: expected answers of {', '.join(ANSWERS)}, got {', '.join(answers)}; "
                "take a version that this Slateflow registered"
            )
        table = pa.Table.from_pandas(answers, schema, preserve_index=False)
        others = pa.Table.from_batches([batch]).drop_columns(asked)
        for field, column in zip(table.schema, table.columns, strict=True):
            others = others.append_column(field, column)
        yield others
        start += batch.num_rows


def _seed_at(start: int, seed: int) -> int:
    """The seed of the batch that begins at a row, so that no batch repeats another's draws."""
    return int(np.random.SeedSequence([seed, start]).generate_state(1, np.uint64)[0])


def _batches(requests: pq.ParquetFile, source: Path) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    with refused(f"{source}: expected an undamaged file", OSError, pa.ArrowException):
        yield from requests.iter_batches(BATCH_ROWS)


def _values(column: pa.Array) -> list[Any]:
    """The rows as NumPy arrays where all have the same shape, otherwise as lists."""
    import pyarrow as pa
    import pyarrow.compute as pc

    shape, flat = [], column
    while isinstance(flat, pa.ListArray | pa.LargeListArray | pa.FixedSizeListArray):
        lengths = pc.unique(pc.list_value_length(flat)).to_pylist()
        if len(lengths) != 1 or not lengths[0]:  # ragged, empty or missing
            return list(column.to_pylist())
        shape += lengths
        flat = flat.flatten()
    if not shape or flat.null_count:
        return list(column.to_pylist())
    return list(flat.to_numpy(zero_copy_only=False).reshape(len(column), *shape))
