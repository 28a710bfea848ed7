from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compress.bare import measure as measured
from compress.bare.files import File
from compress.bare.judge import Judgement
from compress.profiling.latency import Latency
from compress.profiling.profile import Profile
from compress.stage import Silent
from compress.targets.settings import TargetSettings


def rows(milliseconds: float, noise: float, rounds: int = 8) -> list[Latency]:
    generator = np.random.default_rng(int(1000 * milliseconds))
    calls = [sorted((milliseconds + noise * generator.standard_normal() + np.zeros(5)).tolist()) for _ in range(rounds)]
    middle = float(np.median([call[2] for call in calls]))
    return [Latency("local", "onnxruntime", 1, 1, {}, middle, middle, middle, (middle, middle), 40, 1.0, 1, 1.0, calls)]


def profile_of(int8_ms: float, noise: float) -> Profile:
    return Profile({"fp32": rows(2.0, noise), "ort-x86": rows(int8_ms, noise)}, None, (), {})


def test_what_may_be_chance_is_decided_before_operators_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The profile is a stand-in: it tells which files are known to compute with integers."""
    asked: list[tuple[list[str], set[str], dict[str, int]]] = []

    def decided(files: dict[str, Path], target: TargetSettings, integer: set[str], **_: object) -> Profile:
        asked.append((list(files), integer, target.shapes))
        return profile_of(1.0, 0.05)

    monkeypatch.setattr(measured, "profile_until_decided", decided)
    monkeypatch.setattr(measured, "operator_times", lambda *_, **__: {})
    monkeypatch.setattr(measured, "layer_channels", lambda _: [])
    judged = Judgement("agreement", 1.0, 0.0)
    files = [File(name, Path(name), kind, judged) for name, kind in (("fp32", "fp32"), ("ort-x86", "int8"))]
    found = measured.measure(files, TargetSettings(shapes={"a": 1}), {"b": 2}, Silent())
    assert asked == [(["fp32", "ort-x86"], {"ort-x86"}, {"a": 1, "b": 2})]
    assert found.latency("ort-x86") == profile_of(1.0, 0.05)["ort-x86"][0]
    assert found.latency("tensorrt") is None
