"""Makes `modules/tensorrt/signatures.json` from the stubs of the real TensorRT, which `tensorrt_api.py stubs` writes.

python tests/stand_ins/tensorrt_signatures.py FOLDER/tensorrt/__init__.pyi
"""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Any

CLASSES = (
    "Builder", "DataType", "Dims", "EngineInspector", "IBuilderConfig", "ICudaEngine", "IExecutionContext",
    "IHostMemory", "ILogger", "INetworkDefinition", "IOptimizationProfile", "IProfiler", "IProgressMonitor", "ITensor",
    "ITimingCache", "LayerInformationFormat", "MemoryPoolType", "OnnxParser", "ParserError", "ProfilingVerbosity",
    "Runtime", "Severity", "TensorIOMode",
)  # fmt: skip
"""The classes that the stand-in has."""
FILE = Path(__file__).parent / "modules" / "tensorrt" / "signatures.json"


def signatures(stubs: str) -> dict[str, Any]:
    """For each class its `methods` (name -> overloads: [argument, annotation, optional]) and attributes.

    `settable` are those that can be written, `readable` those that cannot, `members` an enumeration's.
    """
    found: dict[str, Any] = {}
    for node in ast.walk(ast.parse(stubs)):
        if isinstance(node, ast.ClassDef) and node.name in CLASSES and node.name not in found:
            found[node.name] = _class(node)
    return found


def _class(node: ast.ClassDef) -> dict[str, Any]:
    methods: dict[str, list[Any]] = {}
    settable, readable, members = set(), set(), []
    for item in node.body:
        if isinstance(item, ast.FunctionDef):
            marks = [ast.unparse(mark) for mark in item.decorator_list]
            if f"{item.name}.setter" in marks:
                settable.add(item.name)
            elif "property" in marks:
                readable.add(item.name)
            elif not item.name.startswith("__") or item.name == "__init__":
                methods.setdefault(item.name, []).append(_arguments(item.args))
        elif isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            if item.target.id.isupper() and "ClassVar" in ast.unparse(item.annotation):
                members.append(item.target.id)
            elif not item.target.id.startswith("__"):
                settable.add(item.target.id)
    return {
        "methods": methods,
        "settable": sorted(settable),
        "readable": sorted(readable - settable),
        "members": members,
    }


def _arguments(given: ast.arguments) -> list[list[Any]]:
    """[name, annotation, whether it may be left out] of each argument but `self`."""
    arguments = [*given.posonlyargs, *given.args]
    first_optional = len(arguments) - len(given.defaults)
    return [
        [argument.arg, ast.unparse(argument.annotation) if argument.annotation else "", index >= first_optional]
        for index, argument in enumerate(arguments)
        if index > 0
    ]


if __name__ == "__main__":
    made = signatures(Path(sys.argv[1]).read_text())
    lines = [f"{json.dumps(name)}: {json.dumps(made[name], sort_keys=True)}" for name in sorted(made)]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
