"""Programs on a device: a real sshd on loopback, a real connection, and what is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

import compress
from compress.errors import CompressError, StageError, UsageError
from compress.targets import remote
from compress.targets.execution import Execution
from compress.targets.failures import UnreachableError
from compress.targets.jobs import run_jobs
from compress.targets.kinds import run_program
from compress.targets.target import facts_of, fingerprint
from tests.targets.ssh_server import Server, serving

MODEL = '<ir_version: 10, opset_import: ["" : 18]> g (float[batch,4] x) => (float[batch,4] y) { y = Relu(x) }'
LATENCY = {"batches": [1], "axes": {}, "warmup_seconds": 0.0, "seconds": 0.05, "minimum_calls": 5}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("sshd")) as found:
        yield found


@pytest.fixture(autouse=True)
def _closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(remote, "WAITS", (0.1, 0.3, 0.9))
    yield
    remote.close_all()


def relu(folder: Path) -> Path:
    onnx.save(parser.parse_model(MODEL), folder / "m.onnx")
    return folder / "m.onnx"


def program(folder: Path, body: str) -> Path:
    path = folder / "program.py"
    path.write_text(f"import json, os, sys\nasked = json.load(open(sys.argv[1]))\nresult = {{}}\n{body}\n"
                    "json.dump(result, open(sys.argv[2], 'w'))\n")  # fmt: skip
    return path


def test_answers_and_times_come_from_the_device_which_is_left_clean(server: Server, tmp_path: Path) -> None:
    inputs = np.random.default_rng(0).standard_normal((7, 4)).astype(np.float32)
    np.save(tmp_path / "x.npy", inputs)
    answers = {"inputs": {"x": str(tmp_path / "x.npy")}, "output": str(tmp_path / "y.npy"), "batch": 3}
    jobs = {"m": {"model": str(relu(tmp_path)), "latency": LATENCY, "answers": answers}}
    done, told = run_jobs(server.target(), jobs)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), np.maximum(inputs, 0))
    assert len(done["m"]["runs"][0]["samples_ns"]) >= 5
    assert told["versions"]["onnxruntime"] == onnxruntime.__version__
    assert len(server.left()) == 1
    assert [path.name for path in server.folder.glob("*/outputs/*")] == []
    remote.close_all()
    assert server.left() == []


def test_files_are_sent_once_and_the_program_finds_them_under_their_names(server: Server, tmp_path: Path) -> None:
    target, data = server.target(), tmp_path / "data.bin"
    data.write_bytes(os.urandom(3 * 2**20))
    code = program(tmp_path, "result['size'] = os.path.getsize(asked['data']); result['path'] = asked['data']\n"
                             "open(asked['out'], 'wb').write(open(asked['data'], 'rb').read()[::-1])")  # fmt: skip
    request = {"data": str(data), "out": str(tmp_path / "out.bin")}
    sent: list[int] = []
    progress = Counting(sent)
    execution = Execution(code, request, [data], [tmp_path / "out.bin"], progress)
    for _ in range(2):
        got = run_program(target, execution)
    assert got["size"] == data.stat().st_size
    assert got["path"] != str(data)
    assert Path(got["path"]).name == "data.bin"
    assert (tmp_path / "out.bin").read_bytes() == data.read_bytes()[::-1]
    assert sum(sent) == data.stat().st_size + code.stat().st_size


WAKES = """
import glob, re, time
def wakes():
    texts = [open(path).read() for path in glob.glob(f"/proc/{os.getppid()}/task/*/status")]
    return sum(int(count) for text in texts for count in re.findall(r"(?m)^voluntary_ctxt_switches:\\s+(\\d+)", text))
before = wakes()
for _ in range(5):
    print("progress x", flush=True)
    time.sleep(0.4)
result["wakes"] = wakes() - before
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="only Linux tells how often a process woke")
def test_the_device_sleeps_while_it_measures_unless_somebody_listens(server: Server, tmp_path: Path) -> None:
    code, said = program(tmp_path, WAKES), list[str]()
    assert run_program(server.target(), Execution(code, {}))["wakes"] <= 2
    assert run_program(server.target(), Execution(code, {}, told=said.append))["wakes"] >= 4
    assert said == ["progress x"] * 5


class Counting:
    """Collects what is said to be sent."""

    def __init__(self, sent: list[int]) -> None:
        self.sent = sent
        self.said: list[str] = []

    def task(self, description: str, total: int | None) -> Counting:
        return self

    def __enter__(self) -> Callable[..., None]:
        return lambda steps=1, note="": self.sent.append(steps)

    def __exit__(self, *_: object) -> None:
        pass

    def say(self, message: str) -> None:
        self.said.append(message)


def test_weights_beside_a_model_go_with_it(server: Server, tmp_path: Path) -> None:
    weight = np.arange(16, dtype=np.float32).reshape(4, 4)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)])
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    np.save(tmp_path / "x.npy", np.eye(4, dtype=np.float32))
    answers = {"inputs": {"x": str(tmp_path / "x.npy")}, "output": str(tmp_path / "y.npy"), "batch": 4}
    run_jobs(server.target(), {"m": {"model": str(tmp_path / "m.onnx"), "answers": answers}})
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), weight)


def test_a_lost_connection_is_tried_again_and_sends_nothing_twice(server: Server, tmp_path: Path) -> None:
    once = tmp_path / "once"
    code = program(tmp_path, f"if not os.path.exists({str(once)!r}):\n    open({str(once)!r}, 'w').close()\n"
                             "    import time; time.sleep(60)\nresult['done'] = True")  # fmt: skip
    data, progress = tmp_path / "data.bin", Counting([])
    data.write_bytes(os.urandom(2**21))
    cutter = threading.Thread(target=lambda: server.cut() if wait_for(once.exists) else None)
    cutter.start()
    got = run_program(server.target(), Execution(code, {}, [data], progress=progress))
    cutter.join()
    assert got == {"done": True}
    assert progress.said == ["the connection to device is lost; try 2 in 0 s"]
    assert sum(progress.sent) == data.stat().st_size + code.stat().st_size
    remote.close_all()
    assert server.left() == []


def test_a_device_that_does_not_come_back_is_said_to(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "server"
    folder.mkdir()
    with serving(folder) as going:
        facts_of(going.target())
        going.cut()
    with pytest.raises(
        UnreachableError, match=r"target 'device' \(device\): nothing answers there.*Connection refused"
    ):
        run_program(going.target(), Execution(program(tmp_path, ""), {}))


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


CLIENT = """
import sys
from pathlib import Path
from compress.targets import remote
from compress.targets.settings import TargetSettings
from compress.targets.kinds import run_program
from compress.targets.execution import Execution
remote.GRACE_SECONDS = 0.5
target = TargetSettings.model_validate_json(sys.argv[1])
run_program(target, Execution(Path(sys.argv[2]), {}))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_an_interrupted_and_a_killed_run_leave_a_clean_device(
    server: Server, tmp_path: Path, number: signal.Signals
) -> None:
    begun = tmp_path / "begun"
    code = program(tmp_path, f"open({str(begun)!r}, 'w').write(str(os.getpid()))\nimport time; time.sleep(60)")
    environment = {**os.environ, "PYTHONPATH": str(Path(compress.__file__).parents[1])}
    command = [sys.executable, "-c", CLIENT, server.target().model_dump_json(), str(code)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    assert wait_for(lambda: begun.exists() and begun.read_text() != "")
    assert len(server.left()) == 1
    process.send_signal(number)
    assert process.wait(20) == -number
    assert wait_for(lambda: server.left() == [])
    assert not Path(f"/proc/{begun.read_text()}").exists()


def test_what_a_killed_device_program_has_left_is_removed_by_the_next_run(server: Server, tmp_path: Path) -> None:
    left = server.folder / "compress-0123456789abcdef"
    left.mkdir()
    (left / ".lock").write_text("1")
    (left / "files").mkdir()
    mine = server.folder / "my-own-notes"
    mine.mkdir()
    facts_of(server.target())
    assert not left.exists()
    assert mine.exists()
    mine.rmdir()


# What can be wrong: one message each


def old_python(folder: Path) -> str:
    """A Python that says it is 3.6, which is what counts."""
    path = folder / "python3.6"
    path.write_text("#!/bin/sh\necho compress-python 3.6.9\n")
    path.chmod(0o755)
    return str(path)


def wrong(server: Server, folder: Path, what: str) -> dict[str, object]:
    """Settings of a target that is wrong in one way."""
    (folder / "none").write_text("")
    changes: dict[str, dict[str, object]] = {
        "key": {"ssh_config": str(server.with_config(folder / "key", IdentityFile=str(server.keys / "stranger")))},
        "name": {"ssh_config": str(server.with_config(folder / "name", Hostname="no-such-host.invalid"))},
        "port": {"host": "device:1"},
        "host key": {"ssh_config": str(server.with_config(folder / "known", UserKnownHostsFile=str(folder / "none")))},
        "python": {"python": "/nonexistent/python"},
        "old": {"python": old_python(folder)},
        "packages": {"python": f"{sys.executable} -S"},
        "threads": {"threads": 4096},
    }
    return changes[what]


@pytest.mark.parametrize(
    ("what", "kind", "message"),
    [
        ("key", UsageError, r"it refuses every key of yours: put one there with `ssh-copy-id device`"),
        ("name", UnreachableError, r"no machine of that name is known: check `host:`"),
        ("port", UnreachableError, r"nothing answers there: is it the right machine and port"),
        ("host key", UsageError, r"its host key is not known here: connect once by hand \(`ssh device`\)"),
        ("python", UsageError, r"`/nonexistent/python` does not run there .*install Python 3\.9 or later"),
        ("old", UsageError, r"is Python 3\.6\.9, and 3\.9 is the oldest that will do"),
        ("packages", UsageError, r"its Python has no numpy: run there `.* -m pip install numpy onnxruntime`"),
        ("threads", UsageError, r"4096 threads asked for, but only \d+ cores may be used there"),
    ],
)
def test_one_message_says_what_is_wrong(
    server: Server, tmp_path: Path, what: str, kind: type[CompressError], message: str
) -> None:
    target = server.target(**wrong(server, tmp_path, what))
    with pytest.raises(CompressError, match=message) as caught:
        run_jobs(target, {"m": {"model": str(relu(tmp_path)), "latency": LATENCY}})
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == (6 if kind is UnreachableError else 2)
    remote.close_all()
    assert server.left() == []


def test_a_full_disk_is_said_and_leaves_nothing(server: Server, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.decode().strip()}")
    data = tmp_path / "data.bin"
    data.write_bytes(os.urandom(2**20))
    more = tmp_path / "more.bin"
    more.write_bytes(os.urandom(2**21))
    try:
        target = server.target(folder=str(small))
        facts_of(target)
        for files in ([more], [data]):
            body = "open(os.path.join(os.environ['TMPDIR'], 'x'), 'wb').write(bytes(2**21))" if files == [data] else ""
            with pytest.raises(StageError, match=r"its disk is full .*free some space there, name a folder with room"):
                run_program(target, Execution(program(tmp_path, body), {}, files if files == [more] else []))
        remote.close_all()
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("os.kill(os.getpid(), 9)", "was killed; most often that means too little memory"),
        ("raise ValueError('no such thing')", "failed with status 1: ValueError: no such thing"),
    ],
)
def test_a_program_that_ends_early_is_explained(server: Server, tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(StageError, match=message):
        run_program(server.target(), Execution(program(tmp_path, body), {}))


def test_a_file_that_is_no_model_there_is_said_by_name(server: Server, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"nothing")
    with pytest.raises(UsageError, match=r"m: ONNX Runtime \S+ cannot load it"):
        run_jobs(server.target(), {"m": {"model": str(tmp_path / "m.onnx"), "latency": LATENCY}})


def test_a_device_that_is_away_is_planned_with_as_it_was_last(server: Server) -> None:
    before = fingerprint(server.target())
    remote.close_all()
    away = server.target(rounds=3, threads=1)
    assert fingerprint(away) == before
    assert fingerprint(server.target(host="device:1")) == "unknown"
