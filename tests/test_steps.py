from __future__ import annotations

import os
from pathlib import Path

import pytest

from compress.config import read_pipeline
from compress.exporting.stage import Export
from compress.models.stage import Build
from compress.plan import make_plan
from compress.steps import Steps, thread_count, unused
from compress.targets.measuring.machine import available_cores
from compress.threads import default_threads


def test_equal_stages_of_equal_inputs_are_one_step_under_the_first_ones_name(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("data: digits\nmodels: {net: {zoo: resnet8}}\nstages: [{export: {}}]\n")
    pipeline = read_pipeline(tmp_path / "p.yaml")
    steps = Steps(pipeline)
    built = steps.add("first", Build(name="net", model=pipeline.models["net"]), {})
    assert steps.add("second", Build(name="net", model=pipeline.models["net"]), {}) is built
    other = steps.add("third", Build(name="other", model=pipeline.models["net"]), {})
    files = [steps.add(f"of {name}", Export(emit=("fp32",)), {"source": name}) for name in ("first", "third")]
    assert list(steps.named) == ["first", "third", "of first", "of third"]
    assert len({step.key for step in (built, other, *files)}) == 4


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system does not say which cores may be used")
def test_a_process_that_may_use_one_core_computes_with_one_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    (tmp_path / "p.yaml").write_text("data: digits\nmodels: {net: {zoo: resnet8}}\nstages: [{export: {}}]\n")
    pipeline, before = read_pipeline(tmp_path / "p.yaml"), os.sched_getaffinity(0)
    assert thread_count(pipeline) == len(before)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert thread_count(pipeline) == 1
        assert thread_count(pipeline.model_copy(update={"threads": 3})) == 3
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(
    ("said", "threads"), [("1", 1), ("1,4", 1), ("4096", None), ("0", None), ("many", None), ("", None)]
)
def test_the_environment_may_ask_for_fewer_threads(
    said: str, threads: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert default_threads() == (threads or len(available_cores()))


def test_a_name_that_is_taken_gets_the_first_free_number() -> None:
    assert [unused("a", taken) for taken in ({}, {"a": 0}, {"a": 0, "a-2": 0}, {"b": 0})] == ["a", "a-2", "a-3", "a"]


def test_the_content_of_weights_and_user_code_is_keyed_not_their_path(tmp_path: Path) -> None:
    text = "data: digits\nmodels: {net: {python: 'net.py:make'}}\nstages: [{export: {}}]\n"
    keys = []
    for name, code in [("a", "x = 1"), ("b", "x = 1"), ("c", "x = 2")]:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "net.py").write_text(f"{code}\ndef make():\n    return None\n")
        (folder / "p.yaml").write_text(text)
        keys.append(make_plan(read_pipeline(folder / "p.yaml")).steps[0].key)
    assert keys[0] == keys[1] != keys[2]
