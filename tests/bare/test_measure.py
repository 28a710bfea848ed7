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


def test_chance_is_an_interval_that_holds_one() -> None:
    assert measured.is_chance(profile_of(1.9, 0.8), {"ort-x86"})
    assert not measured.is_chance(profile_of(1.0, 0.05), {"ort-x86"})
    assert not measured.is_chance(profile_of(3.0, 0.05), {"ort-x86"})


def test_without_a_file_of_either_kind_there_is_nothing_to_decide() -> None:
    assert not measured.is_chance(Profile({"fp32": rows(2.0, 1.0)}, None, (), {}), {"ort-x86"})
    assert not measured.is_chance(Profile({"ort-x86": rows(2.0, 1.0)}, None, (), {}), {"ort-x86"})


@pytest.mark.parametrize(("noises", "expected"), [((0.05,), [3]), ((0.8, 0.05), [3, 6]), ((0.8, 0.8, 0.8), [3, 6, 12])])
def test_what_may_be_chance_is_measured_again_with_twice_the_rounds(
    noises: tuple[float, ...], expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The profile is a stand-in: a machine that is noisy at first, and then is not."""
    asked: list[int] = []

    def profile(files: dict[str, Path], target: TargetSettings, **_: object) -> Profile:
        asked.append(target.rounds)
        return profile_of(1.9 if noises[len(asked) - 1] > 0.1 else 1.0, noises[len(asked) - 1])

    monkeypatch.setattr(measured, "profile", profile)
    monkeypatch.setattr(measured, "operator_times", lambda *_, **__: {})
    monkeypatch.setattr(measured, "layer_channels", lambda _: [])
    judged = Judgement("agreement", 1.0, 0.0)
    files = [File(name, Path(name), kind, judged) for name, kind in (("fp32", "fp32"), ("ort-x86", "int8"))]
    measured.measure(files, TargetSettings(rounds=3), {}, Silent())
    assert asked == expected
