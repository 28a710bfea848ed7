from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from compress.errors import CompressError, StageError, UsageError
from compress.targets import facts
from compress.targets.jobs import run_jobs
from compress.targets.settings import TargetSettings
from compress.targets.target import emissions, fingerprint

HEADER = '<ir_version: 10, opset_import: ["" : 18, "mine" : 1]> '
LATENCY = {
    "batches": [1], "axes": {}, "warmup_seconds": 0.0, "seconds": 0.0, "minimum_calls": 1, "throughput_batch": None,
}  # fmt: skip


def save(path: Path, graph: str, **weights: np.ndarray) -> None:
    model = parser.parse_model(HEADER + graph)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    onnx.save(model, path, save_as_external_data=path.stem == "external", location="weights.bin", size_threshold=0)


def broken(folder: Path, kind: str) -> Path:
    """An ONNX file with something wrong about it."""
    path = folder / f"{kind}.onnx"
    if kind == "junk":
        path.write_bytes(b"not a model at all")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "operator":
        save(path, "g (float[batch,4] x) => (float[batch,4] y) { y = mine.Unknown(x) }")
    elif kind == "dynamic":
        save(path, "g (float[batch,sequence] x) => (float[batch,sequence] y) { y = Relu(x) }")
    elif kind == "text":
        save(path, "g (string[batch,4] x) => (string[batch,4] y) { y = Identity(x) }")
    elif kind == "external":
        save(path, "g (float[batch,4] x) => (float[batch,9] y) { y = MatMul(x, w) }", w=np.ones((4, 9), np.float32))
        (folder / "weights.bin").unlink()
    elif kind == "shapes":
        save(path, "g (float[batch,4] x, float[batch,rest] z) => (float[batch,4] y) { y = Add(x, z) }")
    elif kind == "huge":
        save(path, "g (float[batch,3000000,3000000] x) => (float[batch,3000000,3000000] y) { y = Relu(x) }")
    return path


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("junk", UsageError, "cannot load it"),
        ("empty", UsageError, "cannot load it"),
        ("missing", UsageError, "no such file"),
        ("operator", UsageError, "mine:Unknown"),
        ("dynamic", UsageError, "'sequence' needs a size: --shape sequence=SIZE"),
        ("text", UsageError, "tensor(string) cannot be made up"),
        ("external", UsageError, "weights.bin"),
        ("shapes", StageError, "it fails when run on x [1, 4], z [1, 7]"),
        ("huge", StageError, "not enough memory"),
    ],
)
def test_broken_files_give_one_message(tmp_path: Path, kind: str, error: type[CompressError], message: str) -> None:
    request = {**LATENCY, "axes": {"rest": 7} if kind == "shapes" else {}}
    with pytest.raises(error) as caught:
        run_jobs(TargetSettings(), {kind: {"model": str(broken(tmp_path, kind)), "latency": request}})
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{kind}: ")
    assert "\n" not in str(caught.value)


def test_a_provider_that_is_not_there_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "m.onnx", "g (float[batch,4] x) => (float[batch,4] y) { y = Relu(x) }")
    with pytest.raises(UsageError, match="has no CUDAExecutionProvider"):
        run_jobs(TargetSettings(provider="cuda"), {"m": {"model": str(tmp_path / "m.onnx"), "latency": LATENCY}})


def test_jobs_are_done_and_the_machine_is_told(tmp_path: Path) -> None:
    save(tmp_path / "m.onnx", "g (float[batch,4] x) => (float[batch,4] y) { y = Relu(x) }")
    job: dict[str, Any] = {"model": str(tmp_path / "m.onnx"), "latency": LATENCY}
    done, told = run_jobs(TargetSettings(), {"one": job, "two": job})
    assert list(done) == ["one", "two"]
    assert told["machine"]["architecture"]
    assert told["versions"]["onnxruntime"]


@pytest.mark.parametrize(
    ("architecture", "features", "expected"),
    [
        ("x86_64", ["avx2", "avx512_vnni"], ["fp32", "ort-x86"]),
        ("AMD64", ["avx2", "avx_vnni"], ["fp32", "ort-x86"]),
        ("x86_64", ["avx2", "avx512f"], ["fp32", "ort-x86-avx2"]),
        ("AMD64", [], ["fp32", "ort-x86-avx2"]),
        ("aarch64", ["dotprod"], ["fp32", "ort-arm"]),
        ("riscv64", [], ["fp32"]),
    ],
)
def test_emissions_follow_the_processor(
    monkeypatch: pytest.MonkeyPatch, architecture: str, features: list[str], expected: list[str]
) -> None:
    monkeypatch.setattr(facts, "machine", lambda: {"architecture": architecture, "features": features})
    assert emissions(TargetSettings()) == expected
    assert emissions(TargetSettings(emit=("ort-arm",))) == ["ort-arm"]
    assert emissions(TargetSettings(provider="cuda")) == ["fp32"]


def test_fingerprint_changes_with_the_processor_and_the_runtime_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    here = fingerprint(TargetSettings())
    assert here == fingerprint(TargetSettings(name="other", rounds=3))
    monkeypatch.setattr(facts, "runtime_version", lambda: "onnxruntime 0.0.1")
    other_runtime = fingerprint(TargetSettings())
    monkeypatch.setattr(facts, "machine", lambda: {"cpu": "another"})
    assert len({here, other_runtime, fingerprint(TargetSettings())}) == 3


def test_what_cuda_computes_belongs_to_its_gpu_and_what_the_processor_computes_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = []
    for gpu in ({}, {"gpu": "NVIDIA A"}, {"gpu": "NVIDIA B"}):
        monkeypatch.setattr(facts, "gpu_of", lambda provider, gpu=gpu: gpu)
        found.append((fingerprint(TargetSettings()), fingerprint(TargetSettings(provider="cuda"))))
    on_processor, on_gpu = zip(*found, strict=True)
    assert (len(set(on_processor)), len(set(on_gpu))) == (1, 3)
