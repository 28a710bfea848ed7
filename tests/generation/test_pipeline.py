"""Written texts between stages: what can be linked, planned, published and run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from compress.bundle import Kind
from compress.config import read_pipeline
from compress.errors import UsageError
from compress.plan import Plan, make_plan
from compress.publish import publish
from compress.rehearse import rehearse
from compress.run import run_plan, statuses
from compress.stage import Silent
from compress.store import Store
from tests.generation.helpers import LLAMA, ChatServer, write_questions

WRITE = {"generate": {"model": "teacher", "max_new_tokens": 8}, "name": "written"}
LEARN = {"train": {"model": "student", "epochs": 1, "on": "written"}}


def pipeline(folder: Path, *stages: Any, **more: Any) -> Path:
    content = {
        "data": write_questions(folder),
        "task": "causal-lm",
        "threads": 1,
        "models": {"teacher": {"transformers": LLAMA}, "student": {"transformers": {**LLAMA, "num_hidden_layers": 1}}},
        "stages": stages,
        "targets": [{"name": "local", "rounds": 2, "seconds": 0.01, "warmup_seconds": 0}],
    }
    file = folder / "p.yaml"
    file.write_text(json.dumps({**content, **more}))
    return file


def faults_of(folder: Path, *stages: Any, **more: Any) -> str:
    with pytest.raises(UsageError) as refused:
        read_pipeline(pipeline(folder, *stages, **more))
    return str(refused.value)


def planned(folder: Path, *stages: Any) -> Plan:
    return make_plan(read_pipeline(pipeline(folder, *stages)))


def only(plan: Plan, *verbs: str) -> Plan:
    """The steps with those verbs, and no rows."""
    return Plan(plan.pipeline, tuple(s for s in plan.steps if s.stage.verb in verbs), (), plan.reference)


def test_texts_stand_beside_the_models(tmp_path: Path) -> None:
    plan = planned(tmp_path, {"train": {"model": "teacher"}}, WRITE, LEARN, {"train": {"epochs": 2}})
    steps = {step.name: step for step in plan.steps}
    assert steps["written"].inputs == {"source": "train"}
    assert steps["train-2"].inputs == {"source": "models.student", "on": "written"}
    assert steps["train-3"].inputs == {"source": "train-2"}
    assert not [row for row in plan.rows if row.kind is Kind.RESPONSES or row.step == "written"]
    assert plan.reference == "teacher-fp32"


def test_texts_from_elsewhere_need_no_model(tmp_path: Path) -> None:
    (tmp_path / "given.jsonl").write_text('{"id": 0, "response": "x"}')
    plan = planned(tmp_path, {"generate": {"from_file": "given.jsonl"}, "name": "written"}, LEARN)
    steps = {step.name: step for step in plan.steps}
    assert steps["written"].inputs == {}
    assert steps["train"].inputs == {"source": "models.student", "on": "written"}
    key = steps["written"].key
    assert {step.name: step for step in planned(tmp_path, {"generate": {"from_file": "given.jsonl"}}).steps}[
        "generate"
    ].key == key
    (tmp_path / "given.jsonl").write_text('{"id": 1, "response": "x"}')
    assert planned(tmp_path, {"generate": {"from_file": "given.jsonl"}}).step("generate").key != key


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ([{"train": {"model": "student", "on": "teacher"}}], "'teacher' gives a float network, not texts"),
        ([WRITE, {"distill": {"model": "student", "teacher": "written"}}], "'written' gives texts, which train"),
        ([WRITE, {"export": {}, "from": "written"}], "'written' gives texts, which train"),
        ([LEARN, WRITE], "comes later"),
        ([{"generate": {"model": "learner"}}], "the model 'learner' is untrained here"),
        ([{"generate": {"from_file": "p.yaml"}, "from": "teacher"}], "has no effect: this generate reads no model"),
        ([{"generate": {"from_file": "gone.jsonl"}}], "no such file"),
        ([{"generate": {"beams": 3, "modle": "x"}}], "did you mean 'model'?"),
    ],
)
def test_what_cannot_be_linked_is_told(stages: list[Any], said: str, tmp_path: Path) -> None:
    models = {"teacher": {"transformers": LLAMA}, "student": {"transformers": LLAMA}, "learner": {"zoo": "resnet8"}}
    assert said in faults_of(tmp_path, *stages, models=models)


def test_a_run_keeps_and_publishes_what_was_written(tmp_path: Path) -> None:
    store, folder = Store(tmp_path / "store"), tmp_path / "runs"
    with ChatServer() as server:
        asking = {"address": server.address, "served_model": "m", "max_new_tokens": 8, "rationale": True}
        write, learn = {"generate": asking, "name": "written"}, {"distill": {**LEARN["train"], "teacher": "teacher"}}
        plan = only(planned(tmp_path, write, learn), "build", "generate", "distill")
        rehearse(plan, statuses(plan, store), store, Silent())
        assert server.seen == []
        done = run_plan(plan, store, Silent())
        assert len(server.seen) == 48
        assert done["written"].record.metrics["texts"] == 24
        assert done["distill"].record.metrics["training"]["steps"] == 1
        assert run_plan(plan, store, Silent())["written"].reused
        dearer = planned(tmp_path, {**write, "generate": {**asking, "retries": 1, "batch_size": 2}}, learn)
        assert dearer.step("written").key == plan.step("written").key
    assert not (store.progress(plan.step("written").key)).exists()
    (folder / "texts").mkdir(parents=True)
    (folder / "texts" / "old.jsonl").write_text("")
    with pytest.raises(IndexError):  # without rows there is nothing to report, which comes after the files
        publish(plan, done, store, folder)
    (published,) = (folder / "texts").iterdir()
    assert published.name == "written.jsonl"
    assert published.read_bytes() == (store.artifact(done["written"].record.digest) / "responses.jsonl").read_bytes()
    again = tmp_path / "again"
    again.mkdir()
    shutil.copy(published, again / "given.jsonl")
    reread = only(planned(again, {"generate": {"from_file": "given.jsonl"}, "name": "written"}, LEARN), "generate")
    copied = run_plan(reread, store, Silent())["written"].record
    assert copied.digest == done["written"].record.digest
