from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from compress.errors import UsageError
from compress.models.settings import ModelSettings, read_model_settings


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "exactly one of zoo"),
        ({"zoo": "vgg8", "timm": "resnet18"}, "found zoo and timm"),
        ({"zoo": "resnt20"}, "did you mean 'resnet20'"),
        ({"zoo": "vgg8", "shortcut": "A"}, "vgg8 has no such choice"),
        ({"zoo": "vgg8", "arguments": {"classes": 3}}, "width and shortcut only"),
        ({"zoo": "vgg8", "width": 0}, "greater than 0"),
        ({"zoo": "vgg8", "head": "new"}, "head: belongs to published weights"),
        ({"python": "nothing"}, "neither module:function nor path/file.py:function"),
        ({"python": "no_such_file.py:make"}, "no_such_file.py"),
        ({"python": "no_such_module_anywhere:make"}, "no module named"),
        ({"timm": "resnet18", "width": 2}, "width: belongs to zoo networks"),
        ({"zoo": "vgg8", "weights": "no.safetensors"}, "no such file or folder"),
        ({"zoo": "vgg8", "weights": "."}, "is a folder"),
        ({"zoo": "vgg8", "weights": "$COMPRESS_NO_SUCH_VARIABLE/w.pt"}, "COMPRESS_NO_SUCH_VARIABLE, which is not set"),
        ({"transformers": "./no_such_folder"}, "no such file or folder"),
        ({"zoo": "vgg8", "deep": 3}, "Extra inputs"),
    ],
)
def test_faults_are_named(given: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=says.replace("$", r"\$")):
        read_model_settings(given, tmp_path)


def test_paths_are_found_beside_the_file_that_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights.pt").write_bytes(b"1")
    (tmp_path / "net.py").write_text("def make(): ...\n")
    (tmp_path / "vit").mkdir()
    monkeypatch.setenv("WEIGHTS_FOLDER", str(tmp_path))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    for written in ("weights.pt", "$WEIGHTS_FOLDER/weights.pt"):
        settings = read_model_settings({"python": "net.py:make", "weights": written}, tmp_path)
        assert settings.weights == str(tmp_path / "weights.pt")
        assert settings.python == f"{tmp_path / 'net.py'}:make"
    assert read_model_settings({"transformers": "vit"}, tmp_path).transformers == str(tmp_path / "vit")
    assert read_model_settings({"transformers": "google/vit"}, tmp_path).transformers == "google/vit"


def test_the_fingerprint_follows_content_and_not_place(tmp_path: Path) -> None:
    prints = []
    for place, weights, code in [
        ("a", b"1", "x = 1"),
        ("b", b"1", "x = 1"),
        ("c", b"2", "x = 1"),
        ("d", b"1", "x = 2"),
    ]:
        folder = tmp_path / place
        folder.mkdir()
        (folder / "w.pt").write_bytes(weights)
        (folder / "helper.py").write_text(f"{code}\n")
        (folder / "net.py").write_text("import helper\ndef make(): ...\n")
        settings = read_model_settings({"python": "net.py:make", "weights": "w.pt"}, folder)
        prints.append(settings.fingerprint())
    same, moved, other_weights, other_code = prints
    assert same == moved
    assert len({same, other_weights, other_code}) == 3


def test_the_fingerprint_covers_a_local_transformers_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    before = read_model_settings({"transformers": str(tmp_path)}, tmp_path).fingerprint()
    (tmp_path / "model.safetensors").write_bytes(b"1")
    assert read_model_settings({"transformers": str(tmp_path)}, tmp_path).fingerprint() != before


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"zoo": "vgg8"}, False),
        ({"transformers": "google/vit"}, True),
        ({"transformers": {"model_type": "vit"}}, False),
        ({"timm": "resnet18"}, False),
        ({"timm": "resnet18", "arguments": {"pretrained": True}}, True),
        ({"torchvision": "resnet18", "arguments": {"weights": "DEFAULT"}}, True),
    ],
)
def test_networks_with_weights_are_known(given: dict[str, Any], expected: bool) -> None:
    assert ModelSettings.model_validate(given).has_weights is expected


def test_settings_and_stage_import_nothing_heavy() -> None:
    heavy = ["torch", "onnx", "onnxruntime", "sklearn", "datasets", "transformers", "pyarrow", "PIL", "numpy"]
    code = (
        "import sys, compress.models.stage, compress.models.settings as s;"
        "s.ModelSettings(zoo='resnet8').fingerprint();"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
