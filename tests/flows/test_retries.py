"""Tasks are tried again where MLflow was away, and only there."""

from __future__ import annotations

from slateflow.errors import InputError


def test_only_a_server_that_was_away_is_worth_another_try():
    import requests
    from prefect.states import Failed

    from tasks.server.retries import UnreachableError, server_was_away

    def worth(error: Exception) -> bool:
        return server_was_away(None, None, Failed(data=error))

    assert worth(UnreachableError("expected a server, got none"))
    assert worth(requests.exceptions.ConnectionError())
    wrapped = RuntimeError("as MLflow does it")
    wrapped.__cause__ = requests.exceptions.ReadTimeout()
    assert worth(wrapped)
    assert not worth(InputError("expected a seed, got none"))
    assert not worth(RuntimeError("answers other slates"))
