"""Android by its protocol, against a stand-in for `adb` that runs commands in a local folder (android.py)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

from compress.errors import UsageError
from compress.targets import adb, remote
from compress.targets.failures import UnreachableError
from compress.targets.jobs import run_jobs
from compress.targets.reading import read_target
from compress.targets.settings import TargetSettings
from compress.targets.target import facts_of
from tests.targets.android import SERIAL, phone

MODEL = '<ir_version: 10, opset_import: ["" : 18]> g (float[batch,4] x) => (float[batch,4] y) { y = Relu(x) }'


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield phone(tmp_path, monkeypatch)
    remote.close_all()


def target(**settings: object) -> TargetSettings:
    return TargetSettings.model_validate({"name": "phone", "kind": "adb", "serial": SERIAL, **settings})


def test_a_phones_python_answers_and_the_phone_is_left_clean(root: Path, tmp_path: Path) -> None:
    onnx.save(parser.parse_model(MODEL), tmp_path / "m.onnx")
    inputs = np.random.default_rng(0).standard_normal((7, 4)).astype(np.float32)
    np.save(tmp_path / "x.npy", inputs)
    answers = {"inputs": {"x": str(tmp_path / "x.npy")}, "output": str(tmp_path / "y.npy"), "batch": 3}
    there = target(python=sys.executable, folder=str(root))
    before = sorted(root.iterdir())
    run_jobs(
        there.model_copy(update={"folder": str(root)}), {"m": {"model": str(tmp_path / "m.onnx"), "answers": answers}}
    )
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), np.maximum(inputs, 0))
    remote.close_all()
    assert sorted(root.iterdir()) == before


def test_a_phone_that_is_not_there_is_said_to(root: Path) -> None:
    with pytest.raises(UnreachableError, match=r"\(adb none\): it is not connected: look at `adb devices`"):
        facts_of(target(serial="none"))


def test_a_phone_that_does_not_trust_this_computer_is_said_to() -> None:
    error = adb.refused(target(), "adb: device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set")
    assert type(error) is UsageError
    assert "unlock it and allow USB debugging" in str(error)


def test_without_adb_it_is_told_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"there is no `adb` on this machine; .*sudo apt install adb"):
        facts_of(target())


def test_termuxs_python_is_tried_where_the_phone_has_none_of_its_own() -> None:
    assert adb.python_for(target(python="/mine")) == "/mine"
    assert adb.TERMUX in adb.python_for(target())


def test_an_address_is_a_target() -> None:
    found = read_target(f"adb://{SERIAL}")
    assert (found.kind, found.serial, found.name) == ("adb", SERIAL, SERIAL)
