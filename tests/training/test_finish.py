from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from compress.bundle import Bundle, Kind, read_bundle
from compress.data.settings import read_data_settings
from compress.errors import UsageError
from compress.models import rest
from compress.models.settings import ModelSettings
from compress.models.stage import Build
from compress.stage import Context
from compress.training.finish import measure_model, open_training, save_trained
from compress.training.stage import Train


@pytest.fixture(scope="module")
def context() -> Context:
    return Context(device="cpu", threads=1, data=read_data_settings("digits", Path.cwd()))


@pytest.fixture
def source(context: Context, tmp_path: Path) -> Bundle:
    folder = tmp_path / "source"
    folder.mkdir()
    Build(name="a", model=ModelSettings(zoo="resnet8", width=0.5)).run({}, folder, context)
    return Bundle(Kind.TORCH, folder)


def test_what_is_saved_is_what_was_trained(source: Bundle, context: Context, tmp_path: Path) -> None:
    work = open_training(source, context)
    with torch.no_grad():
        for parameter in work.module.parameters():
            parameter.add_(0.1)
    out = tmp_path / "out"
    out.mkdir()
    save_trained(work.module, source, out, context)
    loaded = rest.load(out)
    assert rest.state_digest(loaded) == rest.state_digest(work.module)
    assert read_bundle(out).kind is Kind.TORCH
    assert read_bundle(out).deployment == source.deployment


def test_only_rank_0_writes(source: Bundle, context: Context, tmp_path: Path) -> None:
    save_trained(rest.load(source.path), source, tmp_path / "out", replace(context, rank=1, world_size=2))
    assert not (tmp_path / "out").exists()


def test_measures_are_those_of_the_network(source: Bundle, context: Context) -> None:
    work = open_training(source, context)
    found = measure_model(work.module, work.data, work.task, context)
    convolutions = [m for m in work.module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert found["parameters"] == sum(p.numel() for p in work.module.parameters())
    assert found["size_bytes"] >= 4 * found["parameters"]
    assert found["macs"] >= sum(m.weight.numel() for m in convolutions)
    assert 0 <= found["validation"]["accuracy"] <= 1
    assert json.loads(json.dumps(found)) == found


def test_a_stage_that_trains_needs_data(source: Bundle) -> None:
    with pytest.raises(UsageError, match="`data:`"):
        open_training(source, Context())


def test_the_stage_writes_what_it_trained_and_the_same_bytes_again(
    source: Bundle, context: Context, tmp_path: Path
) -> None:
    written = []
    for name in ("first", "second"):
        out = tmp_path / name
        out.mkdir()
        metrics = Train(epochs=2).run({"source": source}, out, context)
        assert json.loads(json.dumps(metrics)) == metrics
        assert metrics["validation"] == metrics["training"]["epochs"][metrics["training"]["kept_epoch"]]["validation"]
        written.append({path.name: path.read_bytes() for path in sorted(out.iterdir())})
    assert written[0] == written[1]
    assert rest.state_digest(rest.load(tmp_path / "first")) != rest.state_digest(rest.load(source.path))


def test_a_rehearsal_is_quick_and_complete(source: Bundle, context: Context, tmp_path: Path) -> None:
    metrics = Train(epochs=500).run({"source": source}, tmp_path, replace(context, rehearsal=True))
    assert metrics["training"]["steps"] == 2
    assert rest.load(tmp_path)
