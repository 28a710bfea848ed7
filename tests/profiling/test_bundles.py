from __future__ import annotations

import json
from pathlib import Path

import onnx

from compress.bundle import Bundle, Deployment, Kind, write_bundle
from compress.profiling.bundles import PROFILE_FILE, profile_bundles
from compress.stage import Context
from compress.targets.settings import TargetSettings
from tests.profiling.test_profile import network

QUICK = TargetSettings(rounds=2, seconds=0.01, warmup_seconds=0.0, throughput_seconds=0.005)


def bundle(folder: Path, channels: int) -> Bundle:
    folder.mkdir()
    network(folder / "model.onnx", channels)
    return write_bundle(folder, Kind.ONNX, Deployment({"name": "classification"}, (), ()))


def test_a_profile_tells_time_by_operator_and_channels(tmp_path: Path) -> None:
    inputs = {f"of-{count}": bundle(tmp_path / str(count), count) for count in (8, 20)}
    found = profile_bundles(inputs, tmp_path, Context(target=QUICK))
    assert found["channels"] == {"of-8": [8], "of-20": [20]}
    for name, one in inputs.items():
        kinds = {row["operator"] for row in found["operators"][name]}
        assert "GlobalAveragePool" in kinds and any("Conv" in kind for kind in kinds)
        assert len(onnx.load(one.model_file).graph.node) == 2
    assert json.loads((tmp_path / PROFILE_FILE).read_text())["operators"] == found["operators"]


def test_a_rehearsal_times_no_operators(tmp_path: Path) -> None:
    found = profile_bundles({"of-8": bundle(tmp_path / "8", 8)}, tmp_path, Context(target=QUICK, rehearsal=True))
    assert found["operators"] == {} and len(found["latency"]["of-8"]) == 1
