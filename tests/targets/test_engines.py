"""Engines as bundles, built here and behind a real sshd, where a stand-in for TensorRT is."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, save

from compress.bundle import Bundle, Deployment, Kind, TensorSpec, write_bundle
from compress.errors import StageError, UsageError
from compress.profiling.profile import profile_file
from compress.stage import Context
from compress.targets import remote
from compress.targets import target as targets
from compress.targets.doctor import examine_target, gpu_there
from compress.targets.engines import axis_ranges
from compress.targets.jobs import run_jobs
from compress.targets.settings import TargetSettings
from compress.targets.stage import Engine
from compress.targets.target import facts_of
from tests.stand_ins import tensorrt_place
from tests.targets.ssh_server import serving

TEXTS = Deployment({}, (TensorSpec("ids", "int64", ("batch", "sequence")),), (), (), None, {"sizes": {"sequence": 128}})
CUTTING = TEXTS.with_extra(tokenizer={"max_length": 300})


class Told:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    @contextlib.contextmanager
    def task(self, description: str, total: int | None) -> Iterator[Any]:
        yield lambda steps=1, note="": self.notes.append(note)

    def say(self, message: str) -> None:
        self.notes.append(message)


@pytest.fixture(autouse=True)
def _stand_ins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    tensorrt_place.use(monkeypatch, tmp_path / "cache")
    targets.forget_places()
    yield
    targets.forget_places()


@pytest.fixture
def source(tmp_path: Path) -> Bundle:
    """Doubles any number of rows of 5 values."""
    folder = tmp_path / "source"
    folder.mkdir()
    graph = helper.make_graph(
        [helper.make_node("Add", ["values", "values"], ["answer"], "double")],
        "rows",
        [helper.make_tensor_value_info("values", TensorProto.FLOAT, ["batch", 5])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["batch", 5])],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10), folder / "model.onnx")
    specs = (TensorSpec("values", "float32", ("batch", 5)),), (TensorSpec("answer", "float32", ("batch", 5)),)
    return write_bundle(folder, Kind.ONNX, Deployment({}, *specs))


def here(**settings: Any) -> TargetSettings:
    return TargetSettings.model_validate({"name": "gpu", "runtime": "tensorrt", "throughput_batch": 8, **settings})


def build(source: Bundle, target: TargetSettings, **more: Any) -> tuple[Bundle, dict[str, Any]]:
    out = source.path.parent / "engine"
    out.mkdir(exist_ok=True)
    found = Engine.of(target).run({"source": source}, out, Context(target=target, **more))
    return Bundle(Kind.ENGINE, out), found


def doubled(engine: Bundle, target: TargetSettings, folder: Path) -> None:
    """Asks the engine for answers, and holds them against what they must be."""
    values = np.random.default_rng(0).standard_normal((11, 5)).astype(np.float32)
    np.save(folder / "values.npy", values)
    request = {"inputs": {"values": str(folder / "values.npy")}, "output": str(folder / "answer.npy"), "batch": 8}
    run_jobs(target, {"engine": {"model": str(engine.model_file), "answers": request}})
    np.testing.assert_array_equal(np.load(folder / "answer.npy"), 2 * values)


def test_an_engine_is_a_bundle_that_answers(source: Bundle, tmp_path: Path) -> None:
    told = Told()
    engine, found = build(source, here(batches=(2, 4)), progress=told)
    assert engine.deployment == source.deployment
    assert found["engine"]["shapes"] == {"values": {"min": [1, 5], "opt": [2, 5], "max": [8, 5]}}
    assert found["engine"] == json.loads((engine.path / "engine.json").read_text())
    assert told.notes[0] == "Building engine: 0 of 1"
    assert told.notes[-1] == "Building engine: 1 of 1"
    doubled(engine, here(), tmp_path)


def test_a_rehearsal_reads_the_file_and_builds_nothing(source: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, found = build(source, here(), rehearsal=True)
    assert (found, engine.model_file.exists()) == ({}, False)
    monkeypatch.setenv("STAND_IN_UNREADABLE", "Add")
    with pytest.raises(UsageError, match=r"engine on gpu: TensorRT .* cannot read it .*node 0 'double' \(Add\)"):
        build(source, here(), rehearsal=True)


def test_the_timing_cache_is_kept_unless_it_is_not_wanted(source: Bundle, tmp_path: Path) -> None:
    build(source, here(timing_cache=False))
    assert list(tmp_path.glob("cache/tensorrt/*")) == []
    build(source, here())
    (kept,) = tmp_path.glob("cache/tensorrt/*.timing")
    _, found = build(source, here())
    assert found["notes"] == []
    kept.write_text('{"place": ["Other GPU", "11"], "timed": []}')
    _, found = build(source, here())
    assert found["notes"] == ["engine on gpu: the timing cache is of another GPU or version and was begun anew"]
    assert json.loads(kept.read_text()) == {"place": ["Stand-in GPU", "11.4.0.106"], "timed": ["double"]}


def test_too_little_workspace_is_said(source: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_WORKSPACE_MIB", "64")
    with pytest.raises(StageError, match=r"engine on gpu: TensorRT's workspace \(8 MiB\) does not suffice"):
        build(source, here(workspace_mib=8))


def test_no_tensorrt_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "")
    with pytest.raises(UsageError, match=r"target 'gpu': tensorrt is not installed on gpu: pip install 'tensorrt==11"):
        facts_of(here())


def test_the_doctor_says_what_engines_are_built_for(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {(finding["level"], finding["says"]) for finding in examine_target(here())["findings"]}
    gpu = "engines for Stand-in GPU (compute capability 8.7), CUDA 13.0; 0.0 of 8.0 GiB of its memory in use"
    assert {("good", "tensorrt 11.4.0.106"), ("good", gpu)} <= told
    monkeypatch.setenv("STAND_IN_GPUS", "0")
    finding = gpu_there(here())
    assert finding.level == "wrong"
    assert finding.says.startswith("gpu has no GPU that TensorRT can use: cuInit: no CUDA-capable device is detected")


def test_another_gpu_is_another_place(monkeypatch: pytest.MonkeyPatch) -> None:
    before = facts_of(here()).fingerprint
    targets.forget_places()
    monkeypatch.setenv("STAND_IN_GPU", "Another GPU")
    assert facts_of(here()).fingerprint != before


@pytest.mark.parametrize(
    ("deployment", "shapes", "expected"),
    [
        (TEXTS, {}, {"sequence": [1, 128, 128]}),
        (TEXTS, {"sequence": 64}, {"sequence": [1, 64, 64]}),
        (CUTTING, {"sequence": 64}, {"sequence": [1, 64, 300]}),
        (Deployment({}, (TensorSpec("pixels", "float32", ("batch", 3, "height", 8)),), ()), {}, {}),
    ],
)
def test_how_long_texts_may_be(deployment: Deployment, shapes: dict[str, int], expected: dict[str, list[int]]) -> None:
    assert axis_ranges(deployment, shapes) == expected


def test_a_bare_file_is_profiled_as_an_engine(source: Bundle) -> None:
    quick = {"rounds": 2, "seconds": 0.01, "warmup_seconds": 0.0, "throughput_seconds": 0.005}
    measured = profile_file(source.model_file, here(**quick, batches=(2,)))
    (row,) = measured["model.onnx"]
    assert (row.runtime, row.shape, row.transfers_ms is None) == ("tensorrt", {"values": [2, 5]}, False)


def test_what_is_no_engine_is_refused(source: Bundle) -> None:
    job = {"model": str(source.model_file), "operators": {"batch": 1, "seconds": 0.0, "minimum_calls": 1}}
    with pytest.raises(UsageError, match="m: it is no engine: no JSON file beside it says what it was built for"):
        run_jobs(here(), {"m": job})


def test_an_engine_is_built_and_runs_behind_ssh(source: Bundle, tmp_path: Path) -> None:
    there = tmp_path / "python-there"
    place = f"PYTHONPATH={tensorrt_place.MODULES} LD_LIBRARY_PATH={tensorrt_place.driver_folder()} STAND_IN_GPU=Orin"
    there.write_text(f'#!/bin/sh\n{place} exec {sys.executable} "$@"\n')
    there.chmod(0o755)
    home = tmp_path / "sshd"
    home.mkdir()
    with serving(home) as server:
        try:
            target = server.target(runtime="tensorrt", python=str(there), throughput_batch=8)
            told = Told()
            engine, found = build(source, target, progress=told)
            assert found["engine"]["gpu"] == "Orin"
            assert "Building engine: 1 of 1" in told.notes
            assert len(list(tmp_path.glob("cache/tensorrt/*.timing"))) == 1
            doubled(engine, target, tmp_path)
            with pytest.raises(UsageError, match=r"engine: it was built for Orin .* and gpu is Stand-in GPU"):
                doubled(engine, here(), tmp_path)
        finally:
            remote.close_all()
    assert server.left() == []
