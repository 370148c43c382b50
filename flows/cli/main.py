"""The command line. It imports what a command needs when the command runs."""

from __future__ import annotations

import argparse
import json
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from flows.cli.dataset_commands import add_dataset_commands
from flows.cli.registry_commands import add_registry_commands
from flows.services.up import add_up
from slateflow.errors import InputError

DONE, FAILED, BAD_INPUT = 0, 1, 2

_PREFECT_SETTINGS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    # Progress and the table say it better; the runs' logs are in Prefect
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_CLI_PROMPT": "false",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    for name, value in _PREFECT_SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        command: Callable[[argparse.Namespace], None] = options.command
        command(options)
        sys.stdout.flush()
    except InputError as error:
        return _complain(str(error), BAD_INPUT)
    except KeyboardInterrupt:
        return _complain("interrupted; the same command goes on where it stopped", FAILED)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            return FAILED
        if os.environ.get("SLATEFLOW_TRACEBACK"):
            raise
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        return _complain(f"{reason} (SLATEFLOW_TRACEBACK=1 shows where)", FAILED)
    return DONE


def _nobody_reads() -> bool:
    """Whether the reader of standard output is gone, as behind `| head`; the rest goes nowhere."""
    try:
        output = sys.stdout.fileno()
    except OSError:  # it is no file
        return False
    asked = select.poll()
    asked.register(output, 0)
    gone = any(event & (select.POLLERR | select.POLLHUP) for _, event in asked.poll(0))
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return gone


def _complain(message: str, status: int) -> int:
    line = " ".join(message.split())
    print(f"slateflow: {line}", file=sys.stderr)
    return status


class _Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"slateflow: {message}; see `{self.prog} --help`\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="slateflow",
        description="Logged trajectories → offline RL and bandits → verdict → MLflow registry.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace], None], text: str) -> Any:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(command=run)
        command.add_argument("--json", action="store_true", help="print one JSON document")
        return command

    run = add("run", _run, "generate, train, evaluate, register; ends with the table")
    run.add_argument("environment", nargs="?", default="modified-lts-20-2", help="preset")
    _add_dataset_options(run)
    _add_learners(run)
    _add_evaluation_episodes(run)

    generate = add("generate", _generate, "make the dataset of a recipe, or find it made")
    generate.add_argument("recipe", help="name of a recipe in datasets/")
    _add_dataset_options(generate)

    train = add("train", _train, "train learners on a recipe's dataset")
    train.add_argument("recipe", help="name of a recipe in datasets/, or of an imported dataset")
    _add_dataset_options(train)
    _add_learners(train)
    train.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="setting of the learner"
    )

    tune = add("tune", _tune, "try settings of a learner; held-out logs choose")
    tune.add_argument("learner", help="a learner that learns from logs")
    tune.add_argument("recipe", help="name of a recipe in datasets/, or of an imported dataset")
    tune.add_argument("--trials", type=int, default=16, help="the first has the defaults")
    _add_dataset_options(tune)
    tune.set_defaults(workers=None)  # as many as there are processors

    evaluate = add("evaluate", _evaluate, "play the newest models of a recipe against random")
    evaluate.add_argument("recipe", help="name of a recipe in datasets/, or of an imported dataset")
    _add_dataset_options(evaluate)
    _add_learners(evaluate)
    _add_evaluation_episodes(evaluate)
    evaluate.add_argument(
        "--reference",
        nargs="?",
        type=int,
        const=500,
        default=0,
        metavar="EPISODES",
        help="play the best in RecSim's own code, too; default 500 episodes",
    )

    register = add("register", _register, "evaluate, and make the winner the champion")
    register.add_argument("recipe", help="name of a recipe in datasets/, or of an imported dataset")
    _add_dataset_options(register)
    _add_learners(register)
    _add_evaluation_episodes(register)

    baseline = add("baseline", _baseline, "random, greedy and its opposite: returns and slopes")
    baseline.add_argument(
        "environment",
        nargs="?",
        default="modified-lts-20-2",
        help="preset, or a recipe, whose policies are then played, too",
    )
    baseline.add_argument("--episodes", type=int, default=1000, help="default 1000")
    baseline.add_argument("--seed", type=int, default=0, help="default 0")

    add("environments", _environments, "the presets and their parameters")
    add_dataset_commands(add)
    add_registry_commands(add)
    add_up(add)
    return parser


def _add_dataset_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--episodes", type=int, help="episodes, instead of the recipe's")
    command.add_argument("--seed", type=int, help="seed, instead of the recipe's")
    command.add_argument("--data", metavar="URL", help="folder of the datasets, or a URL")
    command.add_argument("--workers", type=int, default=1, help="processes")


def _add_learners(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--learners",
        "--learner",
        metavar="NAMES",
        type=lambda names: names.split(","),
        help="comma-separated; default those made for the world",
    )


def _add_evaluation_episodes(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--evaluation-episodes", type=int, default=1000, help="episodes a policy; default 1000"
    )


def _learners(options: argparse.Namespace) -> list[str] | None:
    """The learners that were asked for; None stands for those that are made for the world."""
    from slateflow.learners import learner_config

    names: list[str] | None = options.learners
    if names is None:
        return None
    for name in names:
        learner_config(name)  # an unknown one is refused before anything runs
    if len(set(names)) < len(names):
        raise InputError(f"learners: expected each once, got {', '.join(names)}")
    return names


def _check(options: argparse.Namespace) -> None:
    """Refuse what Prefect would refuse with a traceback."""
    from slateflow.environments import preset
    from tasks.generate import find_logs, find_recipe

    if hasattr(options, "environment") and options.command is not _baseline:
        preset(options.environment)
    for name, least in (("episodes", 1), ("evaluation_episodes", 2), ("workers", 1), ("trials", 1)):
        value = getattr(options, name, None)
        if value is not None and value < least:
            flag = name.replace("_", "-")
            raise InputError(f"--{flag}: expected at least {least}, got {value}")
    if options.seed is not None and options.seed < 0:
        raise InputError(f"--seed: expected 0 or more, got {options.seed}")
    if options.command in (_train, _tune, _evaluate, _register):
        find_logs(options.recipe, options.episodes, options.seed, options.data)
    elif hasattr(options, "data"):
        recipe = getattr(options, "recipe", None) or options.environment
        find_recipe(recipe, options.episodes, options.seed)


@contextmanager
def _flow_run(options: argparse.Namespace) -> Iterator[None]:
    """Prefect set up for a run from the command line, and progress shown."""
    _check(options)
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    from flows.cli.console import progress

    first = "connect to Prefect" if os.environ.get("PREFECT_API_URL") else "start Prefect"
    # Each flow run would end with a second of waiting for its heartbeat
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}), progress(first):
        yield


def _print_json(document: Any) -> None:
    print(json.dumps(document))


def _run(options: argparse.Namespace) -> None:
    learners = _learners(options)
    with _flow_run(options):
        from flows.pipeline import pipeline
        from tasks.store.tracking import mlflow_client

        mlflow_client()  # an unreachable server is found before the work, not after it
        report = pipeline(
            environment=options.environment,
            episodes=options.episodes,
            seed=options.seed,
            learners=learners,
            evaluation_episodes=options.evaluation_episodes,
            data=options.data,
            workers=options.workers,
        )
    if options.json:
        _print_json(report.model_dump(mode="json"))
    else:
        from flows.cli.console import show_report

        show_report(report)


def _generate(options: argparse.Namespace) -> None:
    with _flow_run(options):
        from flows.generate import generate

        dataset = generate(
            options.recipe, options.episodes, options.seed, options.data, options.workers
        )
    if options.json:
        _print_json(dataset.model_dump(mode="json"))
    else:
        from flows.cli.console import show_dataset

        show_dataset(dataset)


def _settings(options: argparse.Namespace, learners: list[str] | None) -> Any:
    """The settings of the one learner, which have to fit it; None where none were given."""
    from slateflow.learners import learner_config

    if not options.set:
        return None
    if learners is None or len(learners) != 1:
        raise InputError(
            f"--set: expected one learner that it is for, got {len(learners or ())}; "
            "name it with --learner"
        )
    settings: dict[str, Any] = {}
    for assignment in options.set:
        name, _, text = assignment.partition("=")
        try:
            settings[name] = json.loads(text)
        except ValueError:
            settings[name] = text
    learner_config(learners[0], **settings)
    return {learners[0]: settings}


def _train(options: argparse.Namespace) -> None:
    learners = _learners(options)
    settings = _settings(options, learners)
    with _flow_run(options):
        from flows.train import train
        from tasks.generate import find_logs
        from tasks.store.tracking import mlflow_client

        mlflow_client()

        logs = find_logs(options.recipe, options.episodes, options.seed, options.data)
        models = train(logs.url, learners, logs.seed, settings)
    if options.json:
        _print_json([model.model_dump(mode="json") for model in models])
    else:
        from flows.cli.console import show_models

        show_models(models)


def _tune(options: argparse.Namespace) -> None:
    from slateflow.tuning.draws import draw_settings

    draw_settings(options.learner, 0, 0)  # one that cannot be tuned is refused at once
    with _flow_run(options):
        from flows.tune import tune
        from tasks.generate import find_logs

        logs = find_logs(options.recipe, options.episodes, options.seed, options.data)
        study = tune(logs.url, options.learner, options.trials, logs.seed, options.workers)
    if options.json:
        _print_json(study.model_dump(mode="json"))
    else:
        from flows.cli.console import show_study

        given = {name: getattr(options, name) for name in ("episodes", "seed", "data")}
        same = [f"--{name} {value}" for name, value in given.items() if value is not None]
        show_study(study, " ".join([options.recipe, *same]))


def _judge(options: argparse.Namespace) -> Any:
    """The logs, and the verdict on the newest run of each learner on them."""
    from flows.evaluate import evaluate
    from slateflow.learners import learners_for
    from slateflow.trajectories import Dataset
    from tasks.generate import find_logs
    from tasks.train import newest_models

    logs = find_logs(options.recipe, options.episodes, options.seed, options.data)
    dataset = Dataset.open(logs.url)
    learners = _learners(options)
    models = newest_models(
        dataset, learners or learners_for(dataset.spec), required=learners is not None
    )
    return logs, evaluate(
        logs.environment,
        models,
        options.evaluation_episodes,
        logs.seed,
        logs.parameters,
        getattr(options, "reference", 0),
    )


def _evaluate(options: argparse.Namespace) -> None:
    with _flow_run(options):
        logs, verdict = _judge(options)
    if options.json:
        _print_json(verdict.model_dump(mode="json"))
    else:
        from flows.cli.console import show_verdict

        show_verdict(verdict, logs.environment)


def _register(options: argparse.Namespace) -> None:
    with _flow_run(options):
        from flows.register import register

        logs, verdict = _judge(options)
        registration = register(logs.environment, verdict, logs.seed, logs.parameters)
    verdict, registered = registration.verdict, registration.registered
    if options.json:
        _print_json(None if registered is None else registered.model_dump(mode="json"))
        return
    from flows.cli.console import output, show_verdict

    show_verdict(verdict, logs.environment)
    if registered is None:
        output.print("No winner: nothing is registered.")
    else:
        output.print(f"{registered.name} version {registered.version} is the champion.")


def _baseline(options: argparse.Namespace) -> None:
    from dataclasses import asdict

    from slateflow.environments import preset, presets
    from slateflow.evaluation import measure_baselines
    from tasks.generate import find_recipe

    _check(options)
    if options.environment in presets():
        spec, others = preset(options.environment), None
    else:
        recipe = find_recipe(options.environment, None, None)
        spec, others = recipe.spec, recipe.behaviours
    baselines = measure_baselines(spec, options.episodes, options.seed, others)
    if options.json:
        _print_json([asdict(baseline) for baseline in baselines])
    else:
        from flows.cli.console import show_baselines

        show_baselines(options.environment, baselines)


def _environments(options: argparse.Namespace) -> None:
    from slateflow.environments import presets

    if options.json:
        _print_json({name: spec.to_dict() for name, spec in presets().items()})
        return
    for name, spec in presets().items():
        fields = {key: value for key, value in spec.to_dict().items() if key != "name"}
        print(name)
        print("  " + "\n  ".join(f"{key} = {value}" for key, value in fields.items()))


if __name__ == "__main__":
    sys.exit(main())
