"""The house keeps its rules: imports go one way, drivers and trials start without torch, every file says what it is.

The folders are an application, not packages with a declared interface, so these rules hold only as far as a test
reads the source.
"""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("datasets", "trainables", "search", "analysis")
FILES = [path.relative_to(ROOT) for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]

# What a folder may not import, at any level of a file: search -> trainables -> datasets, and the loop, the store, the
# tasks and the packs know nothing of Ray, Tune, Optuna or MLflow.
FORBIDDEN = {
    "datasets": {"trainables", "search", "analysis", "ray", "mlflow", "optuna"},
    "trainables": {"search", "analysis", "ray", "mlflow", "optuna"},
    "search": set[str](),
    "analysis": {"search", "datasets", "trainables", "ray", "optuna"},
}
# The nouns that analysis shares with what it analyses, and Optuna's importances, of studies that it builds in memory.
ALLOWED = {
    "analysis": {"trainables.recipe", *(f"optuna.{name}" for name in ("distributions", "importance", "study", "trial"))}
}


def imports(source: str, package: tuple[str, ...]) -> Iterator[str]:
    """Dotted names of all modules that `source`, a file of `package`, imports anywhere, also within functions.

    `from a import b` gives `a` where b is a name of a, and that is all that source can tell; since b may be a module,
    `a.b` is given too.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *([node.module] if node.module else [])))
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"import_module", "importlib.import_module"}:
            yield from (str(arg.value) for arg in node.args[:1] if isinstance(arg, ast.Constant))


def violations(source: str, path: Path) -> list[str]:
    folder = path.parts[0]
    allowed = ALLOWED.get(folder, set())
    return [
        name
        for name in imports(source, path.parts[:-1])
        if name.split(".")[0] in FORBIDDEN[folder]
        and not any(name == module or name.startswith(f"{module}.") for module in allowed)
    ]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_go_one_way(path: Path) -> None:
    assert violations((ROOT / path).read_text(), path) == []


@pytest.mark.parametrize(
    ("path", "source", "found"),
    [
        ("datasets/pack.py", "import numpy\nimport ray", ["ray"]),
        ("datasets/pack.py", "def f():\n    from trainables.recipe import Recipe", ["trainables.recipe.Recipe"]),
        ("trainables/loop.py", "from datasets import Pack\nimport mlflow.entities as m", ["mlflow.entities"]),
        ("trainables/loop.py", "import importlib\nimportlib.import_module('ray.train')", ["ray.train"]),
        ("trainables/segmentation/task.py", "from ..stage import Stage", []),
        ("trainables/segmentation/task.py", "from ...search import config", ["search.config"]),
        ("analysis/runs.py", "import mlflow\nfrom trainables.recipe import Recipe\nfrom trainables import recipe", []),
        ("analysis/runs.py", "from trainables import store", ["trainables.store"]),
        ("analysis/runs.py", "from optuna.study import create_study\nimport optuna.storages", ["optuna.storages"]),
        ("analysis/runs.py", "import trainables.recipes", ["trainables.recipes"]),
        ("analysis/runs.py", "from search.config import Config", ["search.config.Config"]),
        ("search/run.py", "import ray, optuna, mlflow, trainables, datasets", []),
    ],
)
def test_the_import_rule_sees(path: str, source: str, found: list[str]) -> None:
    """The rule itself, on sources of known guilt (`search` above the root of a relative import included)."""
    assert violations(source, Path(path)) == found


@pytest.mark.parametrize(
    "module",
    [
        "datasets",
        "trainables.recipe",
        "trainables.stage",
        "search.config",
        "search.trial",
        "search.keeper",
        "search.__main__",
    ],
)
def test_import_pulls_in_no_torch(module: str) -> None:
    """The driver and Tune's trials import these: torch would cost each of them seconds and hundreds of megabytes."""
    code = f"import sys, {module}; sys.exit('torch' in sys.modules and 'torch is imported')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", FILES, ids=str)
def test_every_file_says_what_it_is(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse((ROOT / path).read_text()))
    assert docstring, f"{path} must open with a docstring that says what it is and why it exists"


def test_the_four_folders_are_there() -> None:
    """So that the rules above were not kept by reading nothing."""
    assert {path.parts[0] for path in FILES} == set(FOLDERS)


@pytest.fixture(scope="module")
def pins() -> dict[str, str]:
    """`constraints.txt` as exact versions by canonical name."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert not [line for line in lines if set("@/+ ") & set(line)]  # no paths, hosts or local builds
    pairs = [line.split("==") for line in lines]
    pins: dict[str, str] = {canonicalize_name(name): pin for name, pin in pairs}
    assert len(pins) == len(lines)
    return pins


def test_constraints_pin_every_declared_dependency_within_its_range(pins: dict[str, str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [text for extra in project["optional-dependencies"].values() for text in extra]
    for requirement in map(Requirement, project["dependencies"] + extras):
        pin = pins.get(canonicalize_name(requirement.name))
        assert pin, f"constraints.txt must pin {requirement.name}, which pyproject.toml declares"
        assert requirement.specifier.contains(pin), f"{requirement} of pyproject.toml excludes {pin} of constraints.txt"


@pytest.mark.parametrize("name", ["torch", "numpy", "albumentations", "opencv-python-headless", "ray", "optuna"])
def test_tests_run_with_the_pinned_version(name: str, pins: dict[str, str]) -> None:
    """Figures hold for one set of versions only (the local label of a build, as in 2.13.0+cpu, aside)."""
    assert version(name).split("+")[0] == pins[name]
