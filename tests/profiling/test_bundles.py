from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from compress.bundle import Bundle, Deployment, Kind, write_bundle
from compress.profiling import decided
from compress.profiling.bundles import PROFILE_FILE, profile_bundles
from compress.profiling.latency import Latency
from compress.profiling.statistics import LEAST_ROUNDS
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
    assert found["repeat"]["value"] > 0 and found["repeat"]["low"] is found["repeat"]["high"] is None  # two rounds


def rounded(folder: Path, channels: int) -> Bundle:
    """A network whose weights are int8, dequantized when it runs."""
    made = bundle(folder, channels)
    model = onnx.load(made.model_file)
    (weight,) = model.graph.initializer
    values = numpy_helper.to_array(weight)
    weight.CopyFrom(numpy_helper.from_array(np.round(values * 40).clip(-127, 127).astype(np.int8), "w8"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(1 / 40, np.float32), "scale"))
    model.graph.node.insert(0, helper.make_node("DequantizeLinear", ["w8", "scale"], ["w0"]))
    onnx.save(model, made.model_file)
    return made


def test_files_of_one_speed_have_more_rounds_in_a_pipelines_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runtime folds the weights of the second into those of the first: chance alone tells them apart."""
    monkeypatch.setattr(decided, "REPEATS", 1)
    inputs = {"float": bundle(tmp_path / "float", 8), "int8": rounded(tmp_path / "int8", 8)}
    found = profile_bundles(inputs, tmp_path, Context(target=QUICK.model_copy(update={"rounds": LEAST_ROUNDS})))
    latency = {name: [Latency.from_row(row) for row in rows] for name, rows in found["latency"].items()}
    (count,) = {len(row.rounds_ms) for rows in latency.values() for row in rows}
    assert count == 2 * LEAST_ROUNDS or not decided.is_chance(latency, {"int8"})


def test_a_rehearsal_times_no_operators(tmp_path: Path) -> None:
    found = profile_bundles({"of-8": bundle(tmp_path / "8", 8)}, tmp_path, Context(target=QUICK, rehearsal=True))
    assert found["operators"] == {} and len(found["latency"]["of-8"]) == 1
