"""Functions of the user's own, named `module:function` or `path/file.py:function`: found, digested, loaded. Light.

Digesting imports nothing: the source is read, and its import statements are followed through the user's own files. Of
an installed distribution only the named module counts: distributions change by version, not by hand.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib
import importlib.machinery
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from compress.data.locations import candidates, find_path
from compress.errors import UsageError

_MOST_FILES = 500
_INSTALLED = {"site-packages", "dist-packages"}


def absolute_spec(spec: str, base: Path | None) -> str:
    """`spec` with a file's path made absolute, sought in `base`, then in the working folder.

    A module stays as it is if it is installed or in the working folder; one that lies only in `base` becomes its file,
    so that what is written down is found again without `base`.

    Raises:
        ValueError: not `place:function`, or no such file or module (for pydantic, which makes it a fault with a place).
    """
    place, function = _parts(spec)
    if place.endswith(".py"):
        return f"{find_path(place, base)}:{function}"
    if _module_file(place, None) is not None:
        return spec
    file = _module_file(place, base)
    if file is None:
        raise ValueError(f"no module named {place!r} beside the pipeline, in the working folder or installed")
    return f"{file}:{function}"


def source_file(spec: str, base: Path | None = None) -> Path | None:
    """The Python file that `spec` names, found without importing it; None for a built-in or compiled module.

    Raises:
        UsageError: `spec` is not `place:function`, or there is no such file or module.
    """
    try:
        place, _ = _parts(absolute_spec(spec, base))
    except ValueError as error:
        raise UsageError(f"{spec}: {error}") from error
    path = Path(place) if place.endswith(".py") else _module_file(place, base)
    return path if path is not None and path.suffix == ".py" else None


def source_digest(spec: str, base: Path | None = None) -> str:
    """SHA-256 over the named file and the user's files that it imports, by content and relative place.

    Raises:
        UsageError: as `source_file`.
    """
    file = source_file(spec, base)
    if file is None:
        files = {}
    elif is_installed(file) and not spec.rpartition(":")[0].endswith(".py"):
        files = {file.name: file}
    else:
        files = with_imports(file)
    digest = hashlib.sha256()
    for name, path in sorted(files.items()):
        digest.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\0".encode())
    return digest.hexdigest()


def load_function(spec: str, base: Path | None = None) -> Callable[..., Any]:
    """The function that `spec` names.

    `base` and the working folder join the end of the import path, so that a module beside the pipeline is found.

    Raises:
        UsageError: no such file, module or function, or the user's code fails while it is imported.
    """
    try:
        place, name = _parts(absolute_spec(spec, base))
    except ValueError as error:
        raise UsageError(f"{spec}: {error}") from error
    for folder in [*([] if base is None else [base.resolve()]), Path.cwd()]:
        _searchable(folder)
    module = _guarded(
        spec, lambda: _load_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    )
    function = getattr(module, name, None)
    if not callable(function):
        known = sorted(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        state = "is no function" if hasattr(module, name) else "does not exist"
        raise UsageError(f"{spec}: {name!r} {state} in {getattr(module, '__file__', place)}; it has {', '.join(known)}")
    return function  # type: ignore[no-any-return]


def call(spec: str, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Call the user's function, turning its exceptions into one message with the user's own line.

    Raises:
        UsageError: the function raised.
    """
    return _guarded(spec, lambda: function(*arguments, **named))


def _parts(spec: str) -> tuple[str, str]:
    place, colon, function = spec.rpartition(":")
    is_module = all(part.isidentifier() for part in place.split("."))
    if not colon or not function.isidentifier() or not (is_module or place.endswith(".py")):
        raise ValueError(f"{spec!r} is neither module:function nor path/file.py:function")
    return place, function


def _guarded(spec: str, action: Callable[[], Any]) -> Any:
    try:
        with _no_bytecode():
            return action()
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(frame.filename)]
        where = f" (line {frames[-1].lineno} of {frames[-1].filename}: {frames[-1].line})" if frames else ""
        if isinstance(error, SyntaxError) and error.filename:
            where = f" (line {error.lineno} of {error.filename})"
        raise UsageError(f"{spec}: {type(error).__name__}: {error}{where}") from error


@contextlib.contextmanager
def _no_bytecode() -> Iterator[None]:
    """Imports write no bytecode: a model at rest holds the user's files and nothing else."""
    before = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


class _FreshLoader(importlib.machinery.SourceFileLoader):
    """Compiles what stands in the file now: bytecode that lies beside it may be of a file changed within a second."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def _is_users(filename: str) -> bool:
    path = Path(filename)
    ours = Path(__file__).resolve().parent
    return path.exists() and ours not in path.resolve().parents and not is_installed(path)


def is_installed(path: Path) -> bool:
    """Whether a file belongs to an installed distribution or to Python itself."""
    return bool(_INSTALLED & set(path.parts)) or Path(ast.__file__).parent in path.resolve().parents


def _searchable(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
        importlib.invalidate_caches()


def _load_file(path: Path) -> ModuleType:
    """A file as a module whose name tells stem and content: the same on every machine, new when the file changes.

    A file inside a package is imported as the package's module, so that its relative imports work.
    """
    if (path.parent / "__init__.py").is_file():
        return _load_from_package(path)
    name = f"user_{path.stem}_{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}"
    loaded = sys.modules.get(name)
    if loaded is not None and loaded.__file__ == str(path):
        return loaded
    _searchable(path.parent)
    found = importlib.util.spec_from_file_location(name, path, loader=_FreshLoader(name, str(path)))
    if found is None or found.loader is None:
        raise UsageError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    try:
        found.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _load_from_package(path: Path) -> ModuleType:
    top = _above_packages(path)
    _searchable(top)
    name = ".".join(path.relative_to(top).with_suffix("").parts).removesuffix(".__init__")
    module = importlib.import_module(name)
    loaded = Path(str(module.__file__))
    if loaded != path and loaded.read_bytes() != path.read_bytes():
        raise UsageError(f"{path} is the module {name}, but that name means {loaded} here; rename the package")
    return module


def _above_packages(path: Path) -> Path:
    """The folder that holds the outermost package around a file; the file's own folder if it is in none."""
    folder = path.parent
    while (folder / "__init__.py").is_file():
        folder = folder.parent
    return folder


def _module_file(module: str, base: Path | None) -> Path | None:
    """The file of a dotted module, without importing its parents (which `importlib.util.find_spec` would do)."""
    folders = [str(folder) for folder in candidates(".", base)]
    search: list[str] | None = [*sys.path, *folders]
    found = None
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        name = ".".join(parts[:end])
        if end == 1 and name in sys.builtin_module_names:
            found = importlib.machinery.BuiltinImporter.find_spec(name)
        else:
            found = importlib.machinery.PathFinder.find_spec(name, search)
        if found is None:
            return None
        search = list(found.submodule_search_locations or [])
    origin = None if found is None else found.origin
    return Path(origin) if origin is not None and origin != "built-in" else Path(module)


def with_imports(file: Path) -> dict[str, Path]:
    """`file` and the files that it imports, directly or not, by their place relative to the top of its package."""
    package = _above_packages(file)
    installed = is_installed(file)
    own = file.relative_to(package).parts[0]
    found: dict[str, Path] = {}
    waiting = [file]
    while waiting and len(found) < _MOST_FILES:
        path = waiting.pop()
        name = path.relative_to(package).as_posix()
        if name in found:
            continue
        found[name] = path
        for inner in _imported(path, package):
            if not installed or inner.relative_to(package).parts[0] == own:
                waiting.append(inner)
    return found


def _imported(file: Path, package: Path) -> Iterator[Path]:
    try:
        tree = ast.parse(file.read_bytes())
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            folder = package
        elif isinstance(node, ast.ImportFrom):
            stem = f"{node.module}." if node.module else ""
            names = [node.module] if node.module else []
            names += [stem + alias.name for alias in node.names]
            folder = file.parents[node.level - 1] if 0 < node.level <= len(file.parents) else package
        else:
            continue
        for name in names:
            yield from _files_of(name.split("."), folder, package)


def _files_of(parts: list[str], folder: Path, package: Path) -> Iterator[Path]:
    """The files that importing `parts` from `folder` runs: each package's `__init__.py` on the way, then the module."""
    if package != folder and package not in folder.parents:
        return
    for part in parts:
        if (folder / part / "__init__.py").is_file():
            yield folder / part / "__init__.py"
        elif (folder / f"{part}.py").is_file():
            yield folder / f"{part}.py"
        folder = folder / part
