"""The house keeps its order: one-way imports, and folders that shadow no package."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What a room must not import. Whoever is not named here may be imported.
FORBIDDEN = {
    "slateflow": {"prefect", "mlflow", "tasks", "flows"},
    "slateflow/environments": {
        f"slateflow.{room}" for room in ("policies", "trajectories", "learners", "evaluation")
    },
    "slateflow/policies": {
        f"slateflow.{room}" for room in ("trajectories", "learners", "evaluation")
    },
    "slateflow/trajectories": {f"slateflow.{room}" for room in ("learners", "evaluation")},
    "tasks": {"flows"},
    "mlflow": {"slateflow", "tasks", "flows"},
}


def modules(room: str) -> list[Path]:
    """The Python files of a room and its cellars."""
    return sorted((ROOT / room).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Full names of everything that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, packages: set[str]) -> bool:
    """Whether the name is one of the packages or lies in one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def test_imports_are_seen_wherever_they_stand(tmp_path):
    file = tmp_path / "sample.py"
    file.write_text("import a.b\nfrom c import d\ndef f():\n    from e.f import g\n")
    assert list(imports(file)) == ["a.b", "c.d", "e.f.g"]
    assert within("a.b", {"a"})
    assert not within("ab.c", {"a"})


@pytest.mark.parametrize("room", FORBIDDEN)
def test_imports_go_one_way(room):
    found = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(room)
        for name in imports(path)
        if within(name, FORBIDDEN[room])
    ]
    assert found == []


def test_ray_stays_with_the_learners_and_in_files_that_say_so():
    found = [
        f"{path.relative_to(ROOT)} imports {name}"
        for room in ("slateflow", "mlflow")
        for path in modules(room)
        for name in imports(path)
        if within(name, {"ray"})
        and not path.is_relative_to(ROOT / "slateflow" / "learners")
        and not path.name.startswith(("rllib_", "ray_"))
    ]
    assert found == []


@pytest.mark.parametrize("room", ["mlflow", "datasets"])
def test_no_folder_shadows_a_package(room):
    assert (ROOT / room).is_dir()
    assert list((ROOT / room).rglob("__init__.py")) == []


def test_datasets_hold_no_code():
    assert modules("datasets") == []


@pytest.mark.parametrize("name", ["mlflow", "ray"])
def test_no_flow_is_called_like_a_package(name):
    # Prefect puts the folder of a flow on sys.path.
    assert not (ROOT / "flows" / f"{name}.py").exists()


def run(code: str) -> str:
    """What a fresh interpreter in the root of the repository prints."""
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
