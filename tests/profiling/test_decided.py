from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from compress.profiling import decided
from compress.profiling.decided import computes_with_integers, is_chance, profile_until_decided
from compress.profiling.latency import Latency
from compress.profiling.profile import Profile
from compress.profiling.statistics import LEAST_ROUNDS
from compress.targets.failures import UnreachableError
from compress.targets.settings import TargetSettings
from tests.profiling.test_profile import network

SHORT = TargetSettings(rounds=LEAST_ROUNDS, seconds=0.005, warmup_seconds=0.0, throughput_seconds=0.001)


def rows(milliseconds: float, spread: float, rounds: int = 8) -> list[Latency]:
    """A file whose rounds' medians are `spread` apart (standard deviation, ms)."""
    generator = np.random.default_rng(int(1000 * milliseconds))
    calls = [[milliseconds + spread * float(generator.standard_normal())] * 5 for _ in range(rounds)]
    middle = float(np.median([call[2] for call in calls]))
    return [Latency("local", "onnxruntime", 1, 1, {}, middle, middle, middle, (middle, middle), 40, 1.0, 1, 1.0, calls)]


def profile_of(int8_ms: float, spread: float, rounds: int = 8, **machine: Any) -> Profile:
    files = {"fp32": rows(2.0, spread, rounds), "ort-x86": rows(int8_ms, spread, rounds)}
    return Profile(files, None, (), machine)


@pytest.mark.parametrize(
    ("int8_ms", "spread", "chance"), [(1.9, 0.8, True), (1.0, 0.05, False), (3.0, 0.05, False), (2.05, 0.3, True)]
)
def test_chance_is_an_interval_that_holds_one(int8_ms: float, spread: float, chance: bool) -> None:
    assert is_chance(profile_of(int8_ms, spread), {"ort-x86"}) is chance


def test_any_float_file_may_be_the_one_to_beat() -> None:
    found = {"teacher": rows(2.02, 0.3), "student": rows(1.0, 0.01), "int8": rows(1.9, 0.3)}
    assert is_chance(found, {"int8"})
    assert not is_chance({name: found[name] for name in ("student", "int8")}, {"int8"})


def test_a_machine_that_differs_from_itself_leaves_it_to_chance() -> None:
    found = {name: rows(ms, 0.01) for name, ms in (("fp32", 2.0), ("int8", 1.8))}
    assert not is_chance(found, {"int8"})
    unsteady = {name: [replace(row, noise=0.3) for row in some] for name, some in found.items()}
    assert is_chance(unsteady, {"int8"})


def test_without_a_file_of_either_kind_or_enough_rounds_there_is_nothing_to_decide() -> None:
    assert not is_chance({"fp32": rows(2.0, 1.0)}, {"ort-x86"})
    assert not is_chance({"ort-x86": rows(2.0, 1.0)}, {"ort-x86"})
    assert not is_chance(profile_of(1.9, 0.8, LEAST_ROUNDS - 1), {"ort-x86"})
    assert is_chance(profile_of(1.9, 0.8, LEAST_ROUNDS), {"ort-x86"})


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([profile_of(1.0, 0.05)], [5]),
        ([profile_of(1.9, 0.8), profile_of(1.0, 0.05)], [5, 10]),
        ([profile_of(1.9, 0.8)] * 3, [5, 10, 20]),
        ([profile_of(1.9, 0.8, emulated=True)], [5]),
        ([profile_of(1.9, 0.8, incomplete="lost")], [5]),
    ],
)
def test_rounds_are_doubled_until_it_is_decided(
    told: list[Profile], expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The profile is a stand-in: a machine that is noisy at first, and then is not."""
    asked: list[int] = []

    def profile(files: dict[str, Path], target: TargetSettings, **_: object) -> Profile:
        asked.append(target.rounds)
        return told[len(asked) - 1]

    monkeypatch.setattr(decided, "profile", profile)
    assert profile_until_decided({}, SHORT, {"ort-x86"}) is told[-1]
    assert asked == expected


def test_a_target_lost_while_it_measures_again_leaves_what_it_had_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(files: dict[str, Path], target: TargetSettings, **_: object) -> Profile:
        if target.rounds > SHORT.rounds:
            raise UnreachableError("gone")
        return profile_of(1.9, 0.8, 5)

    def fewer(files: dict[str, Path], target: TargetSettings, **_: object) -> Profile:
        return profile_of(1.9, 0.8, 5) if target.rounds == SHORT.rounds else profile_of(1.9, 0.8, 2, incomplete="lost")

    for stand_in in (lost, fewer):
        monkeypatch.setattr(decided, "profile", stand_in)
        found = profile_until_decided({}, SHORT, {"ort-x86"})
        assert len(found["fp32"][0].rounds_ms) == 5
        assert (
            "its times are of 5 rounds" in found.machine["incomplete"] and found.notes[0] == found.machine["incomplete"]
        )


@pytest.mark.parametrize("operator", ["QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulNBits"])
def test_files_that_compute_with_integers_are_known_by_their_operators(operator: str, tmp_path: Path) -> None:
    path = network(tmp_path / "m.onnx")
    assert not computes_with_integers(path)
    model = onnx.load(path)
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "scale"))
    model.graph.node.insert(0, helper.make_node(operator, ["input", "scale"], ["unused"]))
    onnx.save(model, path)
    assert computes_with_integers(path)
