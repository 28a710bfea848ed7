import json
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compress.errors import StageError, UsageError
from compress.profiling import profile as module
from compress.profiling.conditions import waiting_shares
from compress.profiling.latency import Latency
from compress.profiling.profile import Profile, compare, profile, profile_file, turns
from compress.targets.measuring.conditions import waited_s
from compress.targets.measuring.machine import available_cores
from compress.targets.settings import TargetSettings
from compress.targets.target import cores_for

KEYS = {
    "target", "runtime", "threads", "batch", "shape", "p50_ms", "p90_ms", "p99_ms", "p50_ci95_ms", "samples",
    "throughput_per_s", "peak_memory_bytes", "load_ms", "rounds_ms", "mode", "not_established", "offline", "energy_mj",
    "gpu_memory_bytes", "noise",
    "transfers_ms",
}  # fmt: skip
QUICK = TargetSettings(rounds=2, seconds=0.01, warmup_seconds=0.0, throughput_seconds=0.005)


def network(path: Path, channels: int = 8, layers: int = 1, size: int | str = 8) -> Path:
    """Convolutions of 3 x 3 on one channel of size x size, averaged."""
    generator = np.random.default_rng(0)
    nodes, weights, last = [], [], "input"
    for index in range(layers):
        shape = (channels, 1 if index == 0 else channels, 3, 3)
        weights.append(numpy_helper.from_array(generator.standard_normal(shape).astype(np.float32), f"w{index}"))
        nodes.append(helper.make_node("Conv", [last, f"w{index}"], [f"x{index}"], pads=[1, 1, 1, 1]))
        last = f"x{index}"
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["output"]))
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 1, size, size])
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", channels, 1, 1])
    graph = helper.make_graph(nodes, "network", [image], [output], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


class Counting:
    """Progress that remembers."""

    def __init__(self) -> None:
        self.total, self.notes = 0, Counter[str]()

    @contextmanager
    def task(self, description: str, total: int | None) -> Iterator[Any]:
        self.total = total or 0

        def advance(steps: int = 1, note: str = "") -> None:
            self.notes[note] += steps

        yield advance

    def say(self, message: str) -> None:
        raise AssertionError(message)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    folder = tmp_path_factory.mktemp("two")
    files = {
        "large": network(folder / "large.onnx", 64, 12, size=16),
        "small": network(folder / "small.onnx", 8, 2, size=16),
    }
    return profile(files, TargetSettings(rounds=5, seconds=0.03, batches=(1, 4)))


def test_rows_have_the_keys_of_reports_and_make_sense(two: Profile) -> None:
    assert list(two) == ["large", "small"]
    for rows in two.values():
        assert [row.batch for row in rows] == [1, 4]
        for latency in rows:
            row = latency.row()
            assert set(row) == KEYS
            assert row["shape"] == {"input": [latency.batch, 1, 16, 16]}
            assert 0 < row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"]
            assert row["p50_ci95_ms"][0] <= row["p50_ms"] <= row["p50_ci95_ms"][1]
            assert len(row["rounds_ms"]) == 5
            assert all(samples == sorted(samples) and len(samples) <= 200 for samples in row["rounds_ms"])
            assert row["samples"] >= sum(map(len, row["rounds_ms"]))
            assert row["throughput_per_s"] > 0 and row["peak_memory_bytes"] > 0 and row["load_ms"] > 0


def test_the_larger_network_takes_longer_by_every_measure(two: Profile) -> None:
    large, small = two["large"][0], two["small"][0]
    ratio = compare(large, small)
    assert ratio.value == pytest.approx(large.p50_ms / small.p50_ms)
    assert 1 < ratio.low <= ratio.value <= ratio.high
    assert large.throughput_per_s < small.throughput_per_s
    assert large.load_ms > small.load_ms
    assert two["large"][1].p50_ms > large.p50_ms


def test_rows_survive_a_trip_through_json(two: Profile) -> None:
    latency = two["large"][0]
    assert Latency.from_row(json.loads(json.dumps(latency.row()))) == latency


def test_the_first_file_is_measured_against_itself(two: Profile) -> None:
    assert two.repeat is not None
    assert two.repeat.low <= two.repeat.value <= two.repeat.high
    assert any("not steady" in note for note in two.notes) == (abs(two.repeat.value - 1) > 0.05)
    assert two.machine["machine"]["architecture"]


def test_an_unsteady_machine_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def answer(target: TargetSettings, jobs: dict[str, Any], *_: object) -> tuple[dict[str, Any], dict[str, Any]]:
        nonlocal calls
        calls += 1
        slow = 1.0 if calls % 2 else 1.1  # one file: its turns come in pairs, and the repeat stands second in the first
        slow = slow if (calls - 1) // 2 % 2 == 0 else 2.1 - slow
        run = {"batch": 1, "shapes": {}, "samples_ns": [1_000_000 * slow] * 9, "peak_bytes": 9}
        return {name: {"runs": [run], "load_ms": 1.0, "base_bytes": 4} for name in jobs}, {}

    monkeypatch.setattr(module, "run_jobs", answer)
    measured = profile({"a": Path(__file__)}, TargetSettings(rounds=2))
    assert measured.repeat is not None
    assert abs(measured.repeat.value - 1) == pytest.approx(0.1, abs=0.011)
    assert len(measured.notes) == 1 and "not steady" in measured.notes[0]
    assert measured["a"][0].peak_memory_bytes == 5


@pytest.mark.skipif(waited_s() is None, reason="this system does not tell how long a thread waits for a processor")
def test_another_program_on_the_same_core_is_told(tmp_path: Path) -> None:
    core = cores_for(QUICK)[-1]
    target = QUICK.model_copy(update={"cores": (core,), "rounds": 3, "seconds": 0.1})
    other = subprocess.Popen([sys.executable, "-c", f"import os\nos.sched_setaffinity(0, [{core}])\nwhile True: pass"])
    try:
        measured = profile({"m": network(tmp_path / "m.onnx")}, target)
    finally:
        other.kill()
        other.wait()
    shares = waiting_shares(measured.machine["rounds"])
    assert len(shares) == 6 and min(shares) > 0.2
    (note,) = [note for note in measured.notes if "other programs" in note]
    assert f"for {statistics.median(shares):.0%} of the time" in note


def test_full_mode_has_the_calls_that_p99_takes(tmp_path: Path) -> None:
    target = QUICK.model_copy(update={"mode": "full", "least_seconds": 0.0, "throughput_batch": (2, 8)})
    (row,) = profile({"m": network(tmp_path / "m.onnx")}, target)["m"]
    assert row.mode == "full" and row.samples >= 662 and row.not_established == {}
    assert row.p90_ms is not None and row.p99_ms is not None and row.p50_ms <= row.p90_ms <= row.p99_ms
    assert [bulk["batch"] for bulk in row.offline] == [2, 8]
    assert row.throughput_per_s == max(bulk["examples_per_second"] for bulk in row.offline)


def test_full_mode_lasts_as_long_as_the_target_says(tmp_path: Path) -> None:
    import time

    target = QUICK.model_copy(update={"mode": "full", "least_seconds": 0.6})
    start = time.perf_counter()
    profile({"m": network(tmp_path / "m.onnx")}, target)
    assert time.perf_counter() - start > 2 * 0.6  # the file and the same again


@pytest.mark.skipif(len(available_cores()) < 2, reason="two threads need two cores")
def test_other_numbers_of_threads_have_rows_of_their_own(tmp_path: Path) -> None:
    files = {name: network(tmp_path / f"{name}.onnx") for name in ("a", "b")}
    progress = Counting()
    measured = profile(files, QUICK.model_copy(update={"also_threads": (2, 1), "batches": (1, 3)}), progress=progress)
    for rows in measured.values():
        assert [(row.threads, row.batch) for row in rows] == [(1, 1), (1, 3), (2, 1), (2, 3)]
        assert all(len(row.rounds_ms) == 2 for row in rows)
    assert progress.total == 2 * (2 * 2 + 1)
    told = measured.machine["rounds"]
    assert len(told) == progress.total and {entry["threads"] for entry in told} == {1, 2}
    assert all("load_1min" in entry["before"] and "frequency_mhz" in entry["after"] for entry in told)


def test_each_round_gives_each_file_a_turn_in_changing_order() -> None:
    orders = [turns(4, index) for index in range(8)]
    assert all(sorted(order) == [0, 1, 2, 3] for order in orders)
    places = Counter((place, file) for order in orders for place, file in enumerate(order))
    assert set(places.values()) == {2}


def test_progress_counts_every_process(tmp_path: Path) -> None:
    progress = Counting()
    profile({"one": network(tmp_path / "m.onnx")}, QUICK, progress=progress)
    assert progress.total == 4
    assert progress.notes == {"one": 4}


def test_a_rehearsal_runs_each_file_and_is_quick(tmp_path: Path) -> None:
    import resource

    def seconds() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    files = {f"file{index}": network(tmp_path / f"{index}.onnx") for index in range(6)}
    before = seconds()
    rehearsed = profile(files, TargetSettings(), rehearsal=True)
    assert seconds() - before < 2  # of the processor, so that what else runs does not count
    assert list(rehearsed) == list(files)
    assert rehearsed.repeat is None
    assert set(rehearsed["file0"][0].row()) == KEYS


def test_any_file_is_profiled_with_sizes_for_its_axes(tmp_path: Path) -> None:
    path = network(tmp_path / "any.onnx", size="pixels")
    with pytest.raises(UsageError, match=r"any\.onnx: its dynamic axis 'pixels' needs a size: --shape pixels=SIZE"):
        profile_file(path, QUICK)
    (latency,) = profile_file(path, QUICK, shapes={"pixels": 12})["any.onnx"]
    assert latency.shape == {"input": [1, 1, 12, 12]}
    with pytest.raises(UsageError, match="at least 1"):
        profile_file(path, QUICK, shapes={"pixels": 0})


def test_sizes_of_axes_come_from_the_file_unless_the_target_says_others(tmp_path: Path) -> None:
    path = network(tmp_path / "free.onnx", size="side")
    found = profile({"free": path}, QUICK, sizes={"free": {"side": 6}}, rehearsal=True)
    assert found["free"][0].shape == {"input": [1, 1, 6, 6]}
    target = QUICK.model_copy(update={"shapes": {"side": 5}})
    assert profile({"free": path}, target, sizes={"free": {"side": 6}}, rehearsal=True)["free"][0].shape == {
        "input": [1, 1, 5, 5]
    }


def test_files_that_are_not_there_are_named_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no such file: .*gone.onnx"):
        profile({"a": network(tmp_path / "m.onnx"), "b": tmp_path / "gone.onnx"}, QUICK)


def test_no_files_give_no_rows() -> None:
    assert len(profile({}, QUICK)) == 0


def test_a_model_that_fails_is_named(tmp_path: Path) -> None:
    network(tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((8, 1, 90, 90), np.float32), "w0"))
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    onnx.save(model, tmp_path / "m.onnx")
    target = QUICK.model_copy(update={"shapes": {"height": 4}})
    with pytest.raises(StageError, match="broken: it fails when run on input"):
        profile({"broken": tmp_path / "m.onnx"}, target)


BARE = """
import os, sys, time
os.sched_setaffinity(0, [int(sys.argv[2])])
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options)
image = {"input": numpy.random.default_rng(0).standard_normal((1, 1, 16, 16)).astype("float32")}
for _ in range(200):
    session.run(None, image)
times = []
for _ in range(1500):
    start = time.perf_counter()
    session.run(None, image)
    times.append(time.perf_counter() - start)
print(sorted(times)[len(times) // 2] * 1e3)
"""


@pytest.mark.long
def test_our_p50_is_that_of_a_loop_written_by_hand(tmp_path: Path) -> None:
    """In turns, in fresh processes, until each of the two had a quiet moment: what else runs only makes them slower."""
    from compress.targets.target import cores_for

    path = network(tmp_path / "m.onnx", 16, 4, size=16)
    ours: list[float] = []
    bare: list[float] = []
    target = TargetSettings(rounds=2, seconds=0.1, throughput_batch=1)
    command = [sys.executable, "-c", BARE, str(path), str(cores_for(target)[0])]
    for turn in range(12):
        samples = profile({"m": path}, target)["m"][0].rounds_ms
        ours += [statistics.median(one) for one in samples]
        for _ in range(2):
            bare.append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
        if turn >= 3 and min(ours) / min(bare) == pytest.approx(1.0, abs=0.1):
            return
    assert min(ours) / min(bare) == pytest.approx(1.0, abs=0.1)
