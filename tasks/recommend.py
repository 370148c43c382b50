"""Batch scoring: a Parquet file of requests in, a Parquet file of slates out."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slateflow.errors import InputError, refused
from tasks.server.stages import stage
from tasks.store.tracking import mlflow_client

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

BATCH_ROWS = 10_000


def recommend(
    model_uri: str, source: Path, out: Path, epsilon: float = 0.0, seed: int | None = None
) -> int:
    """Answer every row of `source` with the model, in its order; returns the number of rows.

    The file is read and written row group by row group, at most `BATCH_ROWS` rows at once. `out`
    has `slate`, `scores`, `propensity` and `outside`, of own logs `items`, too, and before them the
    columns of `source` that are not part of a request, such as an id. It appears when it is
    complete.

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
    model = RegisteredModel.load(model_uri)
    model.check_columns(requests.schema_arrow.names, source)
    model.warn_of_whole_catalogue(requests.schema_arrow.names, source)
    unfinished = out.with_name(f".{out.name}.tmp")
    progress = stage(f"recommend {source.name}")
    answers, rows = _answers(model, requests, source, epsilon, seed), 0
    first = next(answers)
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
        return pq.ParquetFile(source)


@dataclass(frozen=True)
class RegisteredModel:
    """A model of the registry; its signature names the columns of requests and answers."""

    uri: str
    model: Any  # as pyfunc loaded it

    @classmethod
    def load(cls, uri: str) -> RegisteredModel:
        """The model at a URI.

        Raises:
            InputError: There is no such model, or it is not a recommender.
        """
        mlflow_client()
        import mlflow
        from mlflow.exceptions import MlflowException

        expected = f"--model {uri}: expected a model such as models:/NAME@champion"
        with refused(expected, MlflowException, OSError, ValueError):
            model = mlflow.pyfunc.load_model(uri)
        signature = model.metadata.signature
        if signature is None or "slate" not in signature.outputs.input_names():
            raise InputError(f"{expected}, got one whose answers contain no slates")
        return cls(uri, model)

    @property
    def asked(self) -> list[str]:
        """Columns of a request."""
        return list(self.model.metadata.get_input_schema().input_names())

    @cached_property
    def schema(self) -> pa.Schema:
        """Columns of an answer."""
        import pyarrow as pa

        kinds = {
            "slate": pa.list_(pa.int64()),
            "items": pa.list_(pa.string()),
            "scores": pa.list_(pa.float64()),
            "propensity": pa.float64(),
            "outside": pa.int64(),
        }
        names = self.model.metadata.get_output_schema().input_names()
        return pa.schema([(name, kinds[name]) for name in names])

    def check_columns(self, names: list[str], source: Path) -> None:
        """Refuse a file that lacks a column of requests, or has a column of answers."""
        for name in self.model.metadata.get_input_schema().required_input_names():
            if name not in names:
                raise InputError(
                    f"{source}: expected a column {name}, got {', '.join(names)}; requests have "
                    f"the columns {', '.join(self.asked)}"
                )
        for name in set(self.schema.names).difference(self.asked).intersection(names):
            raise InputError(f"{source}: expected no column {name}, which answers have; rename it")

    def warn_of_whole_catalogue(self, names: list[str], source: Path) -> None:
        """Say in one line on standard error that `item`, which is only copied, is not `items`."""
        if "items" in self.asked and "items" not in names and "item" in names:
            print(
                f"slateflow: {source}: no column items (lists of ids), so that every row is "
                "offered the whole catalogue; item is only copied",
                file=sys.stderr,
            )

    def answer(self, frame: pd.DataFrame, params: dict[str, Any]) -> pa.Table:
        """Answers in the order of the requests.

        MLflow's check, which goes value by value, is left out: the recommender checks rows itself.
        """
        import pyarrow as pa

        if not len(frame):
            return self.schema.empty_table()
        answers = self.model.unwrap_python_model().predict(None, frame, params)
        return pa.Table.from_pandas(answers, self.schema, preserve_index=False)


def _answers(
    model: RegisteredModel, requests: pq.ParquetFile, source: Path, epsilon: float, seed: int | None
) -> Iterator[pa.Table]:
    """A table of answers for each batch, each with draws of its own; one table for no rows, too."""
    import pandas as pd
    import pyarrow as pa
    from mlflow.exceptions import MlflowException

    start = 0
    for batch in _batches(requests, source):
        asked = [name for name in model.asked if name in batch.schema.names]
        # Not `to_pandas`, whose arrays of arrays would have to be taken apart row by row
        with refused(f"{source}: expected each key of a map once", KeyError):
            columns = {name: _values(batch.column(name)) for name in asked}
        frame = pd.DataFrame(columns, index=range(batch.num_rows))
        params = {"epsilon": epsilon, "seed": None if seed is None else _seed_at(start, seed)}
        try:
            table = model.answer(frame, params)
        except MlflowException as error:
            raise InputError(f"{source}: {_of_file(str(error), start)}") from error
        others = pa.Table.from_batches([batch]).drop_columns(asked)
        for field, column in zip(table.schema, table.columns, strict=True):
            others = others.append_column(field, column)
        yield others
        start += batch.num_rows


def _of_file(reason: str, start: int) -> str:
    """The first line of a model's refusal, its row counted in the file and from 1.

    Args:
        reason: A refusal, which counts a batch's rows from 0.
        start: Rows of the file before the batch.

    Example:
        >>> _of_file("step, row 2: expected a whole number, got row 7: x", 10_000)
        'step, row 10003: expected a whole number, got row 7: x'
    """
    line, _, _ = reason.partition("\n")
    return re.sub(r"^(\w+, )?row (\d+)(?=: )", lambda at: _row(at, start), line)


def _row(found: re.Match[str], start: int) -> str:
    return f"{found[1] or ''}row {start + int(found[2]) + 1}"


def _seed_at(start: int, seed: int) -> int:
    """The seed of the batch that begins at a row, so that no batch repeats another's draws."""
    return int(np.random.SeedSequence([seed, start]).generate_state(1, np.uint64)[0])


def _batches(requests: pq.ParquetFile, source: Path) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    with refused(f"{source}: expected an undamaged file", OSError, pa.ArrowException):
        if not requests.metadata.num_rows:
            yield pa.RecordBatch.from_pylist([], requests.schema_arrow)
        yield from requests.iter_batches(BATCH_ROWS)


def _values(column: pa.Array) -> list[Any]:
    """The rows as NumPy arrays where all have one shape, otherwise as lists and dicts."""
    import pyarrow as pa
    import pyarrow.compute as pc

    shape: list[int] = []
    flat = column
    lists = pa.ListArray | pa.LargeListArray | pa.FixedSizeListArray
    while isinstance(flat, lists) and not pa.types.is_map(flat.type):
        lengths = pc.unique(pc.list_value_length(flat)).to_pylist()
        if len(lengths) != 1 or not lengths[0]:  # ragged, empty or missing
            shape = []
            break
        shape += lengths
        flat = flat.flatten()
    if not shape or flat.null_count or pa.types.is_map(flat.type):
        return list(column.to_pylist(maps_as_pydicts="strict"))
    return list(flat.to_numpy(zero_copy_only=False).reshape(len(column), *shape))
