from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from compress.bundle import Bundle, Kind, read_bundle
from compress.data.settings import DataSettings, read_data_settings
from compress.errors import UsageError
from compress.models import rest
from compress.models.settings import ModelSettings
from compress.models.stage import Build
from compress.pruning.settings import ReachSettings
from compress.pruning.stage import Prune
from compress.stage import Context

STAGE = Prune.model_validate({"keep": {"macs": 0.5}, "round_to": 4, "examples": 64, "recover": {"epochs": 1}})


@pytest.fixture(scope="module")
def context() -> Context:
    return Context(device="cpu", threads=1, data=read_data_settings("digits", Path.cwd()))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, context: Context) -> Bundle:
    folder = tmp_path_factory.mktemp("source")
    Build(name="net", model=ModelSettings(zoo="resnet8", width=1)).run({}, folder, context)
    return read_bundle(folder)


def _run(stage: Prune, source: Bundle, out: Path, context: Context) -> dict[str, object]:
    out.mkdir()
    return stage.run({"source": source}, out, context)


def test_it_writes_a_smaller_network_that_loads(source: Bundle, tmp_path: Path, context: Context) -> None:
    metrics = _run(STAGE, source, tmp_path / "out", context)
    bundle = read_bundle(tmp_path / "out")
    module = rest.load(bundle.path)
    assert bundle.kind is Kind.TORCH
    assert bundle.deployment == source.deployment
    assert module(torch.randn(3, 1, 8, 8)).shape == (3, 10)
    assert metrics["parameters"] == sum(parameter.numel() for parameter in module.parameters())
    assert {"validation", "macs", "size_bytes", "training"} <= metrics.keys()
    pruning = json.loads(json.dumps(metrics["pruning"]))
    assert pruning["reached"] == pytest.approx(0.5, rel=0.05)
    assert pruning["widths"]["conv1"][0] == 16


def test_the_same_seed_gives_the_same_bytes(source: Bundle, tmp_path: Path, context: Context) -> None:
    stage = STAGE.model_copy(update={"recover": None})
    for name in ("one", "other"):
        assert "training" not in _run(stage, source, tmp_path / name, context)
    for path in sorted((tmp_path / "one").rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "other" / path.relative_to(tmp_path / "one")).read_bytes()


def test_a_rehearsal_finds_what_is_out_of_reach(source: Bundle, tmp_path: Path, context: Context) -> None:
    rehearsal = replace(context, rehearsal=True)
    _run(STAGE, source, tmp_path / "fine", rehearsal)
    impossible = Prune.model_validate({"keep": {"macs": 0.001}})
    with pytest.raises(UsageError, match="cannot be reached; the least that"):
        _run(impossible, source, tmp_path / "impossible", rehearsal)


def test_sparse_learning_and_rounds_are_recorded(source: Bundle, tmp_path: Path, context: Context) -> None:
    settings = {"sparse": {"epochs": 1}, "iterations": 2, "recover": {"epochs": 3, "cache": {"views": 1}}}
    stage = Prune.model_validate({**STAGE.model_dump(exclude_unset=True, exclude={"recover"}), **settings})
    assert stage.faults() == []
    few = DataSettings.model_validate({"source": {"digits": {}}, "split": {"validation": 0.1, "test": 0.7}})
    metrics = _run(stage, source, tmp_path / "out", replace(context, data=few))
    plain = json.loads(json.dumps(metrics))
    assert all("teacher cache: 1 view" in part["notes"][0] for part in plain["rounds"])
    assert [len(part["epochs"]) for part in (plain["sparse"], *plain["rounds"])] == [1, 1, 2]
    assert plain["training"] == plain["rounds"][1]
    assert (plain["pruning"]["asked"], plain["pruning"]["reached"]) == (0.5, pytest.approx(0.5, abs=0.05))  # one step


@pytest.mark.parametrize(
    ("settings", "where", "text"),
    [
        ({"sparse": {"schedule": "step"}}, "sparse.milestones", "needs milestones"),
        ({"iterations": 2, "recover": None}, "iterations", "set `recover`"),
        ({"iterations": 4, "recover": {"epochs": 3}}, "iterations", "`recover` has 3"),
        (
            {"iterations": 2, "recover": {"epochs": 9, "schedule": "step", "milestones": [5]}},
            "recover.milestones",
            "choose another `schedule`",
        ),
    ],
)
def test_trainings_that_make_no_sense_are_faults(settings: dict[str, object], where: str, text: str) -> None:
    [(place, message)] = Prune.model_validate({"keep": {"macs": 0.5}, **settings}).faults()
    assert place == where
    assert text in message


@pytest.mark.parametrize(
    ("settings", "where", "text"),
    [
        ({"reach": {"speedup": 2}, "iterations": 2}, "iterations", "leave them out with `reach`"),
        ({"reach": {"speedup": 2}, "scope": "layer"}, "scope", "no effect with `reach`, which weighs all layers"),
        ({"keep": {"macs": 0.5}, "depth": True, "scope": "layer"}, "scope", "no effect with `depth`"),
        ({"keep": {"macs": 0.5}, "depth": True, "iterations": 2}, "iterations", "leave them out with `depth`"),
        ({"keep": {"channels": 0.5}, "depth": True}, "keep.channels", "name `macs` or `parameters`"),
        ({"keep": {"macs": 0.5}, "depth": True, "importance": "lamp"}, "importance", "use `taylor` or `hessian`"),
        ({"reach": {"speedup": 2}, "importance": "magnitude"}, "importance", "or set `depth: false`"),
        ({"reach": {"speedup": 2}, "importance": "activation", "depth": True}, "importance", "use `taylor` or"),
        ({"keep": {"macs": 0.5}, "candidates": 8}, "candidates", "set `depth: true`"),
    ],
)
def test_times_and_blocks_that_make_no_sense_are_faults(settings: dict[str, object], where: str, text: str) -> None:
    [(place, message)] = Prune.model_validate(settings).faults()
    assert place == where
    assert text in message


@pytest.mark.parametrize(
    "settings",
    [
        {"reach": {"speedup": 2}, "importance": "hessian"},
        {"reach": {"latency_p50_ms": 0.5, "batch": 8, "precision": "int8"}, "importance": "lamp", "depth": False},
        {"reach": {"speedup": 2}, "scope": "global", "rounds": 2},
        {"keep": {"macs": 0.5}, "depth": False, "scope": "layer"},
        {"keep": {"parameters": 0.5}, "depth": True, "candidates": 8},
        {"reach": {"speedup": 2}, "candidates": 1},
    ],
)
def test_times_and_blocks_that_make_sense_are_none(settings: dict[str, object]) -> None:
    assert Prune.model_validate(settings).faults() == []


def test_a_time_is_about_a_target() -> None:
    assert STAGE.on_target(["local", "board"]) is None
    reach = Prune.model_validate({"reach": {"speedup": 2}})
    assert reach.on_target(["local", "board"]) == "local"
    assert reach.model_copy(update={"reach": ReachSettings(speedup=2, target="board")}).on_target(["local"]) == "board"


@pytest.mark.parametrize("settings", [{"iterations": 0}, {"iterations": 1.5}, {"sparse": {"weight": 0}}])
def test_values_out_of_range_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Prune.model_validate({"keep": {"macs": 0.5}, **settings})


def test_it_reads_one_float_network() -> None:
    assert STAGE.references() == {"source": None}
    assert (STAGE.takes["source"], STAGE.gives) == ((Kind.TORCH,), Kind.TORCH)
