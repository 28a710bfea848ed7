"""`kill -9` in the middle of epochs, in a real process, then the same command."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from compress.training.checkpoint import CHECKPOINT_SECONDS

SCRIPT = """
import sys, time
from pathlib import Path
import numpy as np, torch
from torch import nn
from compress.data.dataset import ArraySplit, Data
from compress.stage import Context
from compress.tasks.open import open_task
from compress.tasks.settings import TaskSettings
from compress.training.fit import fit
from compress.training.method import Supervised
from compress.training.settings import Recipe

steps_file, checkpoints, result, pause = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
g = np.random.default_rng(0)
def split(n):
    return ArraySplit(g.normal(size=(n, 1, 6, 6)).astype(np.float32), g.integers(0, 3, n))
data = Data(split(300), split(60), split(6), augmentation=({"flip": {}},))
torch.manual_seed(0)
layers = [nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(128, 3)]
network = nn.Sequential(*layers)
task = open_task(TaskSettings())
class Slow(Supervised):
    def after_step(self, progress):
        with open(steps_file, "a") as stream:
            stream.write(f"{progress.step}\\n")
        time.sleep(pause)
fit(network, data, task, Slow(task), Recipe(epochs=3, batch_size=20),
    context=Context(threads=2, checkpoints=Path(checkpoints)))
Path(result).write_bytes(b"".join(t.numpy().tobytes() for t in network.state_dict().values()))
"""


def command(folder: Path, name: str, pause: float) -> list[str]:
    script = folder / "script.py"
    script.write_text(SCRIPT)
    files = [folder / f"{name}.steps", folder / f"{name}.checkpoints", folder / f"{name}.weights"]
    return [sys.executable, str(script), *map(str, files), str(pause)]


@pytest.mark.timeout(120)
def test_a_killed_process_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    environment = {**os.environ, CHECKPOINT_SECONDS: "0.05"}
    subprocess.run(command(tmp_path, "whole", 0.0), env=environment, check=True)
    steps = tmp_path / "killed.steps"
    for least in (8, 24):  # in the middle of the first epoch, then of the second: 15 steps each
        process = subprocess.Popen(command(tmp_path, "killed", 0.02), env=environment)
        while not steps.exists() or int((steps.read_text().split("\n")[-2:-1] or ["0"])[0]) < least:
            assert process.poll() is None, "the process ended before it could be killed"
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    subprocess.run(command(tmp_path, "killed", 0.0), env=environment, check=True)
    made = [int(line) for line in steps.read_text().split()]
    again = [step for before, step in itertools.pairwise(made) if step <= before]
    assert len(again) <= 2
    assert 0 not in again, "it began anew instead of going on"
    assert set(made) == set(range(45))
    assert (tmp_path / "killed.weights").read_bytes() == (tmp_path / "whole.weights").read_bytes()
