"""Distillation by two real processes, on the digits."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from compress.bundle import Bundle, Kind
from compress.data.settings import read_data_settings
from compress.distillation.stage import Distill
from compress.models.settings import ModelSettings
from compress.models.stage import Build
from compress.stage import Context
from compress.training.launch import run_in_processes

pytestmark = pytest.mark.timeout(240)


def test_the_first_losses_from_kept_answers_are_those_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = Context(seed=0, device="cpu", threads=2, data=read_data_settings("digits", Path.cwd()))
    inputs = {}
    for role, zoo in (("source", "resnet8"), ("teacher", "resnet14")):
        folder = tmp_path / role
        folder.mkdir()
        Build(name=role, model=ModelSettings(zoo=zoo, width=0.25)).run({}, folder, context)
        inputs[role] = Bundle(Kind.TORCH, folder)
    stage = Distill.model_validate({"teacher": "t", "epochs": 2, "freeze_batch_norm": True, "cache": {"views": 1}})
    losses, caches = [], []
    for processes in (1, 2):
        cache, out = tmp_path / f"cache-{processes}", tmp_path / f"out-{processes}"
        monkeypatch.setenv("COMPRESS_CACHE", str(cache))
        out.mkdir()
        if processes == 1:
            metrics = stage.run(inputs, out, replace(context, threads=1))
        else:
            metrics = run_in_processes(stage, inputs, out, context, processes)
        losses.append(metrics["training"]["losses"])
        caches.append(sorted(path.relative_to(cache) for path in (cache / "teachers").rglob("*") if path.is_file()))
    assert len(losses[0]) >= 10
    assert losses[1][:10] == pytest.approx(losses[0][:10], abs=1e-4)
    assert caches[0] == caches[1]
    assert len(caches[0]) > 2


SCRIPT = """
import json, sys
from pathlib import Path
import numpy as np, torch
from torch import nn
from compress.data.dataset import ArraySplit, Data
from compress.distillation.distill import distill
from compress.distillation.method import Distillation
from compress.stage import Context
from compress.tasks.open import open_task
from compress.tasks.settings import TaskSettings
from compress.training.processes import join, leave
from compress.training.settings import Recipe

ranks = join("cpu")
generator = np.random.default_rng(0)
def split(n):
    return ArraySplit(generator.normal(size=(n, 8)).astype(np.float32), generator.integers(0, 3, n))
data = Data(split(50), split(12), split(12), fingerprint="noise")
torch.manual_seed(0)
student, teacher = (nn.Sequential(nn.Linear(8, w), nn.BatchNorm1d(w), nn.ReLU(), nn.Linear(w, 3)) for w in (4, 6))
terms = []
modules = Distillation.modules
def noted(self):
    terms.append(modules(self))
    return terms[0]
Distillation.modules = noted
losses = [{"crd": {"negatives": 10, "width": 5}}, {"task": {"weight": 0.5}}]
context = Context(seed=0, device="cpu", threads=1, rank=ranks.rank, world_size=ranks.world_size)
distill(student, teacher, data, open_task(TaskSettings()), Recipe(epochs=2, batch_size=10), losses, context)
bank = terms[0][0].bank
found = {name: tensor.tolist() for name, tensor in (*terms[0].state_dict().items(), *student.state_dict().items())}
lengths = [float(x) for x in bank.student_bank.norm(dim=1)]
Path(sys.argv[1], f"{ranks.rank}.json").write_text(json.dumps({"state": found, "lengths": lengths}))
leave()
"""


def test_banks_are_the_same_in_all_processes_and_of_unit_length(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), str(tmp_path)],
            env={**os.environ, **place, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    assert [process.wait() for process in processes] == [0, 0]
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first["state"] == second["state"]
    assert first["lengths"] == pytest.approx([1.0] * 50, abs=1e-5), "each example was in some step"
