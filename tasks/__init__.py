"""The steps that the flows chain, and all calls of Prefect and MLflow.

Steps pass references (paths and digests), never frames. Importing this package turns off the
telemetry of the libraries below it; environment variables that are set take precedence.
"""

import os

_QUIET = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_UV_AUTO_DETECT": "false",  # otherwise MLflow copies the project's lock into every model
    "RAY_USAGE_STATS_ENABLED": "0",
    "GIT_PYTHON_REFRESH": "quiet",
}
for _name, _value in _QUIET.items():
    os.environ.setdefault(_name, _value)
