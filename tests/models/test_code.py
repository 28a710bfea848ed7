from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compress.models.code import write_code
from compress.models.factory import Factory, build


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.py"))


def test_a_file_and_what_it_imports_are_copied(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "net.py").write_text("import torch\nimport parts\ndef make(): return parts.make()\n")
    (source / "parts.py").write_text("from torch import nn\ndef make(): return nn.ReLU()\n")
    (source / "unrelated.py").write_text("")
    written = write_code(Factory("python", f"{source / 'net.py'}:make", {"a": 1}), tmp_path / "out")
    assert _files(tmp_path / "out") == ["code/net.py", "code/parts.py"]
    assert written == Factory("python", "net.py:make", {"a": 1}, Path("code"))


def test_a_module_of_a_package_keeps_its_place(tmp_path: Path) -> None:
    package = tmp_path / "source" / "a_package_of_nets"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "net.py").write_text("from a_package_of_nets.parts import make\n")
    (package / "parts.py").write_text("from torch import nn\ndef make(): return nn.ReLU()\n")
    factory = Factory("python", "a_package_of_nets.net:make", {}, tmp_path / "source")
    assert isinstance(build(factory), torch.nn.ReLU)
    written = write_code(factory, tmp_path / "out")
    names = ["__init__.py", "net.py", "parts.py"]
    assert _files(tmp_path / "out") == [f"code/a_package_of_nets/{name}" for name in names]
    assert written.name == "a_package_of_nets.net:make"
    assert isinstance(build(Factory("python", written.name, {}, tmp_path / "out" / "code")), torch.nn.ReLU)


@pytest.mark.parametrize(
    "factory", [Factory("zoo", "resnet8", {}), Factory("python", "torch.nn:Identity"), Factory("python", "json:loads")]
)
def test_installed_code_is_not_copied(factory: Factory, tmp_path: Path) -> None:
    assert write_code(factory, tmp_path) == factory
    assert not list(tmp_path.iterdir())
