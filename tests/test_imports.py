"""Imports run one way, and what must answer at once imports nothing heavy."""

from __future__ import annotations

import ast
import graphlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "compress"
HEAVY = {
    "torch", "torchao", "torch_pruning", "onnx", "onnxruntime", "onnxscript", "transformers", "accelerate", "sklearn",
    "datasets", "matplotlib", "pyarrow", "PIL", "numpy",
}  # fmt: skip
FOUNDATION = (
    "errors", "optional", "floats", "modes", "settings", "suggest", "yaml_source", "validation", "bundle", "user_code",
    "stage",
)  # fmt: skip
"""What everything may use."""
KNOWLEDGE = (
    "data", "tasks", "models", "training", "generation", "distillation", "pruning", "quantization", "exporting",
    "runtimes", "targets", "profiling",
)  # fmt: skip
"""Folders that know nothing of pipelines, plans and stores."""
MACHINE = (
    "stages", "chain", "overrides", "pipeline", "stage_items", "config", "store", "threads", "steps", "rows", "plan",
    "environment", "ranks", "run", "rehearse", "budget", "report", "publish", "tracking", "packaging", "execute",
    "console", "reference", "schema", "init", "bare", "library_files", "library", "cli_files", "cli", "__main__",
)  # fmt: skip
"""In the order in which data flows: each imports only what stands before it."""
WORKERS = {"compress.training.worker", "compress.training.job"}
"""Processes of their own, told by its verb which stage to run: the one place below that reads the table of stages."""
ALGORITHMS = (
    "pruning/importance", "distillation/losses", "models/zoo", "data/preprocessing.py", "data/augmentation.py",
    "profiling/statistics.py", "targets/measuring",
)  # fmt: skip
PURE = {"errors", "settings", "bundle", "suggest", "modes", "floats"}


def _modules() -> dict[str, Path]:
    files = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
    return {".".join(["compress", *path.relative_to(PACKAGE).with_suffix("").parts]): path for path in files}


MODULES = _modules()


def _imports(path: Path, *, top_only: bool = False) -> set[str]:
    """The modules that a file imports; with `top_only` those that importing the file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (names & MODULES.keys()) or {str(node.module)}
    return found


def _part(module: str) -> str:
    """The file or folder below `compress/` that a module belongs to; empty for another package's."""
    parts = module.split(".")
    return parts[1] if parts[0] == "compress" and len(parts) > 1 else ""


def test_every_part_has_its_place_in_the_order() -> None:
    parts = {_part(module) for module in MODULES}
    assert parts - {*FOUNDATION, *KNOWLEDGE, *MACHINE} == set()


def test_no_import_is_a_cycle() -> None:
    graph = {module: _imports(path, top_only=True) & MODULES.keys() for module, path in MODULES.items()}
    try:
        list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


@pytest.mark.parametrize("part", KNOWLEDGE)
def test_knowledge_does_not_know_the_machine(part: str) -> None:
    for module, path in MODULES.items():
        if _part(module) == part and module not in WORKERS:
            wrong = {name for name in _imports(path) if _part(name) in MACHINE}
            assert not wrong, f"{module} imports {wrong}"


def test_the_machine_imports_in_the_order_of_its_data() -> None:
    order = (*FOUNDATION, *MACHINE)
    for module, path in MODULES.items():
        part = _part(module)
        if part in MACHINE:
            later = {name for name in _imports(path) if _part(name) in order[order.index(part) + 1 :]}
            assert not later, f"{module} imports {later}"


@pytest.mark.parametrize("place", ALGORITHMS)
def test_algorithms_import_numbers_and_their_own_folder_only(place: str) -> None:
    found = [(module, path) for module, path in MODULES.items() if path.is_relative_to(PACKAGE / place)]
    assert found, f"compress/{place} is gone"
    for module, path in found:
        own = module.split(".")[1]
        wrong = {name for name in _imports(path) if _part(name) and _part(name) not in {own, *PURE}}
        assert not wrong, f"{module} imports {wrong}"


def test_what_is_copied_beside_models_needs_numpy_alone() -> None:
    roots = {name.split(".")[0] for name in _imports(PACKAGE / "data" / "preprocessing.py")}
    assert roots - set(sys.stdlib_module_names) == {"numpy"}


def test_light_modules_import_nothing_heavy() -> None:
    names = {"config", "plan", "store", "run", "cli", "schema", "init", "stages", "chain", "environment"}
    light = [
        module for module, path in MODULES.items() if path.name in ("settings.py", "stage.py") or _part(module) in names
    ]
    assert _heavy_after("import " + ", ".join([*light, "compress"])) == []


@pytest.mark.parametrize("command", ["check", "plan", "schema"])
def test_commands_that_answer_at_once_import_nothing_heavy(command: str, tmp_path: Path) -> None:
    pipeline = PACKAGE.parent / "pipelines" / "digits.yaml"
    arguments = [command] if command == "schema" else [command, str(pipeline)]
    lines = [
        "from compress.cli import main",
        f"try: main({arguments!r})",
        "except SystemExit as end: assert not end.code, end.code",
    ]
    assert _heavy_after("\n".join(lines), tmp_path) == []


def _heavy_after(code: str, folder: Path | None = None) -> list[str]:
    """The heavy packages that a fresh process has imported after `code`."""
    ending = f"import sys\nprint('heavy:', *sorted({sorted(HEAVY)!r} & sys.modules.keys()))".replace("[", "{").replace(
        "]", "}"
    )
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{ending}"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()[1:]
