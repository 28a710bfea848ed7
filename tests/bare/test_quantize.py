"""`compress quantize` as a user calls it, and `compress.quantize_file`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import compress
from compress.cli import main
from compress.errors import UsageError
from compress.exporting.graph import Graph
from compress.quantization.outputs import relative_error
from tests.processor import WEIGHT_BITS
from tests.quantization.graphs import floats, graph, node, run, two_convolutions

QUICK = "name: quick\nrounds: 2\nseconds: 0.01\nwarmup_seconds: 0\nthroughput_seconds: 0.01\nthroughput_batch: 4\n"
X = floats(64, 3, 8, 8, seed=9)


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main(["quantize", *map(str, arguments)])
    assert isinstance(end.value.code, int)
    return end.value.code


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a classifier and its labelled samples, a network of images, and a target."""
    folder = tmp_path_factory.mktemp("bare")
    classifier = two_convolutions()
    values = Graph(classifier.graph)
    values.arrays["w3"] = values.arrays["w3"] + floats(5, 6, seed=13, scale=0.5)
    values.write()
    onnx.save(classifier, folder / "classifier.onnx")
    np.savez(folder / "labelled.npz", x=X, labels=run(classifier, x=X)[0].argmax(1))
    nodes = [
        node("Conv", "x w b", "c", pads=[1, 1, 1, 1]),
        node("Relu", "c", "r"),
        node("Conv", "r v", "y", pads=[1, 1, 1, 1]),
    ]
    arrays = {"w": floats(8, 3, 3, 3, scale=0.3), "b": floats(8), "v": floats(2, 8, 3, 3, seed=1)}
    onnx.save(graph(nodes, arrays, {"x": [4, 3, 8, 8]}, {"y": None}), folder / "images.onnx")
    np.savez(folder / "samples.npz", x=X[:22])
    (folder / "quick.yaml").write_text(QUICK)
    return folder


def test_a_classifier_with_labels(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = place / "out"
    status = call(
        place / "classifier.onnx", "--samples", place / "labelled.npz", "--out", out, "--emit", "ort-x86",
        "--target", place / "quick.yaml", "--budget", "0.1", "--json",
    )  # fmt: skip
    printed = json.loads(capsys.readouterr().out)
    assert status == 0
    assert {path.name for path in out.iterdir()} >= {
        "given.onnx", "fp32.onnx", "ort-x86.onnx", "report.json", "report.html", "report.md",
    }  # fmt: skip
    assert json.loads((out / "report.json").read_text()) == printed
    assert (out / "given.onnx").read_bytes() == (place / "classifier.onnx").read_bytes()
    rows = {row["name"]: row for row in printed["models"]}
    assert printed["met"] and printed["deploy"] in rows
    assert printed["primary_metric"]["name"] == "accuracy"
    assert rows["given"]["metrics"]["accuracy"] == 1.0
    judged = np.random.default_rng(0).permutation(64)[32:]
    labels = np.load(place / "labelled.npz")["labels"][judged]
    answers = run(onnx.load(out / "ort-x86.onnx"), x=X[judged])[0].argmax(1)
    assert rows["ort-x86"]["metrics"]["accuracy"] == pytest.approx(np.mean(answers == labels), abs=0.04)
    assert rows["ort-x86"]["latency"][0]["target"] == "quick"
    assert rows["ort-x86"]["int8_share"] == 1.0
    assert (out / "ort-x86.onnx").stat().st_size == rows["ort-x86"]["size_bytes"]
    assert not [path for path in place.iterdir() if path.name.startswith(".")]  # nothing is left of the scratch folder


def test_a_missed_budget_leaves_everything_written(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = place / "missed"
    status = call(
        place / "images.onnx", "--samples", place / "samples.npz", "--out", out, "--emit", "tensorrt",
        "--target", place / "quick.yaml", "--budget", "0", "--rung", "static",
    )  # fmt: skip
    said = capsys.readouterr()
    assert status == 4, said.err
    assert said.err.splitlines()[-1].startswith("no int8 file is within the budget: ")
    content = json.loads((out / "report.json").read_text())
    assert not content["met"]
    (row,) = [row for row in content["models"] if row["name"] == "tensorrt"]
    found = onnx.load(out / "tensorrt.onnx")
    zero_points = [
        Graph(found.graph).arrays[item.input[2]] for item in found.graph.node if item.op_type == "QuantizeLinear"
    ]
    assert zero_points
    assert all(array.dtype == np.int8 and not array.any() for array in zero_points)
    judged = X[np.random.default_rng(0).permutation(22)[11:]]
    exact, near = (
        np.concatenate([run(onnx.load(out / name), x=np.resize(judged[i : i + 4], (4, 3, 8, 8)))[0] for i in (0, 4, 8)])
        for name in ("given.onnx", "tensorrt.onnx")
    )
    assert row["metrics"]["relative_error"] == pytest.approx(relative_error(near[:11], exact[:11]), rel=0.05)


def test_files_without_calibration_need_no_ladder(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = {"w1": floats(64, 96, scale=0.1), "b1": floats(96, seed=1), "w2": floats(96, 64, seed=2, scale=0.1)}
    nodes = [
        node("MatMul", "x w1", "a"), node("Add", "a b1", "h"), node("Relu", "h", "r"), node("MatMul", "r w2", "y"),
    ]  # fmt: skip
    onnx.save(graph(nodes, arrays, {"x": ["batch", 64]}, {"y": None}), place / "linear.onnx")
    x = floats(64, 64, seed=5)
    np.savez(place / "rows.npz", x=x)
    out = place / "uncalibrated"
    status = call(
        place / "linear.onnx", "--samples", place / "rows.npz", "--out", out, "--emit", "ort-weights4", "--emit",
        "ort-weights8", "--target", place / "quick.yaml", "--budget", "0.1", "--json",
    )  # fmt: skip
    assert status == 0
    content = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row for row in content["models"]}
    unasked = ["ort-dynamic"] if WEIGHT_BITS == 8 else []
    assert list(rows) == ["given", "fp32", "ort-weights4", "ort-weights8", *unasked]
    assert [row["precision"] for row in rows.values()] == ["fp32", "fp32", "int4", "int8", *["int8" for _ in unasked]]
    assert not any("quantization" in row for row in rows.values())
    assert content["budget"][0]["value"] == min(1 - rows[name]["metrics"]["agreement"] for name in list(rows)[2:])
    judged = x[np.random.default_rng(0).permutation(64)[32:]]
    exact, near = (run(onnx.load(out / f"{name}.onnx"), x=judged)[0].argmax(1) for name in ("fp32", "ort-weights4"))
    assert rows["ort-weights4"]["metrics"]["agreement"] == pytest.approx(np.mean(exact == near), abs=0.04)
    assert all(rows[name]["parity"]["within_step"] >= 0.99 for name in list(rows)[2:])


def test_where_convolutions_do_the_work_such_files_are_refused(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for emission in ("ort-dynamic", "ort-weights4"):
        arguments = ("--out", tmp_path / "out", "--emit", emission, "--target", place / "quick.yaml")
        assert call(place / "classifier.onnx", "--samples", place / "labelled.npz", *arguments) == 2
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith(f"error: --emit {emission}: rounds the") and "leave it out" in last
    assert not (tmp_path / "out").exists()


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "no such model": ({"model": "none.onnx"}, "no such file"),
    "no model": ({"model": "quick.yaml"}, "not an ONNX file"),
    "no samples": ({"samples": "none.npz"}, "no such file or folder"),
    "samples of another shape": ({"samples": "other.npz"}, "has shape [4, 3, 9, 9]"),
    "an unknown file": ({"emit": "ort-x68"}, "did you mean 'ort-x86'"),
    "a float file": ({"emit": "fp32"}, "unknown int8 emission 'fp32'"),
    "an unknown rung": ({"rung": "statik"}, "static"),
    "no first rung": ({"rung": "adaround"}, "begins with static"),
    "an unknown grid": ({"grid": "symmetrical"}, "symmetric"),
    "an unknown calibration": ({"calibration": "max"}, "minmax"),
    "a negative budget": ({"budget": "-1"}, "--budget"),
    "an unknown target": ({"target": "nowhere"}, "nowhere"),
    "a glob for nothing": ({"ignore": "head*"}, "matches no operator"),
    "a wrong size": ({"size": "8"}, "--size 8: write height and width"),
    "a wrong shape": ({"shape": "sequence"}, "sequence"),
    "a place with other things": ({"out": "foreign"}, "holds other things"),
    "a place that is a file": ({"out": "quick.yaml"}, "holds other things"),
    "nothing to quantize": ({"model": "relu.onnx"}, "no convolution"),
    "all of it ignored": ({"ignore": "*"}, "every layer of the graph is to stay in float"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_what_is_wrong_is_one_line_and_nothing_is_written(
    fault: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(place / "other.npz", x=floats(4, 3, 9, 9))
    onnx.save(graph([node("Relu", "x", "y")], {}, {"x": ["batch", 3, 8, 8]}, {"y": None}), place / "relu.onnx")
    (place / "foreign").mkdir(exist_ok=True)
    (place / "foreign" / "thesis.tex").write_text("years of work")
    changes, said = BROKEN[fault]
    given = {"model": "classifier.onnx", "samples": "labelled.npz", "target": "quick.yaml"} | changes
    paths = {key: place / given.pop(key) for key in ("model", "samples")}
    if given["target"] == "quick.yaml":
        given["target"] = str(place / "quick.yaml")
    out = place / given.pop("out") if "out" in given else tmp_path / "out"
    options = [item for key, value in given.items() for item in (f"--{key}", value)]
    before = sorted(path for path in place.rglob("*"))
    assert call(paths["model"], "--samples", paths["samples"], "--out", out, *options) == 2
    printed = capsys.readouterr()
    *progress, last = printed.err.splitlines()
    assert said in last
    assert last.startswith("error: ")
    assert progress in ([], [f"reading {paths['model'].name}"])
    assert not (tmp_path / "out").exists()
    assert sorted(path for path in place.rglob("*")) == before
    assert (place / "foreign" / "thesis.tex").read_text() == "years of work"


def test_a_model_that_fails_on_its_samples_is_one_line(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    proto = two_convolutions()
    proto.graph.input[0].type.tensor_type.shape.dim[1].ClearField("dim_value")
    onnx.save(proto, tmp_path / "model.onnx")
    np.savez(tmp_path / "s.npz", x=floats(8, 2, 8, 8))
    status = call(tmp_path / "model.onnx", "--samples", tmp_path / "s.npz", "--out", tmp_path / "out", "--target",
                  place / "quick.yaml")  # fmt: skip
    assert status in (2, 3)
    printed = capsys.readouterr().err.rstrip().splitlines()
    assert "fails on the samples" in printed[-1]
    assert not (tmp_path / "out").exists()


def test_as_a_function_settings_are_checked(place: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unexpected keyword argument 'budgets'"):
        compress.quantize_file(place / "classifier.onnx", {"x": X}, tmp_path / "out", budgets=0.1)
    with pytest.raises(UsageError, match="nothing for the input 'x'"):
        compress.quantize_file(place / "classifier.onnx", {"a": X, "b": X}, tmp_path / "out")
    assert not (tmp_path / "out").exists()
