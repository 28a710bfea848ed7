from __future__ import annotations

import json
from pathlib import Path

from compress.bundle import Bundle, Deployment, Kind, TensorSpec, write_bundle
from compress.data.settings import read_data_settings
from compress.distillation.stage import Distill
from compress.stage import Context
from compress.tasks.settings import TaskSettings
from compress.training.job import Job


def test_a_job_survives_json(tmp_path: Path) -> None:
    inputs = {}
    for role in ("source", "teacher"):
        (tmp_path / role).mkdir()
        deployment = Deployment({}, (TensorSpec("input", "float32", ("batch", 3)),), ())
        write_bundle(tmp_path / role, Kind.TORCH, deployment)
        inputs[role] = Bundle(Kind.TORCH, tmp_path / role, "abc")
    stage = Distill.model_validate(
        {"teacher": "teacher", "epochs": 3, "learning_rate": 0.1, "losses": ["kl", {"mse": {"weight": 0.5}}]}
    )
    context = Context(
        seed=4,
        device="cpu",
        threads=3,
        data=read_data_settings("digits", tmp_path),
        task=TaskSettings(name="regression", arguments={"loss": "l1"}),
        checkpoints=tmp_path / "checkpoints",
    )
    job = Job(stage, inputs, tmp_path / "out", context)
    found = Job.from_json(json.loads(json.dumps(job.as_json())), rank=1, world_size=2)
    assert (found.stage, found.inputs, found.out) == (job.stage, job.inputs, job.out)
    told = found.context
    assert (told.rank, told.world_size) == (1, 2)
    for name in ("seed", "device", "threads", "data", "task", "target", "checkpoints", "rehearsal"):
        assert getattr(told, name) == getattr(context, name), name
