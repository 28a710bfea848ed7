"""What a target told is kept for when it is away; what it is decides its fingerprint."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from compress.targets.facts import Facts, local_facts, remember, remembered
from compress.targets.settings import TargetSettings
from compress.targets.target import fingerprint

PI = Facts({"architecture": "aarch64", "features": ["dotprod"]}, {"onnxruntime": "onnxruntime 1.23.0"}, (0, 1, 2, 3))


def test_what_was_told_is_kept_by_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path))
    assert remembered(("ssh", "pi")) is None
    remember(("ssh", "pi"), PI)
    found = remembered(("ssh", "pi"))
    assert found is not None
    assert (found.machine, found.versions, list(found.usable_cores)) == (PI.machine, PI.versions, [0, 1, 2, 3])
    assert found.fingerprint == PI.fingerprint
    assert remembered(("ssh", "other")) is None
    next(tmp_path.rglob("*.json")).write_text("{")
    assert remembered(("ssh", "pi")) is None


def test_the_fingerprint_is_of_processor_and_runtime_alone() -> None:
    assert replace(PI, usable_cores=(0,), free_bytes=1, conditions={"load_1min": 3.0}).fingerprint == PI.fingerprint
    assert replace(PI, versions={"onnxruntime": "onnxruntime 1.24.0"}).fingerprint != PI.fingerprint
    assert replace(PI, machine={"architecture": "aarch64", "features": []}).fingerprint != PI.fingerprint


def test_this_machine_tells_what_it_is() -> None:
    assert local_facts().fingerprint == fingerprint(TargetSettings())
    assert list(local_facts().usable_cores) == sorted(os.sched_getaffinity(0))
