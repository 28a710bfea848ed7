import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from compress.errors import StageError
from compress.targets import measure
from compress.targets.measure import RequestError, batch_names, concrete_shapes, fixed_batch
from compress.targets.settings import TargetSettings
from compress.targets.target import run_jobs

HEADER = '<ir_version: 10, opset_import: ["" : 18]> '


def save(path: Path, graph: str, **weights: np.ndarray) -> Path:
    model = parser.parse_model(HEADER + graph)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    onnx.save(model, path)
    return path


def run(folder: Path, *jobs: dict[str, Any], threads: int = 1) -> tuple[list[dict[str, Any]], int]:
    """The results, and the peak memory in bytes that the operating system tells of that process.

    A small process starts it and asks: a child's peak counts that of its parent before the exec.
    """
    request = {"provider": "CPUExecutionProvider", "threads": threads, "cores": None, "jobs": jobs}
    (folder / "request.json").write_text(json.dumps(request))
    command = [sys.executable, "-P", measure.__file__, str(folder / "request.json"), str(folder / "result.json")]
    starter = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True)"
    starter += "; print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    said = subprocess.run([sys.executable, "-S", "-c", starter, *command], capture_output=True, text=True, check=True)
    return json.loads((folder / "result.json").read_text())["jobs"], int(said.stdout) * 1024


def latency(**changes: Any) -> dict[str, Any]:
    request = {
        "batches": [1], "axes": {}, "warmup_seconds": 0.0, "seconds": 0.0, "minimum_calls": 3,
        "throughput_batches": None, "throughput_seconds": 0.0,
    }  # fmt: skip
    return {**request, **changes}


def test_the_program_is_python_39_and_imports_only_what_devices_have() -> None:
    source = Path(measure.__file__).read_text()
    tree = ast.parse(source, feature_version=(3, 9))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    others = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names)
    assert others == {"numpy", "onnxruntime"}


def test_running_it_loads_no_other_library(tmp_path: Path) -> None:
    model = save(tmp_path / "m.onnx", "g (float[batch,4] x) => (float[batch,4] y) { y = Relu(x) }")
    request = {"provider": "CPUExecutionProvider", "threads": 1, "jobs": [{"model": str(model), "latency": latency()}]}
    (tmp_path / "request.json").write_text(json.dumps(request))
    program = (
        f"import sys; sys.path.insert(0, {str(Path(measure.__file__).parent)!r}); import measure;"
        f"measure.main({str(tmp_path / 'request.json')!r}, {str(tmp_path / 'result.json')!r});"
        "names = {name.split('.')[0] for name in sys.modules if not name.startswith('_')};"
        "print(*names - set(sys.stdlib_module_names))"
    )
    said = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert set(said.stdout.split()) - {"cython_runtime"} == {"measure", "numpy", "onnxruntime"}


@pytest.mark.parametrize(
    ("inputs", "names"),
    [
        ({"x": ["batch", 3, "height", "width"]}, {"batch"}),
        ({"x": ["N", 3]}, {"N"}),
        ({"x": ["anything", 3]}, {"anything"}),
        ({"x": ["time", "batch", 8]}, {"batch"}),
        ({"x": [None, 4], "y": ["n", 2]}, {"x:0", "n"}),
        ({"x": [1, 4]}, set()),
        ({"x": []}, set()),
    ],
)
def test_which_axis_is_the_batch(inputs: dict[str, list[Any]], names: set[str]) -> None:
    assert batch_names(inputs, {}) == names


def test_concrete_shapes_put_sizes_in_for_names() -> None:
    inputs: dict[str, list[Any]] = {"ids": ["batch", "sequence"], "mask": ["batch", "sequence"], "scale": [1]}
    assert concrete_shapes(inputs, 8, {"sequence": 128}) == {"ids": [8, 128], "mask": [8, 128], "scale": [1]}


def test_the_batch_of_a_bound_file_is_its_own() -> None:
    assert fixed_batch({"x": [4, 3]}, {}) == 4
    assert fixed_batch({"x": ["batch", 3]}, {}) is None
    assert fixed_batch({"x": ["batch", 3]}, {"batch": 2}) == 2
    assert fixed_batch({"x": []}, {}) == 1


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({}, "its dynamic axes 'height', 'x:3' need sizes: --shape height=SIZE --shape x:3=SIZE"),
        ({"height": 4}, "its dynamic axis 'x:3' needs a size: --shape x:3=SIZE"),
        (
            {"height": 4, "x:3": 4, "depth": 2},
            "it has no dynamic axis 'depth': its dynamic axes are batch, height, x:3",
        ),
    ],
)
def test_axes_without_a_size_are_named_with_what_to_say(axes: dict[str, int], message: str) -> None:
    with pytest.raises(RequestError) as caught:
        concrete_shapes({"x": ["batch", 3, "height", None]}, 1, axes)
    assert caught.value.kind == "axes"
    assert message in str(caught.value)


def test_answers_are_those_of_numpy_in_uneven_batches(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    model = save(tmp_path / "m.onnx", "g (float[batch,4] x) => (float[batch,3] y) { y = MatMul(x, w) }", w=weight)
    values = np.random.default_rng(1).standard_normal((23, 4)).astype(np.float32)
    np.save(tmp_path / "x.npy", values)
    request = {"inputs": {"x": str(tmp_path / "x.npy")}, "output": str(tmp_path / "y.npy"), "batch": 5}
    (result,), _ = run(tmp_path, {"model": str(model), "answers": request})
    assert result["examples"] == 23
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), values @ weight, atol=1e-6)


def test_a_file_bound_to_a_batch_answers_every_example_once(tmp_path: Path) -> None:
    model = save(tmp_path / "m.onnx", "g (float[4,2] x) => (float[4,2] y) { y = Add(x, x) }")
    values = np.arange(14, dtype=np.float32).reshape(7, 2)
    np.save(tmp_path / "x.npy", values)
    request = {"inputs": {"x": str(tmp_path / "x.npy")}, "output": str(tmp_path / "y.npy"), "batch": 32}
    run(tmp_path, {"model": str(model), "answers": request})
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), values * 2)


def test_latency_times_each_batch_size_and_throughput(tmp_path: Path) -> None:
    model = save(tmp_path / "m.onnx", "g (float[batch,4] x) => (float[batch,4] y) { y = Relu(x) }")
    (result,), _ = run(tmp_path, {"model": str(model), "latency": latency(batches=[8, 1], throughput_batches=[16, 4])})
    assert [(item["batch"], item["shapes"]) for item in result["runs"]] == [(1, {"x": [1, 4]}), (8, {"x": [8, 4]})]
    assert all(len(item["samples_ns"]) >= 3 and min(item["samples_ns"]) > 0 for item in result["runs"])
    assert [item["batch"] for item in result["throughput"]] == [4, 16]
    assert all(item["examples_per_second"] > 0 for item in result["throughput"])
    assert result["load_ms"] > 0


def test_operators_are_timed_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32)
    body = "h = MatMul(x, w) s = Sin(h) y = MatMul(s, v)"
    model = parser.parse_model(HEADER + f"g (float[batch,256] x) => (float[batch,256] y) {{ {body} }}")
    model.graph.initializer.extend(numpy_helper.from_array(weight, name) for name in ("w", "v"))
    for node, name in zip(model.graph.node, ("first", "middle", "last"), strict=True):
        node.name = name
    onnx.save(model, tmp_path / "m.onnx")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    request = {"batch": 16, "seconds": 0.05, "minimum_calls": 5, "axes": {}}
    done, _ = run_jobs(TargetSettings(), {"m": {"model": str(tmp_path / "m.onnx"), "operators": request}})
    found = {item["name"]: item for item in done["m"]["operators"]}
    assert {name: item["operator"] for name, item in found.items()} == {
        "first": "MatMul", "middle": "Sin", "last": "MatMul",
    }  # fmt: skip
    assert all(0 < item["microseconds"] < 1e6 for item in found.values())
    assert done["m"]["calls"] >= 5
    assert list(scratch.iterdir()) == []  # where the runtime's own profile was
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx", "scratch"]


def test_operators_of_a_model_that_fails_are_an_error(tmp_path: Path) -> None:
    model = save(
        tmp_path / "m.onnx", "g (float[batch,4] x, float[batch,rest] z) => (float[batch,4] y) { y = Add(x, z) }"
    )
    request = {"batch": 1, "seconds": 0.0, "minimum_calls": 1, "axes": {"rest": 7}}
    with pytest.raises(StageError, match="m: it fails when run on"):
        run_jobs(TargetSettings(), {"m": {"model": str(model), "operators": request}})


def test_every_kind_of_input_can_be_made_up(tmp_path: Path) -> None:
    types = ["float", "double", "float16", "int64", "int32", "int8", "uint8", "bool"]
    inputs = ", ".join(f"{kind}[batch,3] in_{kind}" for kind in types)
    outputs = ", ".join(f"{kind}[batch,3] out_{kind}" for kind in types)
    body = " ".join(f"out_{kind} = Identity(in_{kind})" for kind in types)
    model = save(tmp_path / "m.onnx", f"g ({inputs}) => ({outputs}) {{ {body} }}")
    (result,), _ = run(tmp_path, {"model": str(model), "latency": latency()})
    assert set(result["runs"][0]["shapes"]) == {f"in_{kind}" for kind in types}


def test_made_up_inputs_are_seeded_and_safe_for_any_embedding() -> None:
    np.testing.assert_array_equal(measure.made_up([2, 3], "float32"), measure.made_up([2, 3], "float32"))
    assert set(np.unique(measure.made_up([100], "int64"))) == {0, 1}


def test_made_up_masks_hide_nothing(tmp_path: Path) -> None:
    graph = (
        "g (int64[n,t] input_ids, int64[n,t] attention_mask) => (int64[n,t] y) { y = Add(input_ids, attention_mask) }"
    )
    session = measure.open_session(str(save(tmp_path / "m.onnx", graph)), "CPUExecutionProvider", 1)
    feeds = measure.feeds_for(session, 3, {"t": 50})
    assert feeds["attention_mask"].dtype == np.int64 and (feeds["attention_mask"] == 1).all()
    assert set(np.unique(feeds["input_ids"])) == {0, 1}


def test_answers_for_tokens_need_a_row_for_each(tmp_path: Path) -> None:
    model = save(tmp_path / "m.onnx", "g (float[n,4] x) => (float[n,4] y) { y = Relu(x) }")
    np.save(tmp_path / "x.npy", np.zeros((3, 4), np.float32))
    np.save(tmp_path / "t.npy", np.zeros((3, 4), np.int64))
    request = {"inputs": {"x": str(tmp_path / "x.npy")}, "output": str(tmp_path / "y.npy"), "batch": 2}
    request |= {"condense": "tokens", "targets": str(tmp_path / "t.npy")}
    [result], _ = run(tmp_path, {"model": str(model), "answers": request})
    assert result["error"]["kind"] == "run" and "not one row for each token" in result["error"]["message"]


def test_peak_memory_is_what_the_operating_system_says_of_the_process(tmp_path: Path) -> None:
    megabytes = 64
    weight = np.random.default_rng(0).standard_normal((4, megabytes * 2**16)).astype(np.float32)
    model = save(tmp_path / "m.onnx", "g (float[batch,4] x) => (float[batch,n] y) { y = MatMul(x, w) }", w=weight)
    (result,), told = run(tmp_path, {"model": str(model), "latency": latency(batches=[2])})
    peak = result["runs"][0]["peak_bytes"]
    assert peak == pytest.approx(told, rel=0.05)
    assert peak - result["base_bytes"] > megabytes * 2**20


def test_memory_falls_back_on_getrusage_where_proc_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = measure.peak_memory_bytes()
    monkeypatch.setattr(measure, "_read", lambda path: "")
    assert measure.peak_memory_bytes() == pytest.approx(exact, rel=0.05)


def test_it_writes_nothing_but_its_result_and_sends_nothing(tmp_path: Path) -> None:
    model = save(tmp_path / "m.onnx", "g (float[batch,4] x) => (float[batch,4] y) { y = Relu(x) }")
    request = {"provider": "CPUExecutionProvider", "threads": 1, "jobs": [{"model": str(model), "latency": latency()}]}
    (tmp_path / "request.json").write_text(json.dumps(request))
    home = tmp_path / "home"
    home.mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home)}
    command = [sys.executable, "-P", measure.__file__, str(tmp_path / "request.json"), str(tmp_path / "result.json")]
    subprocess.run(command, check=True, env=environment)
    assert list(home.iterdir()) == []  # ONNX Runtime's telemetry would leave its files here


def test_warm_up_of_a_slow_model_ends() -> None:
    class Slow:
        calls = 0

        def run(self, names: None, feeds: dict[str, Any]) -> None:
            import time

            self.calls += 1
            time.sleep(0.02)

    slow = Slow()
    measure.warm_up(slow, {}, 0.004)
    assert 2 <= slow.calls <= 3  # 40 ms, ten times what was asked, and not 20 calls


@pytest.mark.parametrize(
    ("text", "model", "features"),
    [
        ("model name : A CPU\nflags : fpu avx2 avx512_vnni amx_int8\n", "A CPU", {"avx2", "avx512_vnni", "amx_int8"}),
        ("Features : fp asimd asimddp i8mm\nCPU implementer : 0x41\nCPU part : 0xd0b\n", "implementer 0x41 part 0xd0b",
         {"neon", "dotprod", "i8mm"}),
    ],
)  # fmt: skip
def test_processors_are_read_from_linux(
    monkeypatch: pytest.MonkeyPatch, text: str, model: str, features: set[str]
) -> None:
    monkeypatch.setattr(measure, "_read", lambda path: text if path == "/proc/cpuinfo" else "")
    monkeypatch.setattr(sys, "platform", "linux")
    assert measure.machine()["cpu"] == model
    assert set(measure.machine()["features"]) == features


def test_processors_are_read_from_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"machdep.cpu.brand_string": "Apple M2", "hw.optional.arm.FEAT_DotProd": "1", "hw.optional.arm.AdvSIMD": "1"}
    monkeypatch.setattr(measure, "_sysctl", lambda name: told.get(name, ""))
    monkeypatch.setattr(sys, "platform", "darwin")
    assert measure.machine()["cpu"] == "Apple M2"
    assert measure.machine()["features"] == ["dotprod", "neon"]


def test_rows_are_filled_up_to_a_length_that_the_model_fixes() -> None:
    values = np.array([[1, 2], [3, 4]])
    assert measure.filled(values, [None, 4], True).tolist() == [[1, 2, 0, 0], [3, 4, 0, 0]]
    assert measure.filled(values, ["batch", "sequence"], True) is values
    assert measure.filled(values, [None, 4], False) is values
    assert measure.filled(values, [None, 2], True) is values
