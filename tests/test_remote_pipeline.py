"""A whole pipeline with this machine and one behind a real sshd: same artifacts, its own answers, and nothing lost."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from compress.cli import main
from compress.targets import remote
from compress.targets import target as targets
from compress.targets.connection import Connection
from compress.targets.settings import TargetSettings
from tests.targets.ssh_server import Server, serving

QUICK = {"rounds": 4, "seconds": 0.01, "warmup_seconds": 0, "throughput_seconds": 0.01}
PIPELINE: dict[str, Any] = {
    "name": "digits",
    "data": {"source": {"digits": {}}, "limit": {"train": 64, "validation": 32, "test": 32}},
    "threads": 1,
    "models": {"net": {"zoo": "resnet8", "width": 0.5}},
    "stages": [{"train": {"epochs": 1}}, {"export": {"emit": ["fp32"]}}],
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("sshd")) as found:
        yield found


@pytest.fixture(scope="module")
def finished(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on this machine alone, with its store."""
    folder = tmp_path_factory.mktemp("alone")
    with contextlib.chdir(folder):
        assert run([{"name": "local", **QUICK}]) == 0
    return folder


@pytest.fixture
def place(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where what was done on this machine is there already, and a lost connection is not waited for long."""
    monkeypatch.chdir(finished)
    monkeypatch.setattr(remote, "WAITS", (0.05,))
    monkeypatch.setattr(targets, "AWAY_SECONDS", 0.0)
    return finished


def run(places: list[dict[str, Any]], *options: str, verb: str = "run") -> int:
    """The exit status of a run of the pipeline on some targets."""
    Path("p.yaml").write_text(yaml.safe_dump({**PIPELINE, "targets": places}))
    with pytest.raises(SystemExit) as end:
        main([verb, "p.yaml", *options, *(["--skip-rehearsal"] if verb == "run" else [])])
    return int(end.value.code or 0)


def settings(target: TargetSettings, **more: Any) -> dict[str, Any]:
    asked = target.model_dump(mode="json", exclude_defaults=True)
    return {**asked, **QUICK, **more}


def report() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("runs/digits/report.json").read_text())
    return found


def files(content: dict[str, Any]) -> dict[str, str]:
    return {row["name"]: row["sha256"] for row in content["models"]}


def test_a_second_target_changes_no_artifact_and_gives_answers_of_its_own(place: Path, server: Server) -> None:
    alone = report()
    device = settings(server.target(), evaluate={"samples": 20})
    assert run([{"name": "local", **QUICK}, device]) == 0
    both = report()
    assert files(both) == files(alone)
    onnx = [row for row in both["models"] if row["kind"] == "onnx"]
    for row in onnx:
        assert {entry["target"] for entry in row["latency"]} == {"local", "device"}
        told = row["metrics_by_target"]
        assert set(told) == {"local", "device"}
        assert (20 * told["device"]["accuracy"]) % 1 == pytest.approx(0, abs=1e-9)
    said = "accuracy on device is measured on 20 of 32 validation and 20 of 32 test examples"
    assert any(note.startswith(said) for note in both["notes"])
    assert str(server.port) not in json.dumps(both)
    assert server.left() == []


def test_the_device_gives_the_answers_that_this_machine_gives(place: Path, server: Server) -> None:
    assert run([settings(server.target(), name="all"), {"name": "local", **QUICK}]) == 0
    rows = [row for row in report()["models"] if row["kind"] == "onnx"]
    for row in rows:  # the same runtime on the same processor
        told = row["metrics_by_target"]
        assert told["all"]["accuracy"] == told["local"]["accuracy"]
    assert server.left() == []


def cut_when(server: Server, ready: Any, again: bool) -> threading.Thread:
    """Cut the connection once `ready` says so; `again`: from then on as soon as there is one."""

    def work() -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end and not ready():
            time.sleep(0.01)
        server.cut()
        while again and time.monotonic() < end and not stop.is_set():
            server.cut()
            time.sleep(0.01)

    stop = threading.Event()
    thread = threading.Thread(target=work)
    thread.stop = stop.set  # type: ignore[attr-defined]
    thread.start()
    return thread


class Rounds:
    """Counts the processes that measure on the device, by its own connection's requests."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        asked = Connection.ask

        def ask(connection: Any, request: Any, *more: Any) -> Any:
            jobs = request.get("request", {}).get("jobs", [{}])
            self.count += "latency" in jobs[0]
            return asked(connection, request, *more)

        monkeypatch.setattr(Connection, "ask", ask)


def test_a_connection_that_is_cut_while_profiling_is_survived(
    place: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = Rounds(monkeypatch)
    thread = cut_when(server, lambda: rounds.count >= 4, again=False)
    assert run([{"name": "local", **QUICK}, settings(server.target(), name="cut", rounds=5)]) == 0
    thread.join()
    assert all("cut" in {entry["target"] for entry in row["latency"]} for row in report()["models"] if row["latency"])
    assert server.left() == []


def test_a_device_that_is_lost_while_profiling_keeps_what_was_measured(
    place: Path, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rounds = Rounds(monkeypatch)
    lost = settings(server.target(), name="lost", rounds=6)
    monkeypatch.setattr(remote, "GRACE_SECONDS", 0.3)
    thread = cut_when(server, lambda: rounds.count >= 10, again=True)
    try:
        assert run([{"name": "local", **QUICK}, lost]) == 6
    finally:
        thread.stop()  # type: ignore[attr-defined]
        thread.join()
    said = "lost was lost while it measured: its times are of "
    assert said in capsys.readouterr().err
    assert any(note.startswith(said) for note in report()["notes"])
    measured = [e for row in report()["models"] for e in row["latency"] if e["target"] == "lost"]
    assert {len(entry["rounds_ms"]) for entry in measured} <= {2, 3, 4}
    assert "127.0.0.1" not in json.dumps(report())
    assert len(measured) == len([row for row in report()["models"] if row["kind"] == "onnx"])
    end = time.monotonic() + 10
    while server.left() and time.monotonic() < end:
        time.sleep(0.05)
    assert server.left() == []
    assert run([{"name": "local", **QUICK}, lost]) == 0  # what is missing is measured, and the rest reused
    again = [e for row in report()["models"] for e in row["latency"] if e["target"] == "lost"]
    assert all(len(entry["rounds_ms"]) == 6 for entry in again)
    assert {step["name"] for step in report()["steps"] if not step["reused"]} == {"profile on lost"}


def test_a_device_that_is_away_costs_the_others_nothing(
    place: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = report()
    away = settings(server.target(host="device:1"), name="away", rounds=7)
    assert run([away, {"name": "local", **QUICK}]) == 6
    said = capsys.readouterr().err
    assert "target 'away' (device): nothing answers there" in said
    assert "Traceback" not in said
    assert {entry["target"] for row in report()["models"] for entry in row["latency"]} == {"local"}
    assert files(report()) == files(alone)
    assert run([away]) == 6  # nothing else to measure on: no report
    assert run([away, {"name": "local", **QUICK}], verb="plan") == 0
    planned = capsys.readouterr().out
    assert "away: is not reachable: target 'away' (device): nothing answers there" in planned
    assert "[ssh: connect to host 127.0.0.1 port 1: Connection refused]" in planned


def test_a_device_that_refuses_us_is_said_before_any_work(
    place: Path, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = server.with_config(tmp_path / "ssh_config", IdentityFile=str(server.keys / "stranger"))
    wrong = settings(server.target(ssh_config=str(config)), name="wrong")
    assert run([{"name": "local", **QUICK}, wrong], "--set", "seed=7") == 2
    said = capsys.readouterr().err
    assert "it refuses every key of yours" in said
    assert "train" not in said.lower()


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_shipped_pipeline_gives_the_same_files_with_a_device(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = yaml.safe_load((Path(__file__).parents[1] / "pipelines" / "digits.yaml").read_text())
    for item in shipped["stages"]:
        for verb in ("train", "distill", "quantize"):
            if verb in item:
                item[verb]["epochs"] = 2
    shipped["stages"][2]["prune"]["recover"]["epochs"] = 1
    del shipped["budget"]
    digests = []
    for number, places in enumerate(([{"name": "local"}], [{"name": "local"}, settings(server.target())])):
        Path("p.yaml").write_text(yaml.safe_dump({**shipped, "threads": 1, "targets": places}))
        with pytest.raises(SystemExit) as end:
            main(["run", "p.yaml", "--store", str(tmp_path / f"store-{number}"), "--skip-rehearsal"])
        assert not end.value.code
        digests.append(files(report()))
    assert digests[0] == digests[1]
    rows = [row for row in report()["models"] if row["kind"] == "onnx"]
    assert {row["name"].rpartition("-ort-")[2] for row in rows} >= {"x86", "arm"}
    for row in rows:
        assert row["metrics_by_target"]["device"]["accuracy"] == row["metrics_by_target"]["local"]["accuracy"]
    assert server.left() == []
