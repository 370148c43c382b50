"""Rules of the repository: one-way imports, and folders that do not shadow packages."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.integration  # most start an interpreter


def test_imports_keep_the_contracts_of_pyproject():
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["recommender.py", "encoder.py"])
def test_what_consumers_run_imports_nothing_of_ours(name):
    code = (ROOT / "mlflow" / name).read_text(encoding="utf-8")
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
        )
    }
    assert imported - sys.stdlib_module_names == {"mlflow", "numpy", "pandas"}


@pytest.mark.parametrize("room", ["mlflow", "datasets"])
def test_no_folder_shadows_a_package(room):
    assert (ROOT / room).is_dir()
    assert list((ROOT / room).rglob("__init__.py")) == []


def test_datasets_hold_no_code():
    assert list((ROOT / "datasets").rglob("*.py")) == []


@pytest.mark.parametrize("name", ["mlflow", "ray"])
def test_no_flow_is_called_like_a_package(name):
    # Prefect adds the folder of a flow to sys.path.
    assert not (ROOT / "flows" / f"{name}.py").exists()


def run(code: str) -> str:
    """Output of a new interpreter in the root of the repository."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_mlflow_is_the_package_even_with_the_repository_first_on_the_path():
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import mlflow; print(mlflow.__file__)"
    file = Path(run(code))
    assert not file.is_relative_to(ROOT / "mlflow")
    assert file.name == "__init__.py"


def test_there_is_no_package_of_the_name_datasets():
    # Libraries look for Hugging Face's package; a namespace package has no origin to fool them.
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import importlib.util as u; "
        "spec = u.find_spec('datasets'); print(spec and spec.origin)"
    )
    assert "/datasets/__init__.py" not in run(code)


@pytest.mark.parametrize(
    "package",
    [
        "slateflow",
        "slateflow.environments",
        "slateflow.policies",
        "slateflow.trajectories",
        "slateflow.learners",
        "slateflow.evaluation",
        "slateflow.user_models",
        "slateflow.tuning",
    ],
)
def test_importing_the_science_is_light(package):
    heavy = {"ray", "torch", "recsim", "prefect", "mlflow", "tensorflow", "gym"}
    code = (
        f"import sys, {package}; "
        f"print(sorted({{name.split('.')[0] for name in sys.modules}} & {heavy!r}))"
    )
    assert run(code) == "[]"


@pytest.mark.parametrize("package", ["tensorflow", "tf_keras", "jax", "dopamine", "gym", "triton"])
def test_what_recsim_and_torch_drag_in_is_left_out(package):
    assert importlib.util.find_spec(package) is None
