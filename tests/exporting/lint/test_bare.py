from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from compress.cli import main
from compress.errors import UsageError
from compress.exporting.emissions import ort_x86, tensorrt
from compress.exporting.lint.bare import lint_bare_file
from compress.exporting.torch_onnx import save
from tests.exporting.canonical_graphs import canonical_graph


def mobile() -> onnx.ModelProto:
    return canonical_graph("mobile", symmetric=True, weight_bits=7)[0]


def status(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main(["lint", *map(str, arguments)])
    assert isinstance(end.value.code, int)
    return end.value.code


def test_a_clean_file_has_status_0_and_one_of_another_kind_5(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.onnx"
    save(tensorrt.emit(mobile()), path)
    assert status(path, "--for", "tensorrt") == 0
    assert capsys.readouterr().out == "model.onnx for tensorrt: nothing wrong\n"
    assert status(path, "--for", "ort-x86") == 5
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0] == (
        "error   activation-type: x_quantize: activations are int8 and not uint8; emit `ort-x86`: uint8 activations"
    )
    errors = sum(line.startswith("error ") for line in lines)
    assert lines[-1].startswith(f"model.onnx for ort-x86: {errors} errors, ")
    assert said.err == f"error: model.onnx is not fit for ort-x86: {errors} errors\n"


def test_warnings_alone_have_status_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.onnx"
    proto = ort_x86.emit(mobile())
    proto.graph.node[0].doc_string = "/home/somebody/network.py"
    save(proto, path)
    assert status(path, "--for", "ort-x86") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "model.onnx for ort-x86: 0 errors, 1 warning"


def test_json_holds_every_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.onnx"
    save(ort_x86.emit(mobile()), path)
    assert status(path, "--for", "tensorrt", "--json") == 5
    found = json.loads(capsys.readouterr().out)
    assert (found["model"], found["for"]) == ("model.onnx", "tensorrt")
    assert found["errors"] + found["warnings"] == len(found["findings"])
    severities = [item["severity"] for item in found["findings"]]
    assert severities == sorted(severities)  # errors first
    assert set(found["findings"][0]) == {"rule", "severity", "node", "message", "advice"}


def small() -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in "xy"]
    weights = onnx.numpy_helper.from_array(np.ones((2, 3), np.float32), "w")
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", values[:1], values[1:], [weights])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def truncated(path: Path) -> None:
    content = small().SerializeToString()
    path.write_bytes(content[: len(content) // 2])


def without_weights(path: Path) -> None:
    onnx.save(small(), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    (path.parent / "w.bin").unlink()


def wrong_shape(path: Path) -> None:
    model = small()
    model.graph.value_info.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, [7]))
    model.graph.node[0].output[0] = "a"
    model.graph.node.append(helper.make_node("Identity", ["a"], ["y"]))
    path.write_bytes(model.SerializeToString())


def wrong_type(path: Path) -> None:
    model = small()
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT32
    path.write_bytes(model.SerializeToString())


def unsorted(path: Path) -> None:
    model = small()
    model.graph.node[0].input[0] = "nothing"
    path.write_bytes(model.SerializeToString())


def from_the_future(path: Path) -> None:
    model = small()
    model.ir_version = 99
    path.write_bytes(model.SerializeToString())


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "absent": (lambda path: None, "cannot be read: No such file"),
    "a folder": (lambda path: path.mkdir(), "cannot be read: Is a directory"),
    "empty": (lambda path: path.write_bytes(b""), "there is no graph in it"),
    "text": (lambda path: path.write_text("name: digits\nseed: 0\n"), "is not an ONNX file"),
    "noise": (lambda path: path.write_bytes(bytes(range(255, 0, -1)) * 9), "it cannot be decoded"),
    "cut off": (truncated, "is cut off: it cannot be decoded"),
    "mobile": (lambda path: path.write_bytes(b"\0\0\0\0ORTM" + b"\0" * 64), "mobile format"),
    "weights elsewhere": (without_weights, "w.bin"),
    "wrong shape": (wrong_shape, "contradict each other"),
    "wrong type": (wrong_type, "contradict each other"),
    "no writer": (unsorted, "no valid ONNX file: Nodes in a graph must be topologically sorted"),
    "newer": (from_the_future, "no valid ONNX file: Your model ir_version 99 is higher"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_file_that_cannot_be_read_is_one_clear_message(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.onnx"
    make, message = BROKEN[what]
    make(path)
    assert status(path, "--for", "tensorrt") == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"error: {path}: ")
    assert message in said.err
    assert said.err.count("\n") == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"")
    path.chmod(0)
    with pytest.raises(UsageError, match="Permission denied"):
        lint_bare_file(path, "fp32")


def test_weights_beside_the_file_are_looked_at(tmp_path: Path) -> None:
    model = small()
    model.graph.node[0].op_type = "MatMul"
    del model.graph.input[0].type.tensor_type.shape.dim[1]
    model.graph.input[0].type.tensor_type.shape.dim.add().dim_value = 2
    weights = np.ones((2, 3), np.float32)
    weights[1, 1] = np.nan
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weights, "w"))
    onnx.save(model, tmp_path / "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    assert (tmp_path / "w.bin").is_file()
    (found,) = lint_bare_file(tmp_path / "model.onnx", "fp32")["findings"]
    assert found["rule"] == "finite-weights"


def test_an_unknown_profile_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown profile 'tensort'.*did you mean 'tensorrt'"):
        lint_bare_file(tmp_path / "model.onnx", "tensort")
