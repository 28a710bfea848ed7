from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compress.bundle import BUNDLE_FILE, Kind, read_bundle
from compress.data.settings import read_data_settings
from compress.errors import UsageError
from compress.models import rest
from compress.models.settings import read_model_settings
from compress.models.stage import Build, seed_for
from compress.stage import Context
from compress.tasks.settings import TaskSettings

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, mode):
        super().__init__()
        self.mode = mode
        self.layer = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x):
        y = self.layer(x)
        if self.mode == "tuple":
            return y, y
        if self.mode == "integers":
            return y.long()
        if self.mode == "nan":
            return y * float("nan")
        if self.mode == "fails":
            return y + torch.zeros(3, 5)
        return y

def make(mode):
    return Net(mode)
"""


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    x = generator.random((40, 1, 8, 8), dtype=np.float32)
    np.savez(tmp_path / "pictures.npz", x=x, y=x * 2)
    np.savez(tmp_path / "classes.npz", x=x, y=np.arange(40) % 3)
    (tmp_path / "net.py").write_text(NET)
    return tmp_path


def _build(model: dict[str, Any], folder: Path, file: str, task: Any, *, name: str = "net", seed: int = 0) -> Any:
    data = read_data_settings({"source": {"npz": {"path": file, "input": "x", "target": "y"}}}, folder)
    stage = Build(name=name, model=read_model_settings(model, folder))
    out = folder / "out"
    out.mkdir(exist_ok=True)
    metrics = stage.run({}, out, Context(seed=seed, data=data, task=TaskSettings.model_validate(task)))
    return metrics, out


def test_a_zoo_network_becomes_a_bundle(pictures: Path) -> None:
    metrics, out = _build({"zoo": "resnet8", "width": 0.25}, pictures, "classes.npz", "image-classification")
    bundle = read_bundle(out)
    assert bundle.kind is Kind.TORCH
    [given] = bundle.deployment.inputs
    [answer] = bundle.deployment.outputs
    assert (given.shape, answer.shape) == (("batch", 1, 8, 8), ("batch", 3))
    assert rest.load(out)(torch.zeros(2, 1, 8, 8)).shape == (2, 3)
    assert metrics["parameters"] == sum(parameter.numel() for parameter in rest.load(out).parameters())
    assert metrics["size_bytes"] == (out / rest.WEIGHTS_FILE).stat().st_size
    assert metrics["macs"] > 0


def test_a_users_network_becomes_a_bundle_without_its_path(pictures: Path) -> None:
    _, out = _build({"python": "net.py:make", "arguments": {"mode": "well"}}, pictures, "pictures.npz", "regression")
    assert read_bundle(out).deployment.outputs[0].shape == ("batch", 1, 8, 8)
    for file in out.rglob("*"):
        assert file.is_dir() or str(pictures).encode() not in file.read_bytes()
    assert (out / BUNDLE_FILE).exists()


def test_weights_follow_seed_and_name(pictures: Path) -> None:
    digests = []
    for name, seed in [("a", 0), ("a", 0), ("b", 0), ("a", 1)]:
        _, out = _build(
            {"zoo": "resnet8", "width": 0.25}, pictures, "classes.npz", "image-classification", name=name, seed=seed
        )
        digests.append(rest.state_digest(rest.load(out)))
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
    assert seed_for(0, "a") != seed_for(0, "b")


@pytest.mark.parametrize(
    ("model", "file", "task", "says"),
    [
        ({"zoo": "vgg8"}, "classes.npz", "image-classification", r"models.net: vgg8 needs images of at least 16x16"),
        ({"zoo": "resnet8"}, "pictures.npz", "regression", r"targets have shape \(1, 8, 8\)"),
        ({"python": "net.py:make", "arguments": {"mode": "tuple"}}, "pictures.npz", "regression", "gives a tuple"),
        ({"python": "net.py:make", "arguments": {"mode": "integers"}}, "pictures.npz", "regression", "torch.int64"),
        ({"python": "net.py:make", "arguments": {"mode": "nan"}}, "pictures.npz", "regression", "nan or infinite"),
        (
            {"python": "net.py:make", "arguments": {"mode": "fails"}},
            "pictures.npz",
            "regression",
            r"does not take inputs of shape \(2, 1, 8, 8\).*line 20 of",
        ),
        (
            {"python": "net.py:make", "arguments": {"mode": "well"}},
            "classes.npz",
            "image-classification",
            r"gives \(2, 1, 8, 8\).*needs \(2, 3\)",
        ),
    ],
)
def test_networks_that_do_not_fit_are_refused_in_words(
    model: dict[str, Any], file: str, task: str, says: str, pictures: Path
) -> None:
    with pytest.raises(UsageError, match=f"(?s)models.net.*{says}" if "models.net" not in says else says):
        _build(model, pictures, file, task)
    assert not list((pictures / "out").iterdir())
