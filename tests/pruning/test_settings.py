from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import ValidationError

from compress.pruning.settings import Keep, Pruning
from compress.pruning.stage import Prune


def test_defaults() -> None:
    settings = Pruning(keep=Keep(macs=0.5))
    assert (settings.share.measure, settings.share.share) == ("macs", 0.5)
    assert (settings.importance, settings.scope, settings.round_to) == ("taylor", "global", 8)


@pytest.mark.parametrize(
    ("keep", "text"),
    [
        ({"macs": 1}, "a share of 1 leaves nothing to prune"),
        ({"macs": 0}, "must be over 0 and under 1"),
        ({"parameters": 1.5}, "must be over 0 and under 1"),
        ({}, "name exactly one of macs, parameters, channels (found none)"),
        ({"macs": 0.5, "channels": 0.5}, "found macs and channels"),
        ({"mac": 0.5}, "Extra inputs are not permitted"),
    ],
)
def test_bad_shares_are_refused(keep: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Pruning.model_validate({"keep": keep})
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("reach", "text"),
    [
        ({}, "name exactly one of latency_p50_ms and speedup"),
        ({"speedup": 2, "latency_p50_ms": 1.0}, "name exactly one of latency_p50_ms and speedup"),
        ({"speedup": 1}, "greater than 1"),
        ({"latency_p50_ms": 0}, "greater than 0"),
        ({"speedup": 2, "batch": 0}, "greater than or equal to 1"),
        ({"speedup": 2, "precision": "int4"}, "'fp32' or 'int8'"),
        ({"speedup": 2, "precision": "int8", "over": "int8"}, "'fp32'"),
        ({"latency_p50_ms": 1.0, "over": "fp32"}, "over: it says what `speedup` is over"),
    ],
)
def test_bad_times_are_refused(reach: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Pruning.model_validate({"reach": reach})
    assert text in str(caught.value)


@pytest.mark.parametrize("settings", [{}, {"keep": {"macs": 0.5}, "reach": {"speedup": 2}}])
def test_a_share_or_a_time_is_asked(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=re.escape("`keep: {macs: 0.5}` or `reach: {speedup: 2}`, one of them")):
        Pruning.model_validate(settings)


def test_blocks_go_for_a_time_unless_it_is_said() -> None:
    for settings, expected in (
        ({"reach": {"speedup": 2}}, True),
        ({"reach": {"speedup": 2}, "depth": False}, False),
        ({"keep": {"macs": 0.5}}, False),
        ({"keep": {"macs": 0.5}, "depth": True}, True),
    ):
        assert Pruning.model_validate(settings).drops_blocks is expected


@pytest.mark.parametrize(
    "wrong", [{"importance": "taylr"}, {"scope": "local"}, {"round_to": 0}, {"minimum_share": 0}, {"examples": 0}]
)
def test_values_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Pruning.model_validate({"keep": {"macs": 0.5}, **wrong})


def test_recovery_is_on_unless_it_is_null() -> None:
    assert Prune(keep=Keep(macs=0.5)).recover is not None
    assert Prune.model_validate({"keep": {"macs": 0.5}, "recover": None}).recover is None


def test_combinations_that_make_no_sense_are_faults() -> None:
    stage = Prune.model_validate({"keep": {"macs": 0.5}, "norm": 1, "recover": {"schedule": "step"}})
    assert [where for where, _ in stage.faults()] == ["norm", "recover.milestones"]
    assert Prune.model_validate({"keep": {"macs": 0.5}, "norm": 1, "importance": "magnitude"}).faults() == []
    rounds = Prune.model_validate({"keep": {"macs": 0.5}, "rounds": 2, "importance": "magnitude"})
    wanted = "set `importance: taylor` or `hessian` or `activation`"
    assert rounds.faults() == [("rounds", f"has no effect with `importance: magnitude`; {wanted}")]


@pytest.mark.parametrize("importance", ["taylor", "hessian", "activation"])
def test_what_looks_at_examples_has_rounds(importance: str) -> None:
    stage = Prune.model_validate({"keep": {"macs": 0.5}, "rounds": 2, "importance": importance})
    assert stage.faults() == []
