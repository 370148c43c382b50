"""A consumer that follows the champion: copy it. It needs mlflow-skinny, NumPy and pandas."""

import logging
import threading
from typing import Any

import mlflow
import pandas as pd


class Champion:
    """The champion of a registered model; it is loaded anew when the alias has moved."""

    def __init__(self, name: str, seconds: float = 30.0) -> None:
        self.name, self.seconds = name, seconds
        self.moved = threading.Event()  # set it, for instance by a webhook, to look at once
        self.served = self._load()
        threading.Thread(target=self._follow, daemon=True).start()

    def answer(
        self, requests: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> tuple[str, pd.DataFrame]:
        """The version that answers, and its answers; both are of one moment."""
        version, model = self.served
        return version, model.predict(requests, params)

    def _version(self) -> str:
        return str(mlflow.MlflowClient().get_model_version_by_alias(self.name, "champion").version)

    def _load(self) -> tuple[str, mlflow.pyfunc.PyFuncModel]:
        version = self._version()
        return version, mlflow.pyfunc.load_model(f"models:/{self.name}/{version}")

    def _follow(self) -> None:
        while True:
            self.moved.wait(self.seconds)
            self.moved.clear()
            try:
                if self._version() != self.served[0]:
                    self.served = self._load()  # requests meanwhile have the one before
            except Exception:  # the server is away, or the version broken: the old one goes on
                logging.exception("%s: the champion was not loaded", self.name)
