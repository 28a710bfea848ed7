"""A new user's own network, which no zoo has, goes the whole way: with nothing but YAML, and through the functions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from compress.cli import main

NETWORK = '''
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x):
        return torch.relu(self.norm(self.convolution(x)))


class Denoiser(nn.Module):
    """An encoder-decoder with a skip connection: an image in, an image out."""

    def __init__(self, width):
        super().__init__()
        self.encoder1, self.encoder2 = Block(1, width), Block(width, 2 * width)
        self.pool = nn.MaxPool2d(2)
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.decoder = Block(3 * width, width)
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, image):
        fine = self.encoder1(image)
        coarse = self.up(self.encoder2(self.pool(fine)))
        return self.head(self.decoder(torch.cat([fine, coarse], dim=1)))


def make(width=16):
    return Denoiser(width)
'''
PIPELINE = """
data: {source: {npz: {path: data.npz}}}
threads: 1
task: regression
models: {denoiser: {python: "network.py:make", arguments: {width: 16}}}
stages:
  - train: {epochs: 12, batch_size: 16}
  - prune: {keep: {macs: 0.5}, recover: {epochs: 4, batch_size: 16}}
  - quantize: {epochs: 1, batch_size: 16}
  - export: {emit: [ort-x86]}
targets: [{name: local, rounds: 2, seconds: 0.02, warmup_seconds: 0}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    clean = np.kron(random.random((240, 1, 4, 4)), np.ones((4, 4))).astype(np.float32)
    noisy = clean + 0.2 * random.standard_normal(clean.shape).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=noisy, y=clean)
    (tmp_path / "network.py").write_text(NETWORK)
    (tmp_path / "pipeline.yaml").write_text(PIPELINE)
    return tmp_path


def test_with_nothing_but_yaml(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as end:
        main(["check", "--deep", "pipeline.yaml"])
    assert end.value.code in (None, 0)
    assert {path.name for path in folder.iterdir()} <= {"data.npz", "network.py", "pipeline.yaml", "__pycache__"}

    with pytest.raises(SystemExit) as end:
        main(["run", "pipeline.yaml", "--skip-rehearsal"])
    assert end.value.code in (None, 0, 4)
    report = json.loads((folder / "runs" / "pipeline" / "report.json").read_text())
    rows = {row["name"]: row for row in report["models"]}
    trained, pruned = rows["denoiser-fp32"], rows["denoiser-prune-fp32"]
    int8 = rows["denoiser-quantize-ort-x86"]
    assert 0.4 <= pruned["macs"] / trained["macs"] <= 0.525
    assert int8["size_bytes"] < pruned["size_bytes"]
    assert int8["int8_share"] >= 0.9, int8["not_int8"]
    metric = report["primary_metric"]["name"]
    assert metric == "mse"
    assert int8["metrics"][metric] < 0.015, "the noise that is to be removed has 0.04"

    session = onnxruntime.InferenceSession(folder / "runs" / "pipeline" / int8["path"])
    images = np.load(folder / "data.npz")["x"][:3]
    (answer,) = session.run(None, {session.get_inputs()[0].name: images})
    assert answer.shape == (3, 1, 16, 16)


def test_through_the_functions(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import compress
    from compress.user_code import load_function

    monkeypatch.chdir(folder)
    network = load_function(f"{folder}/network.py:make")(width=16)
    data = compress.load_data({"source": {"npz": {"path": "data.npz"}}})
    task = compress.load_task("regression")
    trained = compress.train(network, data, task=task, epochs=16, batch_size=16)
    pruned = compress.prune(trained, data, task=task, keep={"macs": 0.5}, recover={"epochs": 6, "batch_size": 16})
    int8 = compress.quantize(pruned, data, task=task, epochs=1, batch_size=16)
    files = compress.export(int8, data, folder / "out", task=task, emit=["fp32", "ort-x86"])
    assert set(files) == {"fp32", "ort-x86"}
    assert sum(p.numel() for p in pruned.parameters()) < sum(p.numel() for p in trained.parameters())
    measured = compress.profile(files, rounds=2, seconds=0.02, warmup_seconds=0)
    assert measured["ort-x86"][0].p50_ms > 0
    session = onnxruntime.InferenceSession(files["ort-x86"])
    clean, noisy = np.load("data.npz")["y"], np.load("data.npz")["x"]
    (answer,) = session.run(None, {session.get_inputs()[0].name: noisy})
    assert ((answer - clean) ** 2).mean() < 0.015
