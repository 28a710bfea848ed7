from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compress.bundle import Bundle, Kind
from compress.data.settings import read_data_settings
from compress.distillation.stage import Distill
from compress.models import rest
from compress.models.settings import ModelSettings
from compress.models.stage import Build
from compress.stage import Context
from compress.training.evaluate import predict
from compress.training.finish import open_training


def test_the_student_learns_from_the_teacher_bundle(tmp_path: Path) -> None:
    context = Context(device="cpu", threads=1, data=read_data_settings("digits", Path.cwd()))
    inputs = {}
    for role, seed in (("source", "student"), ("teacher", "teacher")):
        folder = tmp_path / role
        folder.mkdir()
        Build(name=seed, model=ModelSettings(zoo="resnet8", width=0.5)).run({}, folder, context)
        inputs[role] = Bundle(Kind.TORCH, folder)
    before = rest.state_digest(rest.load(inputs["teacher"].path))
    out = tmp_path / "out"
    out.mkdir()
    stage = Distill.model_validate({"teacher": "teacher", "epochs": 2, "losses": [{"mse": {"weight": 1}}]})
    metrics = stage.run(inputs, out, context)
    assert metrics["training"]["epochs"][1]["training_loss"] < metrics["training"]["losses"][0]
    work = open_training(Bundle(Kind.TORCH, out), context)
    answers = [torch.from_numpy(predict(rest.load(path), work.data, work.data.test)) for path in (
        out, inputs["source"].path, inputs["teacher"].path)]  # fmt: skip
    assert (answers[0] - answers[2]).abs().mean() < (answers[1] - answers[2]).abs().mean()
    assert rest.state_digest(rest.load(inputs["teacher"].path)) == before


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"model": "a", "teacher": "a"}, "teacher"),
        ({"teacher": "a", "losses": [{"kl": {"weight": 0}}]}, "losses"),
        ({"teacher": "a", "schedule": "step"}, "milestones"),
    ],
)
def test_faults_are_found_before_any_work(settings: dict[str, object], where: str) -> None:
    assert [fault[0] for fault in Distill.model_validate(settings).faults()] == [where]


def test_it_refers_to_both_models() -> None:
    assert Distill(teacher="t").references() == {"source": None, "teacher": "t"}
    assert Distill(model="s", teacher="t").references() == {"source": "s", "teacher": "t"}
