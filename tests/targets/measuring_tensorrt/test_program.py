"""The program for TensorRT, run as it is sent, with a stand-in for TensorRT whose signatures are the real ones'."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, save

from compress.profiling.latency import latency_rows
from compress.targets.measuring.program import do
from compress.targets.programs import program_for
from compress.targets.settings import TargetSettings
from tests.stand_ins import tensorrt_place

BUILD: dict[str, Any] = {"batches": [1, 1, 4], "axes": {}, "workspace_bytes": None, "timing_cache": None}
LATENCY: dict[str, Any] = {
    "batches": [1, 3], "axes": {}, "warmup_seconds": 0.0, "seconds": 0.0, "minimum_calls": 5,
    "throughput_batches": [2, 4], "throughput_seconds": 0.0,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _stand_ins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tensorrt_place.use(monkeypatch, tmp_path / "cache")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Two operators on any number of rows of 6 values."""
    weights = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["values", "weights"], ["product"], "project"),
        helper.make_node("Relu", ["product"], ["answer"], "rectify"),
    ]
    graph = helper.make_graph(
        nodes,
        "rows",
        [helper.make_tensor_value_info("values", TensorProto.FLOAT, ["batch", 6])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor("weights", TensorProto.FLOAT, (6, 3), weights.tobytes(), raw=True)],
    )
    path = tmp_path / "model.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10), path)
    return path


def run(folder: Path, *jobs: dict[str, Any], **more: Any) -> tuple[dict[str, Any], str]:
    """The program's result, and what it said."""
    asked, given = folder / "request.json", folder / "result.json"
    asked.write_text(json.dumps({"target": "orin", "jobs": list(jobs), **more}))
    command = [sys.executable, "-P", str(program_for("tensorrt")), str(asked), str(given)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    result: dict[str, Any] = json.loads(given.read_text())
    return result, said.stdout


def built(model: Path, **more: Any) -> tuple[dict[str, Any], str]:
    """The result of a build into `engine.plan`, and what was said."""
    files = {"engine": str(model.parent / "engine.plan"), "facts": str(model.parent / "engine.json")}
    result, said = run(model.parent, {"model": str(model), "build": {**BUILD, **files, **more}})
    return result["jobs"][0], said


def used(model: Path, **job: Any) -> dict[str, Any]:
    """The result of a job with the engine."""
    result, _ = run(model.parent, {"model": str(model.parent / "engine.plan"), **job})
    done: dict[str, Any] = result["jobs"][0]
    return done


def refusal(result: dict[str, Any]) -> tuple[str, str]:
    return result["error"]["kind"], result["error"]["message"]


def test_an_engine_says_what_it_belongs_to(model: Path) -> None:
    done, _ = built(model)
    assert done["made"] == json.loads((model.parent / "engine.json").read_text())
    made = done["made"]
    assert (made["gpu"], made["compute_capability"], made["cuda"]) == ("Stand-in GPU", "8.7", "13.0")
    assert made["tensorrt"] == "11.4.0.106"
    assert made["inputs"] == {"values": ["batch", 6]}
    assert made["shapes"] == {"values": {"min": [1, 6], "opt": [1, 6], "max": [4, 6]}}


def test_answers_are_those_of_the_model(model: Path, tmp_path: Path) -> None:
    built(model)
    values = np.random.default_rng(1).standard_normal((10, 6)).astype(np.float32)
    np.save(tmp_path / "values.npy", values)
    request = {"inputs": {"values": str(tmp_path / "values.npy")}, "output": str(tmp_path / "out.npy"), "batch": 4}
    assert used(model, answers=request)["examples"] == 10
    expected = onnxruntime.InferenceSession(model).run(None, {"values": values})[0]
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, rtol=1e-6)


def test_a_profile_has_the_form_of_the_measuring_program(model: Path) -> None:
    built(model)
    ours = used(model, latency=LATENCY)
    theirs = do({"model": str(model), "latency": LATENCY}, "CPUExecutionProvider", 1)
    assert set(theirs) <= set(ours)
    assert [set(run) for run in theirs["runs"]] <= [set(run) for run in ours["runs"]]
    assert [entry["batch"] for entry in ours["throughput"]] == [2, 4]
    rows = latency_rows(TargetSettings(), [ours, ours])
    assert [(row.batch, row.shape, row.samples >= 10) for row in rows] == [
        (1, {"values": [1, 6]}, True),
        (3, {"values": [3, 6]}, True),
    ]
    assert rows[0].transfers_ms is not None
    assert set(rows[0].transfers_ms) == {"to_device", "to_host"}
    assert rows[0].gpu_memory_bytes is not None
    assert 6 * 4 + 3 * 4 <= rows[0].gpu_memory_bytes < 4096
    assert ours["notes"] == []
    assert ours["runs"][0]["transfers"].keys() == {"to_device_ms", "to_host_ms"}
    assert ours["activation_bytes"] == 4096


def test_without_a_graph_runs_are_timed_all_the_same(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built(model)
    monkeypatch.setenv("STAND_IN_NO_CAPTURE", "1")
    done = used(model, latency=LATENCY)
    assert done["notes"] == [
        "timed without a CUDA graph, which could not be captured: cuStreamEndCapture: operation failed due to a "
        "previous error during capture (CUDA error 901)"
    ]
    assert all(len(run["samples_ns"]) >= 5 for run in done["runs"])


def test_layers_and_their_times(model: Path) -> None:
    built(model)
    done = used(model, operators={"batch": 2, "axes": {}, "seconds": 0.0, "minimum_calls": 3})
    assert done["calls"] == 3
    assert [(item["name"], item["operator"]) for item in done["operators"]] == [
        ("project", "MatMul"),
        ("rectify", "Relu"),
    ]
    assert [item["microseconds"] for item in done["operators"]] == pytest.approx([1.0, 2.0])


def test_progress_is_told_step_by_step(model: Path) -> None:
    _, said = built(model)
    told = [json.loads(line.removeprefix("progress ")) for line in said.splitlines()]
    assert told[0] == {"phase": "Building engine", "step": 0, "steps": 2}
    assert told[-1] == {"phase": "Building engine", "step": 2, "steps": 2}


def test_the_timing_cache_is_read_and_written(model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cache = str(tmp_path / "kept" / "timing.cache")
    _, first = built(model, timing_cache={"read": None, "write": cache})
    done, second = built(model, timing_cache={"read": cache, "write": cache})
    assert '"steps": 2' in first
    assert '"steps": 2' not in second
    assert done["notes"] == []
    monkeypatch.setenv("STAND_IN_GPU", "Another GPU")
    done, third = built(model, timing_cache={"read": cache, "write": cache})
    assert '"steps": 2' in third
    assert done["notes"] == ["the timing cache is of another GPU or version and was begun anew"]
    assert json.loads(Path(cache).read_text())["place"] == ["Another GPU", "11.4.0.106"]


def test_every_error_of_the_parser_is_told_with_its_node(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_UNREADABLE", "MatMul,Relu")
    kind, message = refusal(built(model)[0])
    assert kind == "parse"
    assert message == (
        "TensorRT 11.4.0.106 cannot read it (2 errors): node 0 'project' (MatMul): In function "
        "importFallbackPluginImporter: [8] Assertion failed: no importer for MatMul; node 1 'rectify' (Relu): In "
        "function importFallbackPluginImporter: [8] Assertion failed: no importer for Relu"
    )
    assert not (model.parent / "engine.plan").exists()


def test_what_is_no_onnx_file(model: Path) -> None:
    model.write_bytes(b"nothing")
    assert refusal(built(model)[0]) == (
        "parse",
        "TensorRT 11.4.0.106 cannot read it (1 error): Failed to parse ONNX model from file",
    )


def test_too_little_workspace(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_WORKSPACE_MIB", "64")
    assert "error" not in built(model, workspace_bytes=64 * 2**20)[0]
    kind, message = refusal(built(model, workspace_bytes=16 * 2**20)[0])
    assert kind == "memory"
    assert message.startswith("TensorRT's workspace (16 MiB) does not suffice: Skipping tactic 0")
    assert "workspace_mib" in message


def test_too_little_memory_of_the_gpu(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built(model)
    monkeypatch.setenv("STAND_IN_MEMORY_MIB", "0")
    kind, message = refusal(used(model, latency=LATENCY))
    assert kind == "memory"
    assert "out of memory" in message


@pytest.mark.parametrize(
    ("variable", "value", "here"),  # GPU, CUDA, TensorRT
    [
        ("STAND_IN_GPU", "Other GPU", ("Other GPU (compute capability 8.7)", "13", "11.4.0.106")),
        ("STAND_IN_CAPABILITY", "90", ("Stand-in GPU (compute capability 9.0)", "13", "11.4.0.106")),
        ("STAND_IN_CUDA", "14010", ("Stand-in GPU (compute capability 8.7)", "14", "11.4.0.106")),
        ("STAND_IN_TENSORRT_VERSION", "11.5.0.1", ("Stand-in GPU (compute capability 8.7)", "13", "11.5.0.1")),
    ],
)
def test_an_engine_of_another_place_is_refused(
    model: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, here: tuple[str, str, str]
) -> None:
    built(model)
    monkeypatch.setenv(variable, value)
    kind, message = refusal(used(model, latency=LATENCY))
    assert kind == "engine"
    assert message == (
        "it was built for Stand-in GPU (compute capability 8.7) with CUDA 13 and TensorRT 11.4.0.106, and orin is "
        f"{here[0]} with CUDA {here[1]} and TensorRT {here[2]}: build it there, by running the "
        "pipeline with this target"
    )


def test_a_newer_cuda_of_the_same_major_version_will_do(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built(model)
    monkeypatch.setenv("STAND_IN_CUDA", "13020")
    assert "error" not in used(model, latency=LATENCY)


def test_a_damaged_engine(model: Path) -> None:
    built(model)
    (model.parent / "engine.plan").write_bytes(b"\0")
    kind, message = refusal(used(model, latency=LATENCY))
    assert (kind, message) == (
        "engine",
        "TensorRT cannot load it: Error Code 1: Serialization (magic number does not match); build it again",
    )


def test_a_shape_that_it_was_not_built_for(model: Path) -> None:
    built(model)
    kind, message = refusal(used(model, latency={**LATENCY, "batches": [5]}))
    assert kind == "run"
    assert "input 'values' of shape [5, 6] is outside of what the engine was built for, [1, 6] to [4, 6]" in message


@pytest.mark.parametrize(
    ("variables", "kind", "message"),
    [
        ({"PYTHONPATH": ""}, "library", "tensorrt is not installed on orin: pip install 'tensorrt==11.*' there"),
        (
            {"STAND_IN_BROKEN": "libnvinfer.so.11: cannot open shared object file"},
            "library",
            "tensorrt on orin cannot be loaded (libnvinfer.so.11: cannot open shared object file): pip install",
        ),
        (
            {"STAND_IN_TENSORRT_VERSION": "10.9.0.34"},
            "library",
            "orin has TensorRT 10.9.0.34, and version 11 is needed: pip install 'tensorrt==11.*' there",
        ),
        (
            {"STAND_IN_GPUS": "0"},
            "gpu",
            "orin has no GPU that TensorRT can use: cuInit: no CUDA-capable device is detected (CUDA error 100)",
        ),
    ],
)
def test_what_is_missing(
    model: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], kind: str, message: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    told = refusal(built(model)[0])
    assert told[0] == kind
    assert told[1].startswith(message)
    described, _ = run(model.parent, describe=True)
    assert refusal(described) == told


def test_a_place_describes_itself(tmp_path: Path) -> None:
    described, _ = run(tmp_path, describe=True)
    assert described["gpu"] == "Stand-in GPU"
    assert described["tensorrt"] == "11.4.0.106"
    assert described["memory_bytes"] == 8 * 2**30
