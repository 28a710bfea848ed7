from __future__ import annotations

import os
import py_compile
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from compress.errors import UsageError
from compress.user_code import absolute_spec, call, load_function, source_digest, source_file


@pytest.fixture(autouse=True)
def clean_imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test imports is forgotten after it."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_a_function_of_a_file(tmp_path: Path) -> None:
    write(tmp_path, {"nets/mine.py": "from helper_one import VALUE\ndef f(x):\n    return x + VALUE\n"})
    write(tmp_path, {"nets/helper_one.py": "VALUE = 40\n"})
    function = load_function("nets/mine.py:f", tmp_path)
    assert function(2) == 42
    assert load_function(str(tmp_path / "nets" / "mine.py") + ":f") is function
    assert source_file("nets/mine.py:f", tmp_path) == tmp_path / "nets" / "mine.py"


def test_a_function_of_a_module_beside_the_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"beside/package_one/__init__.py": "", "beside/package_one/net.py": "def f():\n    return 1\n"})
    write(tmp_path, {"working/module_two.py": "def f():\n    return 2\n"})
    monkeypatch.chdir(tmp_path / "working")
    assert load_function("package_one.net:f", tmp_path / "beside")() == 1
    assert load_function("module_two:f", tmp_path / "beside")() == 2
    assert source_file("package_one.net:f", tmp_path / "beside") == tmp_path / "beside" / "package_one" / "net.py"


def test_a_files_module_name_tells_its_content_not_its_place(tmp_path: Path) -> None:
    text = "class Net: ...\ndef f():\n    return Net\n"
    write(tmp_path, {"one/mine.py": text, "two/mine.py": text})
    names = {load_function(f"{place}/mine.py:f", tmp_path)().__module__ for place in ("one", "two")}
    assert len(names) == 1
    write(tmp_path, {"one/mine.py": text + "#"})
    assert load_function("one/mine.py:f", tmp_path)().__module__ not in names


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mine.py", "neither module:function nor path/file.py:function"),
        ("mine.py:f()", "neither module:function"),
        ("my net.txt:f", "neither module:function"),
        ("gone.py:f", "no such file or folder"),
        ("nowhere_at_all.inner:f", "no module named 'nowhere_at_all.inner'"),
        ("mine.py:g", r"'g' does not exist in .*mine\.py; it has f"),
        ("mine.py:VALUE", r"'VALUE' is no function in .*mine\.py; it has f"),
        ("bad.py:f", r"bad\.py:f: ZeroDivisionError: division by zero \(line 3 of .*bad\.py: VALUE = 1 / 0\)"),
        ("syntax.py:f", r"SyntaxError.*line 2 of .*syntax\.py"),
        ("missing.py:f", r"ModuleNotFoundError: No module named 'nowhere_at_all' \(line 1 of .*missing\.py"),
        ("leaving.py:f", r"SystemExit: 3 \(line 2 of .*leaving\.py"),
    ],
)
def test_what_is_wrong_is_said_with_the_users_own_line(spec: str, message: str, tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "mine.py": "VALUE = 3\ndef f(): ...\n",
            "bad.py": "def f(): ...\n\nVALUE = 1 / 0\n",
            "syntax.py": "def f(): ...\ndef g(:\n",
            "missing.py": "import nowhere_at_all\n",
            "leaving.py": "import sys\nsys.exit(3)\n",
        },
    )
    with pytest.raises(UsageError, match=message):
        load_function(spec, tmp_path)
    assert not [name for name in sys.modules if name.startswith(("user_bad", "user_missing", "user_leaving"))]


def test_a_failing_call_names_the_line(tmp_path: Path) -> None:
    write(tmp_path, {"mine.py": "def f(x):\n    return [1][x]\n"})
    function = load_function("mine.py:f", tmp_path)
    assert call("mine.py:f", function, 0) == 1
    with pytest.raises(UsageError, match=r"IndexError: .* \(line 2 of .*mine\.py: return \[1\]\[x\]\)"):
        call("mine.py:f", function, 5)
    with pytest.raises(KeyboardInterrupt):
        call("mine.py:f", lambda: (_ for _ in ()).throw(KeyboardInterrupt()).__next__())


def test_digest_covers_the_users_files_that_are_imported(tmp_path: Path) -> None:
    files = {
        "package_two/__init__.py": "",
        "package_two/net.py": "from .parts import layers\nimport shared_one\ndef f(): ...\n",
        "package_two/parts/__init__.py": "",
        "package_two/parts/layers.py": "from package_two import other\n",
        "package_two/other.py": "import json\n",
        "package_two/unused.py": "",
        "shared_one.py": "",
    }

    def digest(**changes: str) -> str:
        write(tmp_path, files)
        write(tmp_path, {name.replace("__", "/", 1) + ".py": text for name, text in changes.items()})
        return source_digest("package_two.net:f", tmp_path)

    same = digest()
    assert digest(package_two__unused="1") == same
    changed = [digest(**{name: "# changed"}) for name in ("package_two__net", "package_two__other", "shared_one")]
    changed.append(digest(**{"package_two__parts/layers": "# changed"}))
    assert len({same, *changed}) == 5
    assert digest() == same


def test_digest_does_not_tell_the_place_and_imports_nothing(tmp_path: Path) -> None:
    for place in ("one", "two"):
        write(tmp_path / place, {"mine.py": "raise SystemExit\n"})
    assert source_digest("one/mine.py:f", tmp_path) == source_digest("two/mine.py:f", tmp_path)
    before = set(sys.modules)
    assert source_digest("sklearn.datasets:load_digits")
    assert not [name for name in set(sys.modules) - before if name.startswith("sklearn")]


def test_digest_of_built_in_code_is_that_of_nothing() -> None:
    assert source_file("math:sqrt") is None
    assert source_digest("math:sqrt") == source_digest("time:sleep")


def test_absolute_spec(tmp_path: Path) -> None:
    write(tmp_path, {"mine.py": ""})
    assert absolute_spec("mine.py:f", tmp_path) == f"{tmp_path / 'mine.py'}:f"
    assert absolute_spec("json:loads", tmp_path) == "json:loads"


def test_a_module_beside_the_pipeline_is_found_again_without_it(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "package_three/__init__.py": "",
            "package_three/net.py": "from .parts import VALUE\ndef f():\n    return VALUE\n",
        },
    )
    write(tmp_path, {"package_three/parts.py": "VALUE = 5\n"})
    spec = absolute_spec("package_three.net:f", tmp_path)
    assert spec == f"{tmp_path / 'package_three' / 'net.py'}:f"
    assert source_digest(spec) == source_digest("package_three.net:f", tmp_path)
    assert load_function(spec)() == 5


def test_two_packages_of_one_name_are_not_mistaken(tmp_path: Path) -> None:
    for place, value in (("one", 1), ("same", 1), ("two", 2)):
        files = {"package_four/__init__.py": "", "package_four/net.py": f"def f():\n    return {value}\n"}
        write(tmp_path / place, files)
    assert load_function("one/package_four/net.py:f", tmp_path)() == 1
    assert load_function("same/package_four/net.py:f", tmp_path)() == 1
    with pytest.raises(
        UsageError, match=r"two/package_four/net\.py is the module package_four\.net, but that name means"
    ):
        load_function("two/package_four/net.py:f", tmp_path)


def test_no_bytecode_is_left_beside_a_users_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys, "pycache_prefix", None)
    write(tmp_path, {"package_three/__init__.py": "", "package_three/net.py": "def f():\n    return 3\n"})
    write(tmp_path, {"mine.py": "def f():\n    import helper_three\n    return helper_three.VALUE\n"})
    write(tmp_path, {"helper_three.py": "VALUE = 3\n"})
    assert load_function("package_three.net:f", tmp_path)() == 3
    assert call("mine.py:f", load_function("mine.py:f", tmp_path)) == 3
    assert not list(tmp_path.rglob("__pycache__")) and not sys.dont_write_bytecode


def test_a_file_that_changed_within_a_second_is_not_read_from_its_bytecode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "pycache_prefix", None)
    file = tmp_path / "mine.py"
    write(tmp_path, {"mine.py": "def f():\n    return 4\n"})
    py_compile.compile(str(file))
    told = file.stat()
    write(tmp_path, {"mine.py": "def f():\n    return 5\n"})
    os.utime(file, ns=(told.st_atime_ns, told.st_mtime_ns))
    assert load_function("mine.py:f", tmp_path)() == 5
