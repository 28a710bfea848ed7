from __future__ import annotations

from typing import Any

import pytest

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
