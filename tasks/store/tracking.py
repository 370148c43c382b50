"""Where MLflow is, and what our runs there have in common."""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from slateflow.errors import InputError
from slateflow.policies import AnyScorer, load_scorer
from slateflow.trajectories import Dataset, Encoding
from slateflow.trajectories.catalogue import Catalogue
from slateflow.trajectories.sources.logged_rows import LoggedRows
from tasks.next_command import typed
from tasks.project import PROJECT
from tasks.store.new_store import check_store, database_file, make_store, sqlite_url

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

ROWS_FILE = "rows.json"
"""File of a version with hashes of the rows that its logs were read from."""
SCORER_FILE = "scorer.npz"
TRAINING = "slateflow.training"
"""Tag of a run: the digest of all that its weights depend on."""
_DIGEST_LENGTH = 36  # MLflow stores no longer digest with a dataset


class UnreachableError(InputError):
    """Nothing answers at an address, which may be wrong, or whose server is restarting."""


_COLUMNS = (
    *("attributes.`Created`", "attributes.`Duration`", "tags.`slateflow.verdict`"),
    *(f"metrics.`{name}`" for name in ("uplift", "uplift_over_champion", "score")),
    "tags.`slateflow.error`",
)
"""Few, for MLflow shows metrics before tags, and the verdict is to be seen."""
_VIEW_TAG = "mlflow.sharedViewState.slateflow"
"""Tag of an experiment: a view of its runs, as MLflow's page keeps one to be shared by a link."""
_VIEW = json.dumps(
    {
        "searchFilter": "",
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": _COLUMNS,
    }
)


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`, or the embedded store in the project's `mlflow` folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or embedded_store()


def embedded_store() -> str:
    """URL of the store in the project's `mlflow` folder."""
    return sqlite_url(PROJECT / "mlflow" / "mlflow.db")


def store_to_type() -> str:
    """Address of the store for commands that are typed here; the embedded one's is short at home.

    It has no password.
    """
    uri = tracking_uri()
    if uri == embedded_store() and Path.cwd() == PROJECT:
        return sqlite_url(Path("mlflow") / "mlflow.db")
    return redact_passwords(uri)


def mlflow_client() -> MlflowClient:
    """A client of the tracking server and registry.

    Raises:
        InputError: Nothing answers at the address, or it does not know the user.
    """
    uri = tracking_uri()
    if uri.startswith("http"):
        _check_server(uri)
    _check_database(uri)
    _check_folder(uri)
    check_store(uri)
    import mlflow  # takes two seconds
    from mlflow.exceptions import MlflowException

    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("mlflow.store.db").setLevel(logging.CRITICAL)  # failures are raised as well
    mlflow.set_tracking_uri(uri)
    try:
        make_store(uri)
        client = mlflow.MlflowClient()
        client.search_experiments(max_results=1)
    except (MlflowException, OSError) as error:
        if getattr(error, "error_code", None) == "UNAUTHENTICATED":
            raise InputError(
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD: expected a user of "
                f"{redact_passwords(uri)} and the user's password, got a wrong pair or none; set "
                "both"
            ) from error
        reason = str(error).splitlines()[0]
        raise UnreachableError(
            f"MLFLOW_TRACKING_URI: expected a store or a server at {redact_passwords(uri)}, got "
            f"{redact_passwords(reason)}; start it or unset the variable"
        ) from error
    return client


def redact_passwords(text: str) -> str:
    """The text without the passwords of addresses in it."""
    return re.sub(r"(://[^:/@\s]*):[^@/\s]*@", r"\1:***@", text)


def _check_server(uri: str) -> None:
    """Ask once; MLflow's own client would try for minutes."""
    try:
        with urllib.request.urlopen(f"{without_user(uri).rstrip('/')}/health", timeout=10):
            pass
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise UnreachableError(
            f"MLFLOW_TRACKING_URI: expected an MLflow server at {redact_passwords(uri)}, got "
            f"{getattr(error, 'reason', error)}; start it or unset the variable"
        ) from error


def _check_database(uri: str) -> None:
    """Ask a database once; MLflow would try for minutes, and end in a traceback."""
    if not uri.startswith(("postgresql", "mysql", "mssql")):
        return
    from sqlalchemy import NullPool, create_engine
    from sqlalchemy.exc import SQLAlchemyError

    try:
        create_engine(uri, poolclass=NullPool).connect().close()
    except (SQLAlchemyError, ImportError) as error:
        raise UnreachableError(
            f"MLFLOW_TRACKING_URI: expected a database at {redact_passwords(uri)}, got "
            f"{redact_passwords(str(error).splitlines()[0])}; start it or unset the variable"
        ) from error


def _check_folder(uri: str) -> None:
    """Refuse a SQLite store where MLflow would find no version: it takes `%41` for an A."""
    database = database_file(uri)
    if database is not None and unquote(str(database.parent)) != str(database.parent):
        raise InputError(
            "MLFLOW_TRACKING_URI: expected a folder without escapes such as %41, from which MLflow "
            f"cannot load versions, got {database.parent}; rename it, or name another store"
        )


def experiment_id(client: MlflowClient, recipe: str) -> str:
    """The experiment `slateflow-<recipe>`, made where it is missing."""
    from mlflow.exceptions import MlflowException

    name = model_name(recipe)
    found = client.get_experiment_by_name(name)
    if found is None:
        location = None
        if (database := database_file(tracking_uri())) is not None:
            location = (database.parent / "artifacts").as_uri()
        try:
            return str(client.create_experiment(name, location, {_VIEW_TAG: _VIEW}))
        except MlflowException:  # another process was faster
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.tags.get(_VIEW_TAG) != _VIEW:
        client.set_experiment_tag(found.experiment_id, _VIEW_TAG, _VIEW)
    return str(found.experiment_id)


def require_experiment(client: MlflowClient, recipe: str) -> None:
    """Refuse a recipe whose experiment was deleted, where MLflow takes no runs."""
    name = model_name(recipe)
    found = client.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage == "deleted":
        number, where = str(found.experiment_id), ""
        if tracking_uri() == embedded_store():  # another is in the shell's variable
            where = f"MLFLOW_TRACKING_URI={shlex.quote(store_to_type())} "
        raise InputError(
            f"{name}: expected an experiment of MLflow, got a deleted one; restore it with "
            f"`{where}{typed('mlflow', 'experiments', 'restore', '-x', number)}`, or remove it for "
            "good by `mlflow gc`"
        )


def model_name(recipe: str) -> str:
    """Name of a recipe's registered model and MLflow experiment."""
    return f"slateflow-{recipe}"


def dataset_input(dataset: Dataset) -> Any:
    """The dataset as the input of a run."""
    from mlflow.entities import Dataset as LoggedDataset
    from mlflow.entities import DatasetInput, InputTag

    profile = {"rows": dataset.rows, "episodes": dataset.episodes, "digest": dataset.digest}
    logged = LoggedDataset(
        name=dataset.path.rstrip("/").rsplit("/", 1)[-1],
        digest=dataset.digest.removeprefix("sha256:")[:_DIGEST_LENGTH],
        source_type="local",
        source=json.dumps({"uri": dataset.path}),
        profile=json.dumps(profile),
    )
    return DatasetInput(logged, [InputTag("mlflow.data.context", "training")])


def run_scorer(client: MlflowClient, run_id: str) -> AnyScorer:
    """The weights that a run logged.

    Raises:
        UnreachableError: The server died meanwhile.
    """
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as folder:
        try:
            path = client.download_artifacts(run_id, SCORER_FILE, folder)
        except MlflowException as error:
            # MLflow says the same of a file that is not there
            if SCORER_FILE in {one.path for one in client.list_artifacts(run_id)}:
                raise UnreachableError(
                    f"MLFLOW_TRACKING_URI: expected {SCORER_FILE} of run {run_id}, got an error "
                    "in the middle of it; is the server restarting?"
                ) from error
            raise
        return load_scorer(path)


def version_scorer(client: MlflowClient, version: ModelVersion) -> AnyScorer:
    """The weights that a version carries; for a version made by hand, those of its run.

    The run behind a version may be deleted. The version still serves then, so it can be played.
    """
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as folder:
        if (carried := _carried(version, [SCORER_FILE], folder)) is not None:
            return load_scorer(carried[0])
    try:
        return run_scorer(client, str(version.run_id))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise InputError(
            f"models:/{version.name}/{version.version}: expected weights in it or in its run, "
            f"got {error.message}; roll back, or delete it"
        ) from error


def version_items(version: ModelVersion) -> tuple[Encoding, Catalogue] | None:
    """The encoding and the catalogue that a version of own logs carries; None of other versions."""
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        if (carried := _carried(version, ["encoding.json", "catalogue.npz"], folder)) is None:
            return None
        encoding, catalogue = carried
        document = json.loads(encoding.read_text(encoding="utf-8"))
        with np.load(catalogue, allow_pickle=False) as stored:
            return Encoding.from_dict(document), Catalogue(stored["features"])


def version_rows(version: ModelVersion) -> LoggedRows | None:
    """Hashes of the rows behind a version of own logs; None where it carries none."""
    with tempfile.TemporaryDirectory() as folder:
        if (carried := _carried(version, [ROWS_FILE], folder)) is None:
            return None
        return LoggedRows.from_dict(json.loads(carried[0].read_text(encoding="utf-8")))


def _carried(version: ModelVersion, names: Sequence[str], folder: str) -> list[Path] | None:
    """Files of a version, loaded into a folder; None where the version does not carry them.

    A file that is listed but cannot be loaded is an error: otherwise a champion would be judged by
    something other than what it serves.
    """
    from mlflow.artifacts import download_artifacts, list_artifacts

    files = f"models:/{version.name}/{version.version}/artifacts"
    listed = {Path(one.path).name for one in list_artifacts(files)}
    if not listed.issuperset(names):
        return None
    return [Path(download_artifacts(f"{files}/{name}", dst_path=folder)) for name in names]


def page_url(store: str, path: str) -> str | None:
    """Address of a page of MLflow; None where the store is not a server."""
    if not store.startswith("http"):
        return None
    # Without the workflow type MLflow opens its pages for language models
    return f"{without_user(store).rstrip('/')}/#/{path}?workflowType=machine_learning"


def experiment_page(client: MlflowClient, recipe: str) -> str | None:
    """Address of the page with all runs of a recipe; None where the store is not a server."""
    address = page_url(tracking_uri(), f"experiments/{experiment_id(client, recipe)}/runs")
    return address and f"{address}&viewStateShareKey=slateflow"


def run_page(client: MlflowClient, run_id: str) -> str | None:
    """Address of a run's page; None where the store is not a server."""
    experiment = client.get_run(run_id).info.experiment_id
    return page_url(tracking_uri(), f"experiments/{experiment}/runs/{run_id}")


def without_user(address: str) -> str:
    """A link for others, without our user name and password."""
    return re.sub(r"(?<=://)[^/@]*@", "", address)


@lru_cache(maxsize=1)
def code_commit() -> str:
    """The commit of the code, with `-dirty` where files differ from it."""
    command = ["git", "-C", str(PROJECT), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        described = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return described.stdout.strip()
