import ast
import sys
import zipfile
from pathlib import Path

import pytest

from compress.targets import programs
from compress.targets.connection import FAR_END
from compress.targets.programs import FOLDERS, program_for

PACKAGES = {"onnxruntime": {"numpy", "onnxruntime"}, "tensorrt": {"numpy", "onnxruntime", "tensorrt"}}
OLDEST = {"onnxruntime": (3, 9), "tensorrt": (3, 10)}


def imports(source: str | bytes, version: tuple[int, int]) -> set[str]:
    """What a module imports, read as that version of Python reads it."""
    nodes = list(ast.walk(ast.parse(source, feature_version=version)))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return names | {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}


@pytest.mark.parametrize("runtime", FOLDERS)
def test_a_program_is_old_python_and_imports_itself_and_what_devices_have(runtime: str) -> None:
    with zipfile.ZipFile(program_for(runtime)) as packed:
        there = {name.removesuffix(".py").replace("/", ".") for name in packed.namelist()}
        names = {name for file in packed.namelist() for name in imports(packed.read(file), OLDEST[runtime])}
    assert {name for name in names if name.startswith("compress.")} <= there
    others = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names)
    assert others == {"compress", *PACKAGES[runtime]}


@pytest.mark.parametrize("runtime", FOLDERS)
def test_a_program_has_the_same_bytes_each_time(runtime: str) -> None:
    first = program_for(runtime)
    content = first.read_bytes()
    programs._packed.cache_clear()
    first.write_bytes(b"cut short")
    assert program_for(runtime) == first
    assert first.read_bytes() == content


def test_the_far_end_is_sent_in_order_and_needs_nothing_else() -> None:
    sent: set[str] = set()
    for name in FAR_END:
        source = (Path(programs.__file__).parent / f"{name.replace('.', '/')}.py").read_text()
        found = imports(source, (3, 9))
        assert {module for module in found if module.startswith("compress")} <= sent
        assert {module.split(".")[0] for module in found} - set(sys.stdlib_module_names) <= {"compress"}
        sent.add(f"compress.targets.{name}")
    far_end = {path.stem for path in (Path(programs.__file__).parent / "far_end").glob("*.py")} - {"__init__"}
    assert {f"compress.targets.far_end.{name}" for name in far_end} <= sent
