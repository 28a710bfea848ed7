"""A pipeline whose target runs its files with TensorRT, from training to report; TensorRT and the GPU are stand-ins."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compress.cli import main
from compress.config import read_pipeline
from compress.errors import UsageError
from compress.plan import Plan, make_plan
from compress.targets import target as targets
from tests.stand_ins import tensorrt_place

GPU = "{name: gpu, runtime: tensorrt, rounds: 2, seconds: 0.01, warmup_seconds: 0, throughput_seconds: 0.01}"
LOCAL = "{name: local, rounds: 2, seconds: 0.01, warmup_seconds: 0, throughput_seconds: 0.01}"
HEAD = """
data: {source: {digits: {}}, limit: {train: 64, validation: 32, test: 32}}
threads: 1
models: {net: {zoo: resnet8, width: 0.5}}
"""
FLOAT = f"{HEAD}stages: [{{train: {{epochs: 1}}}}]\ntargets: [{GPU}]\n"
BOTH = f"""{HEAD}
stages:
  - train: {{epochs: 1}}
  - quantize: {{epochs: 0}}
  - export: {{emit: [fp16, tensorrt, ort-x86]}}
targets: [{GPU}, {LOCAL}]
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where a pipeline runs; stand-ins are there for it."""
    tensorrt_place.use(monkeypatch, tmp_path / "cache")
    monkeypatch.syspath_prepend(str(tensorrt_place.MODULES))
    monkeypatch.chdir(tmp_path)
    targets.forget_places()
    yield tmp_path
    targets.forget_places()


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return int(end.value.code or 0)


def ran(folder: Path, pipeline: str) -> dict[str, Any]:
    """The report of a run."""
    (folder / "p.yaml").write_text(pipeline)
    assert call("run", "p.yaml") == 0
    content: dict[str, Any] = json.loads((folder / "runs" / "p" / "report.json").read_text())
    return content


def plan_of(folder: Path, pipeline: str) -> Plan:
    (folder / "p.yaml").write_text(pipeline)
    return make_plan(read_pipeline(folder / "p.yaml"))


def engines(plan: Plan) -> dict[str, str]:
    return {step.name: step.key for step in plan.steps if step.stage.verb == "engine"}


def test_a_float_file_is_built_answered_and_timed_as_an_engine_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_NO_CAPTURE", "1")
    first = ran(folder, FLOAT)
    model = next(model for model in first["models"] if model["name"] == "net-fp32")
    assert [(row["target"], row["runtime"]) for row in model["latency"]] == [("gpu", "tensorrt")]
    assert model["latency"][0]["gpu_memory_bytes"] is not None
    (note,) = [note for note in first["notes"] if "CUDA graph" in note]
    assert note.startswith("net-fp32 on gpu: timed without a CUDA graph, which could not be captured")
    assert {row["operator"] for row in model["operators"]} >= {"Conv", "Gemm"}
    made = json.loads((folder / "runs" / "p" / "engines" / "net-fp32-gpu.json").read_text())
    assert (made["gpu"], made["tensorrt"]) == ("Stand-in GPU", "11.4.0.106")
    assert made["shapes"]["input"]["max"][0] == 32
    assert len(list((folder / "cache").glob("tensorrt/*.timing"))) == 1
    assert all(step["reused"] for step in ran(folder, FLOAT)["steps"])


def test_what_is_measured_where(folder: Path) -> None:
    plan = plan_of(folder, BOTH)
    assert {row.name: set(row.profiles) for row in plan.rows if row.emission} == {
        "net-fp32": {"gpu", "local"},
        "net-quantize-tensorrt": {"gpu", "local"},
        "net-quantize-fp16": {"gpu", "local"},
        "net-quantize-ort-x86": {"local"},
    }
    assert set(engines(plan)) == {
        "net-fp32 engine on gpu",
        "net-quantize-tensorrt engine on gpu",
        "net-quantize-fp16 engine on gpu",
    }


def test_longer_times_build_no_engine_anew_but_another_gpu_does(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = engines(plan_of(folder, FLOAT))
    assert engines(plan_of(folder, FLOAT.replace("seconds: 0.01", "seconds: 1"))) == before
    assert not before.items() & engines(plan_of(folder, FLOAT.replace("rounds: 2", "batches: [64]"))).items()
    monkeypatch.setenv("STAND_IN_GPU", "Another GPU")
    targets.forget_places()
    assert not before.items() & engines(plan_of(folder, FLOAT)).items()


def test_what_no_target_runs_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="no target runs ort-x86: TensorRT reads fp32, fp16, bf16, tensorrt; leave it"):
        plan_of(folder, BOTH.replace(f"[{GPU}, {LOCAL}]", f"[{GPU}]"))


def test_layers_are_not_timed_with_tensorrt(folder: Path) -> None:
    reach = FLOAT.replace("{train: {epochs: 1}}", "{train: {epochs: 1}}, {prune: {reach: {speedup: 1.5}}}")
    with pytest.raises(UsageError, match="layers are timed with ONNX Runtime, and target 'gpu' has TensorRT"):
        plan_of(folder, reach)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("emit: [ort-x86]", "TensorRT does not run 'ort-x86': choose from fp32, fp16, bf16, tensorrt"),
        ("provider: cpu", "TensorRT computes on NVIDIA's GPUs: leave it out, or give `cuda`"),
        ("also_threads: [2]", "an engine runs on the GPU: its time does not depend on threads"),
    ],
)
def test_what_does_not_go_with_tensorrt(folder: Path, settings: str, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        plan_of(folder, FLOAT.replace("rounds: 2", settings))
    assert message in str(refused.value)


def test_settings_that_only_tensorrt_has(folder: Path) -> None:
    with pytest.raises(UsageError, match="belongs to a target with `runtime: tensorrt`"):
        plan_of(folder, BOTH.replace("{name: local,", "{name: local, workspace_mib: 64,"))


def test_without_tensorrt_there_is_one_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(tensorrt_place.MODULES)])
    with pytest.raises(UsageError, match=r"TensorRT is not installed here: pip install 'tensorrt==11\.\*'"):
        plan_of(folder, FLOAT)


@pytest.mark.long
def test_quantized_files_give_the_same_answers_as_engines(folder: Path) -> None:
    both = [model["metrics_by_target"] for model in ran(folder, BOTH)["models"] if "metrics_by_target" in model]
    assert len(both) == 3
    assert all(on["gpu"]["accuracy"] == on["local"]["accuracy"] for on in both)
