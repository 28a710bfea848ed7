from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compress.config import read_pipeline
from compress.errors import UsageError
from compress.overrides import apply_overrides
from compress.yaml_source import Source

KEYS = ("seed", "models", "stages", "budget")


def _source() -> Source:
    stages: list[Any] = [{"train": {"epochs": 2}}, {"prune": {}, "name": "small"}, {"prune": {}, "name": "smaller"}]
    return Source({"models": {"net": {"zoo": "resnet8"}}, "stages": stages}, "file.yaml")


def _set(*overrides: str) -> Source:
    source = _source()
    apply_overrides(source, overrides, ("train", "small", "smaller"), KEYS)
    return source


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("train.epochs=3", ("stages", 0, "train", "epochs"), 3),
        ("train.train.epochs=3", ("stages", 0, "train", "epochs"), 3),
        ("small.keep.macs=0.4", ("stages", 1, "prune", "keep", "macs"), 0.4),
        ("stages[2].keep={macs: 1e-1}", ("stages", 2, "prune", "keep"), {"macs": 0.1}),
        ("stages[2].prune.round_to=4", ("stages", 2, "prune", "round_to"), 4),
        ("small.from=net", ("stages", 1, "from"), "net"),
        ("stages[0].name=first", ("stages", 0, "name"), "first"),
        ("models.net.width=2", ("models", "net", "width"), 2),
        ("budget.speedup=3", ("budget", "speedup"), 3),
        ("seed = 5", ("seed",), 5),
        ("small.recover=null", ("stages", 1, "prune", "recover"), None),
        ("small.note=a=b", ("stages", 1, "prune", "note"), "a=b"),
    ],
)
def test_an_address_reaches_its_place(override: str, path: tuple[str | int, ...], value: object) -> None:
    source = _set(override)
    assert not source.faults
    at: Any = source.data
    for part in path:
        at = at[part]
    assert at == value
    assert source.fault(path, "wrong").file == "--set"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("smal.keep.macs=1", "--set smal.keep.macs=1: unknown stage or key 'smal' (did you mean 'small'?)"),
        ("prune.keep.macs=1", "several stages are called by the verb 'prune': use a name (small, smaller)"),
        ("stages[3].epochs=1", "there are 3 stages, counted from 0"),
        ("train=1", "name a key of the stage, such as train.epochs"),
        ("train.epochs", "give a value: address=value"),
        ("=3", "is no address"),
        ("train..epochs=3", "is no address"),
        ("train.epochs.x=3", "stages[0].train.epochs is not a mapping"),
        ("train.epochs=[1", "the value is not valid YAML"),
        ("train.epochs=!!python/none x", "tag"),
    ],
)
def test_what_cannot_be_set_is_one_fault(override: str, message: str) -> None:
    source = _set(override)
    assert len(source.faults) == 1
    assert message in str(source.faults[0])
    assert source.data == _source().data


def test_a_verb_is_an_address_where_it_is_the_only_one() -> None:
    source = Source({"stages": [{"prune": {}, "name": "small"}]})
    apply_overrides(source, ["prune.round_to=4"], ("small",), KEYS)
    assert source.data["stages"][0]["prune"] == {"round_to": 4}


def test_later_overrides_win() -> None:
    assert _set("train.epochs=3", "train.epochs=4").data["stages"][0]["train"]["epochs"] == 4


@pytest.fixture
def named(tmp_path: Path) -> Path:
    """A pipeline whose data and second target lie in files of a folder of their own, beside a table."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "table.csv").write_text("a,b\n1,0\n2,1\n")
    (tmp_path / "files" / "data.yaml").write_text(
        "source:\n  table: {path: table.csv, input: a, target: b}\nsplit: {seed: 4}\n"
    )
    (tmp_path / "files" / "board.yaml").write_text("rounds: 4\n")
    file = tmp_path / "pipeline.yaml"
    file.write_text(
        "data: files/data.yaml\nmodels: {net: {zoo: resnet8}}\nstages: [train, export]\n"
        "targets: [local, files/board.yaml]\n"
    )
    return file


def test_an_address_goes_into_the_files_that_a_pipeline_names(named: Path) -> None:
    before = {path: path.read_bytes() for path in named.parent.rglob("*.yaml")}
    changes = ["data.limit.train=1", "data.split.seed=5", "targets[0].rounds=2", "targets[1].threads=1"]
    plain, changed = read_pipeline(named), read_pipeline(named, changes)
    assert (changed.data.limit.train, changed.data.split.seed) == (1, 5)
    assert changed.data.source == plain.data.source, "paths in the file are still relative to it"
    assert changed.data == read_pipeline(named, ["data.limit={train: 1}", "data.split.seed=5"]).data
    assert [(target.name, target.rounds) for target in changed.targets] == [("local", 2), ("board", 4)]
    assert {path: path.read_bytes() for path in before} == before


def test_targets_that_are_not_named_are_reached_as_well(named: Path) -> None:
    named.write_text(named.read_text().partition("targets")[0])
    assert read_pipeline(named, ["targets[0].rounds=3"]).targets[0].rounds == 3


def test_a_name_that_is_set_itself_decides_which_file_is_changed(named: Path) -> None:
    first = read_pipeline(named, ["data.split.seed=5", "data=digits", "data.limit.train=7"]).data
    assert (first.source.kind, first.split.seed, first.limit.train) == ("digits", 0, 7)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["data.limit.train=0"], "--set: data.limit.train: must be at least 1, not 0"),
        (["data.limti.train=1"], "--set: data.limti: unknown key (did you mean 'limit'?)"),
        (["targets[1].rounds=1"], "--set: targets[1].rounds: must be at least 2, not 1"),
        (["data.source.table.path.x=1"], "data.yaml: source.table.path is not a mapping"),
        (["targets[2].rounds=1"], "targets has 2 items"),
        (["data=gone.yaml", "data.limit.train=1"], "no such file"),
    ],
)
def test_what_is_wrong_inside_a_named_file_is_told_with_its_address(
    named: Path, overrides: list[str], says: str
) -> None:
    with pytest.raises(UsageError) as refused:
        read_pipeline(named, overrides)
    (fault,) = refused.value.faults
    assert says in str(fault)


def test_faults_of_the_file_itself_keep_their_line(named: Path) -> None:
    data = named.parent / "files" / "data.yaml"
    data.write_text(data.read_text() + "limits: 3\n")
    with pytest.raises(UsageError, match=r"data\.yaml:4: limits: unknown key"):
        read_pipeline(named, ["data.limit.train=1"])


def test_an_address_becomes_the_settings_that_it_means() -> None:
    source = Source({"targets": ["local", "ssh://pi@board:22"]}, "file.yaml")
    apply_overrides(source, ["targets[1].rounds=3", "targets[1].name=pi"], (), ("targets",))
    assert source.data["targets"] == ["local", {"kind": "ssh", "host": "pi@board:22", "rounds": 3, "name": "pi"}]
    assert not source.faults
