from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn
from torch.onnx._internal.exporter import _registration

from compress.bundle import Deployment, TensorSpec
from compress.exporting import translations
from compress.exporting.torch_onnx import example_inputs, to_proto
from compress.exporting.translations import kept_translations

DEPLOYMENT = Deployment(
    {"name": "classification", "arguments": {}},
    (TensorSpec("x", "float32", ("batch", 3, 12, 12)),),
    (TensorSpec("logits", "float32", ("batch", 5)),),
)


def network(width: int) -> nn.Module:
    torch.manual_seed(width)
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5))


def exported(width: int) -> bytes:
    return bytes(to_proto(network(width), DEPLOYMENT, example_inputs(DEPLOYMENT)).SerializeToString(deterministic=True))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Grows each time that PyTorch asks for its own translations."""
    asked: list[None] = []
    own: Any = vars(_registration)["_torchlib_registry"]
    plain = own.get_torchlib_ops

    def counted() -> Any:
        asked.append(None)
        return plain()

    monkeypatch.setattr(own, "get_torchlib_ops", counted)
    return asked


def test_the_table_is_made_once_and_the_files_are_the_same(asked: list[None], monkeypatch: pytest.MonkeyPatch) -> None:
    translations._maker.cache_clear()
    files = [exported(width) for width in (4, 8, 4)]
    assert len(asked) == 1
    monkeypatch.setattr(translations, "_maker", lambda: None)  # as of a version of PyTorch that has it elsewhere
    assert [exported(width) for width in (4, 8, 4)] == files
    assert len(asked) == 4


def test_what_an_export_adds_to_its_table_is_not_in_the_next_ones() -> None:
    with kept_translations():
        first = _registration.ONNXRegistry.from_torchlib()
        target = next(iter(first.functions))
        first.functions[target].append(first.functions[target][0])
        first.functions["mine"] = []
        second = _registration.ONNXRegistry.from_torchlib()
    assert second.opset_version == first.opset_version
    assert "mine" not in second.functions and len(second.functions[target]) == len(first.functions[target]) - 1
    plain = _registration.ONNXRegistry.from_torchlib()
    assert {t: len(f) for t, f in plain.functions.items()} == {t: len(f) for t, f in second.functions.items()}


def test_nothing_is_imported_for_it_before_there_is_an_export() -> None:
    code = "import sys, compress.exporting.torch_onnx; sys.exit('onnxscript' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
