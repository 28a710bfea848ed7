"""A target behind a real sshd whose Python is an emulated 64-bit Arm one: push, run and fetch, and Arm's kernels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from compress.cli import main
from compress.targets import remote
from compress.targets.jobs import run_jobs
from compress.targets.settings import TargetSettings
from compress.targets.target import emissions, facts_of, is_emulated
from tests.targets.emulated_arm import arm64_root
from tests.targets.ssh_server import Server, serving
from tests.targets.test_arm64 import networks

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def root() -> Path:
    return arm64_root()


@pytest.fixture(scope="module")
def server(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    (root / "files" / "device").mkdir(exist_ok=True)
    with serving(tmp_path_factory.mktemp("sshd")) as found:
        yield found
    remote.close_all()


def arm(server: Server, root: Path, **more: object) -> TargetSettings:
    python = f"chroot {root} /usr/bin/qemu-aarch64-static /usr/bin/python3.11"
    return server.target(name="arm", python=python, folder="/files/device", cores=[0], **more)


def test_arm_kernels_answer_over_ssh(server: Server, root: Path, tmp_path: Path) -> None:
    images = np.random.default_rng(1).standard_normal((60, 1, 8, 8)).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    files = networks(tmp_path, images)
    answers = {}
    for target in (TargetSettings(), arm(server, root)):
        jobs = {}
        for name, path in files.items():
            request = {"inputs": {"input": str(tmp_path / "images.npy")}, "output": str(tmp_path / f"{name}.npy")}
            jobs[name] = {"model": str(path), "answers": {**request, "batch": 32}}
        _, told = run_jobs(target, jobs)
        answers[target.name] = {name: np.load(tmp_path / f"{name}.npy") for name in files}
    assert told["machine"]["architecture"] == "aarch64"
    assert told["emulated"] is True
    here, there = answers["local"], answers["arm"]
    np.testing.assert_allclose(there["fp32"], here["fp32"], atol=1e-4)
    assert (there["arm"].argmax(1) == here["arm"].argmax(1)).mean() >= 0.95
    remote.close_all()
    assert list((root / "files" / "device").iterdir()) == []


def test_it_is_known_to_be_emulated_without_being_told(server: Server, root: Path) -> None:
    target = arm(server, root)
    assert not target.emulated
    assert facts_of(target).emulated
    assert is_emulated(target)
    assert emissions(target) == ["fp32", "ort-arm"]


def test_a_pipeline_takes_its_answers_and_never_its_times(
    server: Server, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    quick = {"rounds": 2, "seconds": 0.01, "warmup_seconds": 0, "throughput_seconds": 0.01}
    asked = arm(server, root, evaluate={"samples": 32}, **quick)
    pipeline = {
        "name": "digits",
        "data": {"source": {"digits": {}}, "limit": {"train": 64, "validation": 32, "test": 64}},
        "threads": 1,
        "models": {"net": {"zoo": "resnet8", "width": 0.5}},
        "stages": [{"train": {"epochs": 1}}, {"quantize": {"epochs": 1}}, {"export": {"emit": "auto"}}],
        "targets": [asked.model_dump(mode="json", exclude_defaults=True), {"name": "local", **quick}],
    }
    Path("p.yaml").write_text(yaml.safe_dump(pipeline))
    with pytest.raises(SystemExit) as end:
        main(["run", "p.yaml", "--skip-rehearsal"])
    assert not end.value.code
    told = json.loads(Path("runs/digits/report.json").read_text())
    assert told["target"] == "local"
    assert told["deploy"] is not None
    places = {place["name"]: place for place in told["targets"]}
    assert places["arm"]["emulated"] and places["arm"]["deploy"] is None
    assert places["arm"]["machine"]["architecture"] == "aarch64"
    rows = [row for row in told["models"] if row["kind"] == "onnx"]
    assert any(row["name"].endswith("ort-arm") for row in rows)
    for row in rows:
        assert all(entry.get("emulated") for entry in row["latency"] if entry["target"] == "arm")
        assert 0 <= row["metrics_by_target"]["arm"]["accuracy"] <= 1
    assert any("is emulated: its times mean nothing" in note for note in told["notes"])
    assert list((root / "files" / "device").iterdir()) == []
