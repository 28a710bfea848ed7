from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from compress.training.processes import Ranks, broadcast_object, gather_arrays, join, launched_ranks, leave


def test_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert launched_ranks() == Ranks(0, 1, 0)
    assert join("auto") == Ranks(0, 1, 0)
    assert broadcast_object("alone") == "alone"
    assert gather_arrays(np.arange(3), 1).tolist() == [0, 1, 2]
    leave()


def test_ranks_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "5"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert launched_ranks() == Ranks(5, 8, 1)
    assert not launched_ranks().is_main
    assert broadcast_object("a rehearsal before the others are met") == "a rehearsal before the others are met"


def test_asking_for_ranks_is_light() -> None:
    code = "import sys, compress.training.processes as p; p.launched_ranks(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
