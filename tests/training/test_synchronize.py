"""Two real processes over gloo against the same arithmetic in one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import distributed, nn

from compress.training.synchronize import averaged_buffers, gather_rows, sum_gradients

SCRIPT = """
import json, sys
from pathlib import Path
import numpy as np, torch
from compress.training.processes import broadcast_object, gather_arrays, join, launched_ranks, leave
from compress.training.synchronize import average_buffers, averaged_buffers, gather_rows, sum_gradients

ranks = join("cpu")
assert ranks == launched_ranks() and ranks.world_size == 2
torch.manual_seed(0)
inputs, first = torch.randn(5, 3), torch.nn.Linear(3, 2)
unused = torch.nn.Parameter(torch.zeros(2))
own = inputs[:3] if ranks.rank == 0 else inputs[3:]
loss = first(own).square().mean()
(loss * (len(own) / 5)).backward()
sum_gradients([*first.parameters(), unused])
third = torch.tensor(1 / 3)
buffers = [own.mean(0), third.clone(), torch.tensor(7 + 0 * ranks.rank), torch.tensor([True, False]),
           torch.tensor([], dtype=torch.float32), torch.tensor(float("inf")), torch.tensor(10 * ranks.rank)]
mean = average_buffers(buffers, loss, len(own))
result = {
    "gradient": first.weight.grad.tolist(), "unused": unused.grad is None, "loss": float(mean),
    "mean": buffers[0].tolist(), "same": bool(torch.equal(buffers[1], third)), "counter": int(buffers[2]),
    "switch": buffers[3].tolist(), "empty": list(buffers[4].shape), "infinite": float(buffers[5]) == float("inf"),
    "rounded": int(buffers[6]), "told": broadcast_object({"rank": ranks.rank}),
    "gathered": gather_arrays(np.full((1 + ranks.rank, 2), ranks.rank), 2).tolist(),
    "gathered_from_one": gather_arrays(np.ones((1 - ranks.rank, 2)), 2).tolist(),
    "rows": gather_rows(own.requires_grad_()).tolist(), "numbers": gather_rows(torch.arange(2 - ranks.rank)).tolist(),
}
Path(sys.argv[1], f"{ranks.rank}.json").write_text(json.dumps(result))
leave()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.timeout(120)
def test_two_processes_compute_what_one_would(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), str(tmp_path)],
            env={**os.environ, **place, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    assert [process.wait() for process in processes] == [0, 0]
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first == second

    torch.manual_seed(0)
    inputs, layer = torch.randn(5, 3), torch.nn.Linear(3, 2)
    loss = layer(inputs).square().mean()
    loss.backward()
    assert layer.weight.grad is not None
    assert torch.tensor(first["gradient"]) == pytest.approx(layer.weight.grad, rel=1e-5)
    assert first["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert first["mean"] == pytest.approx(inputs.mean(0).tolist(), rel=1e-5, abs=1e-6)
    assert first["unused"], "a parameter without a gradient must not be moved by weight decay"
    assert first["same"], "equal values must stay equal to the last bit"
    assert (first["counter"], first["switch"], first["empty"], first["infinite"]) == (7, [True, False], [0], True)
    assert first["rounded"] == 4
    assert first["told"] == {"rank": 0}
    assert first["gathered"] == [[0, 0], [1, 1], [1, 1]]
    assert first["gathered_from_one"] == [[1, 1]]
    assert first["rows"] == inputs.tolist()
    assert first["numbers"] == [0, 1, 0]


def test_modules_may_keep_their_buffers_out_of_the_average() -> None:
    class Apart(nn.Module):
        averaged = False

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("bank", torch.zeros(2))
            self.norm = nn.BatchNorm1d(2)

    norm = nn.BatchNorm1d(3)
    found = averaged_buffers(nn.Sequential(norm, Apart()), nn.ModuleList([norm]))
    assert [tuple(buffer.shape) for buffer in found] == [(3,), (3,), (), (2,), (2,), ()]
    assert found[0] is norm.running_mean


def test_one_process_gathers_its_own_rows() -> None:
    rows = torch.arange(6.0).reshape(3, 2).requires_grad_()
    assert torch.equal(gather_rows(rows), rows)
    assert not gather_rows(rows).requires_grad


@pytest.mark.parametrize("step", [1, -1])
def test_gradients_travel_type_by_type_in_the_order_of_the_parameters(
    step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another order in each process they would be added to others' of another type."""
    sent: list[tuple[torch.dtype, int]] = []
    monkeypatch.setattr(distributed, "all_reduce", lambda flat: sent.append((flat.dtype, len(flat))))
    kinds = [torch.float64, torch.bfloat16, torch.float32, torch.float16][::step]
    parameters = [torch.zeros(2, dtype=kind, requires_grad=True) for kind in [*kinds, torch.float32]]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    sum_gradients(parameters)
    assert sent == [(kind, 4 if kind == torch.float32 else 2) for kind in kinds]
