"""`slateflow deploy`: the deployments of prefect.yaml on a Prefect server, for any machine.

Their code is this checkout on this machine, or a branch or tag of a repository that each run
clones. On another machine a run knows nothing of the folders here.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import yaml
from cyclopts import Parameter

from flows.services.stack import BIN
from slateflow.errors import InputError, unknown
from tasks.project import PROJECT

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

_INSTALL = "uv sync --active --inexact --no-dev --no-install-project"
"""Installs the packages that a run's checkout asks for into the worker's environment. Code
comes from the checkout itself. Nothing is done where nothing has changed."""

WITH_DATA = ("flows/generate.py:generate", "flows/pipeline.py:pipeline", "flows/prune.py:prune")
"""Flows that look for datasets; the others are told where theirs is."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Source:
    """Options of `slateflow deploy`: where a run's code and datasets are."""

    repository: Annotated[
        str | None,
        Parameter(help="URL of the git repository that each run clones. [default: this checkout]"),
    ] = None
    branch: Annotated[str, Parameter(help="Branch or tag that is cloned.")] = "main"
    data: Annotated[
        str | None,
        Parameter(help="URL of the datasets, for runs on more than one machine."),
    ] = None


HERE = Source()


def prefect_document(source: Source) -> dict[str, Any]:
    """The contents of prefect.yaml, with the steps by which a run gets its code."""
    from tasks.server.deployments import read_document

    document = read_document()
    steps = "prefect.deployments.steps"
    if source.repository is None:
        document["pull"] = [{f"{steps}.set_working_directory": {"directory": str(PROJECT)}}]
    else:
        clone = {"id": "clone", "repository": source.repository, "branch": source.branch}
        install = {"script": _INSTALL, "directory": "{{ clone.directory }}"}
        document["pull"] = [
            {f"{steps}.git_clone": clone},
            {f"{steps}.run_shell_script": install},
        ]
    store = os.environ.get("MLFLOW_TRACKING_URI")
    for deployment in document["deployments"]:
        _check_parameters(deployment)
        if source.data is not None and deployment["entrypoint"] in WITH_DATA:
            deployment["parameters"] = {**deployment.get("parameters", {}), "data": source.data}
        if source.repository is not None and store:
            pool = deployment["work_pool"]
            variables = {**pool["job_variables"]["env"], "MLFLOW_TRACKING_URI": store}
            job_variables = {**pool["job_variables"], "env": variables}
            deployment["work_pool"] = {**pool, "job_variables": job_variables}
    return document


def _check_parameters(deployment: dict[str, Any]) -> None:
    """Refuse parameters that the flow does not have, or not with such values.

    Prefect takes the first, and every run of theirs crashes; of the second it names a status.
    Values with a template are known to Prefect alone.
    """
    from jsonschema.exceptions import best_match  # of Prefect, whose errors they are
    from prefect.utilities.callables import parameter_schema_from_entrypoint
    from prefect.utilities.schema_tools import validate

    with suppress(OSError):  # Prefect says that there is no such flow
        schema = parameter_schema_from_entrypoint(deployment.get("entrypoint", ""))
        name, given = f"prefect.yaml: {deployment['name']}", deployment.get("parameters") or {}
        known = {key: value for key, value in given.items() if "{{" not in str(value)}
        for parameter in given:
            if parameter not in schema.properties:
                wrong = unknown("parameter", parameter, list(schema.properties))
                raise InputError(f"{name}: {wrong}")
        errors = validate(known, schema.model_dump_for_openapi(), ignore_required=True)
        if (error := best_match(errors)) is not None:
            where = ".".join(map(str, error.absolute_path))
            raise InputError(f"{name}: {where}: expected another value, got: {error.message}")


def deploy(client: SyncPrefectClient, source: Source, environment: dict[str, str]) -> list[str]:
    """Make a server's deployments those of prefect.yaml; returns what there is to say about it.

    A paused deployment stays paused, and what prefect.yaml no longer has is deleted.

    Raises:
        InputError: The server refuses them.
    """
    from tasks.server.automations import ensure_alerts
    from tasks.server.deployments import (
        pause_again,
        planned_deployments,
        prune_deployments,
        read_paused,
    )

    paused = read_paused(client)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "prefect.yaml"
        file.write_text(yaml.safe_dump(prefect_document(source), sort_keys=False))
        done = subprocess.run(
            [str(BIN / "prefect"), "--no-prompt", "deploy", "--all", "--prefect-file", str(file)],
            env=environment,
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip().splitlines()
        reason = said[-1] if said else f"exit status {done.returncode}"
        raise InputError(f"prefect.yaml: expected deployments, got: {reason}")
    return [
        *(f"{name} stays paused" for name in pause_again(client, paused)),
        *(
            f"pruned {name}: prefect.yaml no longer has it"
            for name in prune_deployments(client, planned_deployments())
        ),
        *ensure_alerts(client),
    ]


def deploy_from_shell(source: Source) -> list[str]:
    """Deploy to the server of `PREFECT_API_URL`."""
    from prefect.exceptions import ObjectNotFound
    from prefect.settings import PREFECT_API_URL

    from tasks.server.answering import answering_client
    from tasks.server.deployments import POOL, ensure_pool

    if not PREFECT_API_URL.value():
        raise InputError(
            "PREFECT_API_URL: expected the address of a Prefect server, got none; set it"
        )
    _check_addresses(source)
    with answering_client() as client:
        try:
            client.read_work_pool(POOL)  # of processes, containers, whatever it is
        except ObjectNotFound:
            ensure_pool(client)
        return deploy(client, source, dict(os.environ))


def _check_addresses(source: Source) -> None:
    """Refuse addresses that others should not see, or that lead nowhere from other machines."""
    from tasks.store.tracking import redact_passwords

    store = os.environ.get("MLFLOW_TRACKING_URI")
    addresses = {
        "--repository": source.repository,
        "--data": source.data,
        "MLFLOW_TRACKING_URI": store,
    }
    for name, url in addresses.items():
        if url is not None and redact_passwords(url) != url:
            raise InputError(
                f"{name}: expected an address without a password, which everybody who sees the "
                f"deployments would see, got {redact_passwords(url)}; leave it to the worker's "
                "environment"
            )
    if source.repository is None:
        return
    # Files that a run writes into its clone go with it
    if source.data is None:
        raise InputError(
            "--data: expected a URL for the datasets of all machines, got none; set it"
        )
    if not store or store.startswith("sqlite:"):
        raise InputError(
            "MLFLOW_TRACKING_URI: expected a server that all machines reach, got "
            f"{store or 'none'}; set it"
        )
