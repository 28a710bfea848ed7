from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from compress.errors import UsageError
from compress.models.weights import fill, load_weights


def _network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2))


def _prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{key}": value for key, value in state.items()}


def _equal(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().items(), second.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


NESTINGS: dict[str, Any] = {
    "plain": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3, "best": 0.9},
    "model": lambda state: {"model": state, "args": {"lr": 0.1}},
    "twice": lambda state: {"checkpoint": 1, "model": {"state_dict": state}},
    "ema": lambda state: {"ema": state, "epoch": 1},
    "model before ema": lambda state: {"ema": {k: v + 1 for k, v in state.items()}, "model": state},
    "DataParallel": lambda state: {"state_dict": _prefixed(state, "module.")},
    "compiled DataParallel": lambda state: _prefixed(state, "_orig_mod.module."),
}


@pytest.mark.parametrize("nesting", NESTINGS)
def test_nests_and_prefixes_are_opened(nesting: str, tmp_path: Path) -> None:
    source, target = _network(1), _network(2)
    torch.save(NESTINGS[nesting](source.state_dict()), tmp_path / "w.th")
    load_weights(target, tmp_path / "w.th")
    assert _equal(source, target)


def test_safetensors_are_read(tmp_path: Path) -> None:
    source, target = _network(1), _network(2)
    save_file(_prefixed(source.state_dict(), "module."), tmp_path / "w.safetensors")
    load_weights(target, tmp_path / "w.safetensors")
    assert _equal(source, target)


def test_all_differences_are_listed_and_nothing_is_changed(tmp_path: Path) -> None:
    state = dict(_network(1).state_dict())
    del state["0.bias"]
    state["extra.weight"] = torch.zeros(1)
    state["3.weight"] = torch.zeros(5, 12)
    state["3.bias"] = torch.zeros(2, dtype=torch.int64)
    torch.save(state, tmp_path / "w.pt")
    target = _network(2)
    with pytest.raises(UsageError) as caught:
        load_weights(target, tmp_path / "w.pt")
    text = str(caught.value)
    assert "missing in the file (1):\n    0.bias" in text
    assert "not in the network (1):\n    extra.weight" in text
    assert "3.weight: (5, 12) in the file, (2, 12) in the network" in text
    assert "3.bias: torch.int64 in the file, torch.float32 in the network" in text
    assert _equal(target, _network(2))


def test_a_file_without_counters_sets_them_to_zero_but_a_lost_counter_is_a_fault() -> None:
    state = dict(_network(1).state_dict())
    counter = state.pop("1.num_batches_tracked")
    target = _network(2)
    target.state_dict()["1.num_batches_tracked"].fill_(7)
    fill(target, state, "old")
    assert target.state_dict()["1.num_batches_tracked"] == 0
    two = nn.Sequential(_network(1), _network(2))
    partial = {key: value for key, value in two.state_dict().items() if key != "1.1.num_batches_tracked"}
    with pytest.raises(UsageError, match=r"1\.1\.num_batches_tracked"):
        fill(two, partial, "partial")
    assert counter == 0


def test_names_that_belong_to_the_network_are_no_prefix() -> None:
    source = nn.Module()
    source.add_module("model", _network(1))
    target = nn.Module()
    target.add_module("model", _network(2))
    fill(target, source.state_dict(), "wrapped")
    assert _equal(source, target)


def test_half_precision_weights_are_converted() -> None:
    target = _network(2)
    fill(target, {k: v.half() if v.is_floating_point() else v for k, v in _network(1).state_dict().items()}, "half")
    assert torch.equal(target.state_dict()["3.bias"], _network(1).state_dict()["3.bias"].half().float())


def test_kept_parts_are_left_alone() -> None:
    source, target = _network(1), _network(2)
    state = {key: value for key, value in source.state_dict().items() if not key.startswith("3.")}
    fill(target, {**state, "3.weight": torch.zeros(99)}, "body", keep=["3"])
    assert torch.equal(target.state_dict()["3.weight"], _network(2).state_dict()["3.weight"])
    assert torch.equal(target.state_dict()["0.weight"], source.state_dict()["0.weight"])


class _Evil:
    def __reduce__(self) -> Any:
        return (print, ("code ran",))


def test_files_that_would_run_code_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": _network().state_dict(), "evil": _Evil()}, tmp_path / "evil.pt")
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(_Evil(), protocol=2))
    for name in ("evil.pt", "evil.pkl"):
        with pytest.raises(UsageError, match=r"run code|no file of weights"):
            load_weights(_network(), tmp_path / name)
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_broken_and_missing_files_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        load_weights(_network(), tmp_path / name)
    for content in (b"", b"not weights at all", b"PK\x03\x04 broken zip"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UsageError, match=name.replace(".", r"\.")):
            load_weights(_network(), tmp_path / name)


@pytest.mark.parametrize("content", [{"epoch": 3}, [1, 2], torch.zeros(3), {}])
def test_files_without_weights_are_refused(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(UsageError, match="no weights by name"):
        load_weights(_network(), tmp_path / "w.pt")
