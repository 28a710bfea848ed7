"""What measuring costs and how far it can be believed: times and memory against oracles that know nothing of us.

1. Our p50 over that of a bare loop of `InferenceSession.run` written by hand, on networks from 0.05 to 50 ms: paired
   and interleaved, each in fresh processes, pinned alike, with the same session options.
2. Our peak memory against what `/usr/bin/time -v`, and the system call `wait4`, say of the same process.
3. The counts of MLPerf's early stopping.

    python benchmarks/measuring.py
    chrt --rr 1 python benchmarks/measuring.py     (where others are at work on the machine; needs root)
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from common import Claim, finish, save_result
from onnx import TensorProto, helper, numpy_helper

from compress.profiling.early_stopping import smallest_sample
from compress.profiling.profile import turns
from compress.profiling.statistics import Ratio, Samples, percentile, ratio_interval
from compress.targets.jobs import run_jobs
from compress.targets.measuring.machine import available_cores
from compress.targets.programs import program_for
from compress.targets.reading import read_target
from compress.targets.settings import TargetSettings

OVERHEAD_LIMIT, MEMORY_LIMIT = 0.03, 0.05
SIZES = {"0.05 ms": (16, 22, 2), "0.5 ms": (32, 52, 2), "5 ms": (64, 50, 4), "50 ms": (96, 75, 7)}
"""About how long a call takes on one core of a server -> channels, height and width, convolutions."""
GNU_TIME = "/usr/bin/time"
BARE = """
import json, os, sys, time
model, core, seconds, warmup = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
os.sched_setaffinity(0, [core])
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
options.add_session_config_entry("session.inter_op.allow_spinning", "0")
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
shape = [1, *session.get_inputs()[0].shape[1:]]
image = {"input": numpy.random.default_rng(0).standard_normal(shape).astype("float32")}
until, calls = time.perf_counter() + warmup, 0
while time.perf_counter() < until or calls < 20:
    session.run(None, image)
    calls += 1
times, until = [], time.perf_counter() + seconds
while time.perf_counter() < until or len(times) < 5:
    start = time.perf_counter()
    session.run(None, image)
    times.append(time.perf_counter() - start)
print(json.dumps(times))
"""


def network(path: Path, channels: int, size: int, layers: int) -> Path:
    """Seeded 3 x 3 convolutions of so many channels on a square, rectified, then averaged."""
    generator = np.random.default_rng(0)
    nodes, weights, last = [], [], "input"
    for index in range(layers):
        inputs = 3 if index == 0 else channels
        weight = generator.standard_normal((channels, inputs, 3, 3)) / (9 * inputs) ** 0.5
        weights.append(numpy_helper.from_array(weight.astype(np.float32), f"w{index}"))
        nodes.append(helper.make_node("Conv", [last, f"w{index}"], [f"c{index}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{index}"], [f"r{index}"]))
        last = f"r{index}"
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["output"]))
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, size, size])
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", channels, 1, 1])
    graph = helper.make_graph(nodes, "network", [image], [output], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def ours(path: Path, target: TargetSettings) -> Samples:
    """The milliseconds of each call in one process, as a profile measures them."""
    request = {
        "batches": [1], "axes": {}, "warmup_seconds": target.warmup_seconds, "seconds": target.seconds,
        "minimum_calls": 5,
    }  # fmt: skip
    done, _ = run_jobs(target, {"m": {"model": str(path), "latency": request}})
    return np.asarray(done["m"]["runs"][0]["samples_ns"]) / 1e6


def by_hand(path: Path, target: TargetSettings) -> Samples:
    """The same by a loop that uses nothing of ours."""
    core = max(target.cores or available_cores())
    command = [sys.executable, "-c", BARE, str(path), str(core), str(target.seconds), str(target.warmup_seconds)]
    said = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    return np.asarray(json.loads(said.stdout)) * 1e3


def overhead(name: str, path: Path, target: TargetSettings) -> tuple[dict[str, Any], Ratio]:
    """A line on one network, and our p50 over the bare loop's."""
    contenders: list[Callable[[Path, TargetSettings], Samples]] = [ours, by_hand, by_hand]
    found: list[list[Samples]] = [[] for _ in contenders]
    for index in range(target.rounds):
        for turn in turns(len(contenders), index):
            found[turn].append(contenders[turn](path, target))
    p50 = [percentile(rounds, 50) for rounds in found]
    ratio = Ratio(p50[0] / p50[1], *ratio_interval(found[0], found[1]))
    line = {
        "network": name,
        "by hand, ms": f"{p50[1]:.4g}",
        "compress, ms": f"{p50[0]:.4g}",
        "compress / by hand": f"{ratio.value:.4f}",
        "95 %": f"{ratio.low:.4f} to {ratio.high:.4f}",
        "by hand / by hand": f"{p50[2] / p50[1]:.4f}",
        "rounds": target.rounds,
    }
    return line, ratio


def memory(name: str, path: Path, folder: Path) -> tuple[dict[str, Any], dict[str, float]]:
    """A line on one network, and by oracle how far our peak is from it, as a fraction."""
    latency = {"batches": [1], "axes": {}, "warmup_seconds": 0.0, "seconds": 0.1, "minimum_calls": 5}
    request = {"provider": "CPUExecutionProvider", "threads": 1, "jobs": [{"model": str(path), "latency": latency}]}
    (folder / "request.json").write_text(json.dumps(request))
    files = [str(program_for("onnxruntime")), str(folder / "request.json"), str(folder / "result.json")]
    program = [sys.executable, "-P", *files]

    def peak() -> int:
        result = json.loads((folder / "result.json").read_text())["jobs"][0]
        return int(result["runs"][0]["peak_bytes"])

    # A child's peak counts what its parent held before the exec, so that a small process starts it.
    small = "import os, sys; pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)"
    small += "; print(os.wait4(pid, 0)[2].ru_maxrss)"
    said = subprocess.run([sys.executable, "-S", "-c", small, *program], capture_output=True, text=True, check=True)
    told = {"wait4": (peak(), int(said.stdout) * 1024)}
    if shutil.which(GNU_TIME):
        said = subprocess.run([GNU_TIME, "-v", *program], capture_output=True, text=True, check=True)
        kilobytes = re.search(r"Maximum resident set size \(kbytes\): (\d+)", said.stderr)
        if kilobytes:
            told[f"{GNU_TIME} -v"] = (peak(), int(kilobytes[1]) * 1024)
    line = {"network": name}
    for oracle, (mine, theirs) in told.items():
        line |= {f"peak, MB ({oracle})": f"{theirs / 1e6:.1f}", f"compress / {oracle}": f"{mine / theirs:.4f}"}
    return line, {oracle: abs(mine / theirs - 1) for oracle, (mine, theirs) in told.items()}


def main() -> int:
    """Print and keep the table; 0 if every claim holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=16, help="fresh processes of each contender, interleaved")
    parser.add_argument("--seconds", type=float, default=0.3, help="measured time in each process")
    parser.add_argument("--core", type=int, help="the core to pin to; the last one unless given")
    arguments = parser.parse_args()
    cores = (available_cores()[-1],) if arguments.core is None else (arguments.core,)
    update = {"rounds": arguments.rounds, "seconds": arguments.seconds, "cores": cores}
    target = read_target("local").model_copy(update=update)
    lines, claims = [], []
    worst: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="compress-measuring-") as folder:
        for name, sizes in SIZES.items():
            path = network(Path(folder) / f"{name}.onnx", *sizes)
            line, ratio = overhead(name, path, target)
            held, apart = memory(name, path, Path(folder))
            lines.append({**line, **held})
            claims.append(
                Claim(f"{name}: p50 off a loop by hand", abs(ratio.value - 1), "<=", OVERHEAD_LIMIT, "{:.2%}")
            )
            worst = {oracle: max(value, worst.get(oracle, 0.0)) for oracle, value in apart.items()}
            print(lines[-1], flush=True)
    claims += [
        Claim(f"peak memory off {o}, at most", value, "<=", MEMORY_LIMIT, "{:.2%}") for o, value in worst.items()
    ]
    claims.append(Claim("calls for p90 at 99 % confidence", smallest_sample(90), "==", 64, "{:.0f}"))
    claims.append(Claim("calls for p99 at 99 % confidence", smallest_sample(99), "==", 662, "{:.0f}"))
    notes = ["one thread"]
    if hasattr(os, "sched_getscheduler") and os.sched_getscheduler(0) != os.SCHED_OTHER:
        notes.append("at real-time priority (`chrt --rr 1`), since others were at work on the machine")
    if f"{GNU_TIME} -v" not in worst:
        notes.append(f"{GNU_TIME} is not installed here: memory was held against wait4 alone")
    return save_result("measuring", lines, claims, notes)


if __name__ == "__main__":
    finish(main)
