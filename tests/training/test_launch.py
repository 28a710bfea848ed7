"""Stages run by two real processes that `accelerate launch` starts, on the digits."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from compress.bundle import Bundle, Kind
from compress.data.settings import read_data_settings
from compress.errors import StageError, UsageError
from compress.models.settings import ModelSettings
from compress.models.stage import Build
from compress.stage import Context
from compress.training.checkpoint import CHECKPOINT_SECONDS
from compress.training.launch import run_in_processes
from compress.training.stage import Train

pytestmark = pytest.mark.timeout(240)
EPOCHS = 6


@pytest.fixture(scope="module")
def context() -> Context:
    return Context(seed=0, device="cpu", threads=2, data=read_data_settings("digits", Path.cwd()))


@pytest.fixture(scope="module")
def student(context: Context, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("student")
    Build(name="student", model=ModelSettings(zoo="resnet8")).run({}, folder, context)
    return Bundle(Kind.TORCH, folder)


def digest(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def by_two(student: Bundle, context: Context, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """What two undisturbed processes write, and its validation accuracy."""
    out = tmp_path_factory.mktemp("by-two")
    metrics = run_in_processes(Train(epochs=EPOCHS), {"source": student}, out, context, 2)
    return out, metrics["validation"]["accuracy"]


def test_two_processes_reach_the_accuracy_of_one(
    student: Bundle, context: Context, by_two: tuple[Path, float], tmp_path: Path
) -> None:
    out, accuracy = by_two
    one = Train(epochs=EPOCHS).run({"source": student}, tmp_path, replace(context, threads=1))
    assert accuracy == pytest.approx(one["validation"]["accuracy"], abs=0.01)
    assert digest(out).keys() == digest(tmp_path).keys()


@pytest.mark.long  # with teachers the same is shown by tests/distillation/test_launch.py
def test_the_first_losses_agree_with_batch_norm_frozen(student: Bundle, context: Context, tmp_path: Path) -> None:
    stage = Train(epochs=1, freeze_batch_norm=True)
    alone, together = tmp_path / "alone", tmp_path / "together"
    alone.mkdir()
    together.mkdir()
    one = stage.run({"source": student}, alone, replace(context, threads=1))["training"]["losses"]
    two = run_in_processes(stage, {"source": student}, together, context, 2)["training"]["losses"]
    assert len(one) >= 10
    assert two[:10] == pytest.approx(one[:10], abs=1e-4)


PARENT = """
import sys
from pathlib import Path
from compress.bundle import Bundle, Kind
from compress.data.settings import read_data_settings
from compress.stage import Context
from compress.training.launch import run_in_processes
from compress.training.stage import Train

source, out, checkpoints, epochs = sys.argv[1:]
context = Context(seed=0, device="cpu", threads=2, data=read_data_settings("digits", Path.cwd()),
                  checkpoints=Path(checkpoints))
run_in_processes(Train(epochs=int(epochs)), {"source": Bundle(Kind.TORCH, Path(source))}, Path(out), context, 2)
"""


@pytest.mark.parametrize("by", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.long)])
def test_workers_end_with_their_parent_and_the_next_run_goes_on(
    by: signal.Signals, student: Bundle, context: Context, by_two: tuple[Path, float], tmp_path: Path
) -> None:
    script, out, checkpoints = tmp_path / "parent.py", tmp_path / "out", tmp_path / "checkpoints"
    script.write_text(PARENT)
    out.mkdir()
    call = [sys.executable, str(script), str(student.path), str(out), str(checkpoints), str(EPOCHS)]
    parent = subprocess.Popen(call, env={**os.environ, CHECKPOINT_SECONDS: "0.1"}, stderr=subprocess.DEVNULL)
    while not list(checkpoints.glob("step-*")):
        assert parent.poll() is None, "the parent ended before it could be stopped"
        time.sleep(0.02)
    children = psutil.Process(parent.pid).children(recursive=True)
    parent.send_signal(by)
    assert parent.wait() == -by
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive
    assert not list(out.iterdir())
    run_in_processes(Train(epochs=EPOCHS), {"source": student}, out, replace(context, checkpoints=checkpoints), 2)
    assert digest(out) == digest(by_two[0])


def test_a_users_error_comes_back_as_it_was(student: Bundle, context: Context, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be shared by 2 processes: raise `batch_size`"):
        run_in_processes(Train(epochs=1, batch_size=1), {"source": student}, tmp_path, context, 2)
    assert not list(tmp_path.iterdir())


def test_a_killed_worker_is_a_failed_stage(
    student: Bundle, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "compress.training.launch.launch_command",
        lambda job, processes, threads: [sys.executable, "-c", "import os; print('last words'); os._exit(7)"],
    )
    with pytest.raises(StageError, match=r"status 7(.|\n)*last words"):
        run_in_processes(Train(epochs=1), {"source": student}, tmp_path, context, 2)
