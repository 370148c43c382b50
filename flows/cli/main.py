"""The command line: the list of commands, exit status and one-line errors.

A command's module is imported when the command is called, so that `--help` answers at once.
"""

from __future__ import annotations

import sys

try:
    import atexit
    import gc
    import io
    import os
    import select
    import sqlite3
    from importlib.metadata import version

    from cyclopts import App, CycloptsError, UnknownCommandError

    from flows.interruption import heed_signals, say_interrupted, was_interrupted
    from slateflow.errors import InputError, unknown
except KeyboardInterrupt:  # nothing has begun yet
    sys.exit(130)  # `INTERRUPTED`, which could not be imported

DONE, FAILED, BAD_INPUT = 0, 1, 2

_COMMANDS = {
    "Pipeline": {
        "run": "Generate, train, evaluate, register; ends with the table.",
        "generate": "Create the dataset of a recipe unless it already exists.",
        "train": "Train learners on a recipe's dataset.",
        "tune": "Try settings of a learner; held-out logs choose.",
        "evaluate": "Judge the newest models of a recipe beside random and the champion.",
        "register": "Evaluate, and make the winner the champion.",
    },
    "Registry": {
        "rollback": "Exchange the champion and the version before it.",
        "recommend": "Answer a Parquet file of requests with slates.",
    },
    "Dataset": {
        "estimate": "Estimate by logs alone what a policy would have earned.",
        "describe": "Show figures of a dataset, and write a page with plots.",
        "export": "Write a dataset for another library.",
        "import": "Check logs from elsewhere and make a dataset of them.",
        "prune": "Show or remove old datasets, trainings and checkpoints.",
    },
    "Listing": {
        "baseline": "Play random, greedy and its opposite: returns and slopes.",
        "environments": "List the presets and their parameters.",
        "learners": "List the learners and their settings.",
    },
    "Service": {
        "up": "Prefect and MLflow servers, a worker and the deployments, until Ctrl-C.",
        "deploy": "Make the deployments on a team's Prefect server.",
    },
}
"""Commands by group; group G's functions are in `flows/cli/<g>_commands.py`."""

PREFECT_SETTINGS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    # Progress and the table show what matters; the runs' logs are in Prefect
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_CLI_PROMPT": "false",
}
"""Variables of the environment, unless it has its own, set before Prefect is imported."""


def _app(called: str) -> App:
    """All commands; the called command is shown with its docstring, others with a line each."""
    listed = any(called in commands for commands in _COMMANDS.values())
    app = App(
        name="slateflow",
        help="Logged trajectories → offline RL and bandits → verdict → MLflow registry.",
        help_epilogue=None if listed else "Example: slateflow run modified-lts-20-2",
        help_format="markdown" if listed else "plaintext",  # rich's Markdown takes long to import
        version=lambda: version("slateflow"),
        result_action="return_value",
    )
    for group, commands in _COMMANDS.items():
        module = f"flows.cli.{group.lower()}_commands"
        for name, text in commands.items():
            app.command(
                f"{module}:{name}_command",
                name=name,
                help=None if name == called else text,
                group=f"{group} commands",
            )
    app.register_install_completion_command(add_to_startup=False)
    return app


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    atexit.register(gc.freeze)  # the interpreter would look for seconds for what nobody needs
    for name, value in PREFECT_SETTINGS.items():
        os.environ.setdefault(name, value)
    _ready_streams()
    heed_signals()
    try:
        if not given:
            return _complain("expected a command; see `slateflow --help`", BAD_INPUT)
        _app(given[0])(given, exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except InputError as error:
        return _complain(str(error), BAD_INPUT)
    except CycloptsError as error:
        return _complain(_explain(error), BAD_INPUT)
    except BaseException as error:
        if was_interrupted(error):
            return say_interrupted()
        if not isinstance(error, Exception):
            raise
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            return FAILED
        if getattr(getattr(error, "response", None), "status_code", None) == 401:
            return _complain(
                "PREFECT_API_AUTH_STRING: expected the NAME:PASSWORD of Prefect's server, got "
                "another or none; set it",
                BAD_INPUT,
            )
        if os.environ.get("SLATEFLOW_TRACEBACK"):
            raise
        return _complain(f"{_reason(error)} (SLATEFLOW_TRACEBACK=1 shows where)", FAILED)
    return DONE


def _ready_streams() -> None:
    """Open those that the caller has closed, as by `>&-`: a socket would take their numbers.

    A character that a terminal's encoding lacks is a question mark, not the end of the command.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nothing = open(os.devnull, mode)  # noqa: SIM115 - until the process ends
            os.set_inheritable(nothing.fileno(), True)
            setattr(sys, name, nothing)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _explain(error: CycloptsError) -> str:
    """A wrong call in one line."""
    if isinstance(error, UnknownCommandError) and not error.command_chain:
        known = [name for commands in _COMMANDS.values() for name in commands]
        wrong = unknown("command", (error.unused_tokens or [""])[0], known)
        return f"{wrong}; see `slateflow --help`"
    text = " ".join(str(error).split())
    found = getattr(error, "exception_message", "")
    if found and error.argument is not None:
        text = f"{error.argument.name}: {found}"
    chain = error.command_chain or ()
    return f"{text.rstrip('.')}; see `{' '.join(['slateflow', *chain])} --help`"


def _reason(error: Exception) -> str:
    """An error in one line; where a database failed, as on a full disk, in the database's words."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, sqlite3.Error):
        cause = cause.__cause__ or cause.__context__
    return f"{type(error).__name__}: {cause or error}".splitlines()[0]


def _nobody_reads() -> bool:
    """Whether the reader of standard output is gone, as behind `| head`; the rest goes nowhere."""
    try:
        output = sys.stdout.fileno()
    except OSError:  # it is not a file
        return False
    asked = select.poll()
    asked.register(output, 0)
    gone = any(event & (select.POLLERR | select.POLLHUP) for _, event in asked.poll(0))
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return gone


def _complain(message: str, status: int) -> int:
    # Blanks within a line stay: a path or a command to type may have two
    line = " ".join(part.strip() for part in message.splitlines() if part.strip())
    print(f"slateflow: {line}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
