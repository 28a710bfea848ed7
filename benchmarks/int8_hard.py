"""Networks that are hard for int8: what plain static quantization loses, and where the ladder ends.

    COMPRESS_DATA=... python benchmarks/int8_hard.py [depthwise] [transformer]

Trains two small networks on CIFAR-10 (10,000 images, kept for the next call), plants outlier channels that change
nothing in float, and runs a pipeline on each: once calibrated by least squared error, nothing else; once by the ladder
with `accuracy_drop: 0.005`. Accuracies are of all 10,000 test images, answered by ONNX Runtime from the files; nothing
is chosen on them. About twenty minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import int8_hard_networks as networks
import numpy as np
import torch
from common import ROOT, Claim, cifar10_settings, finish, save_result
from torch import nn

import compress
from compress.config import read_pipeline
from compress.console import ConsoleProgress
from compress.execute import execute
from compress.store import Store
from compress.training.evaluate import predict

NETWORKS = {"depthwise": networks.depthwise, "transformer": networks.transformer}
RECIPES: dict[str, dict[str, Any]] = {
    "depthwise": {"epochs": 5, "batch_size": 128, "optimizer": "adamw", "learning_rate": 0.004},
    "transformer": {"epochs": 6, "batch_size": 128, "optimizer": "adamw", "learning_rate": 0.001},
}
BUDGET = 0.005
IMAGES = 10000
CACHE = Path.home() / ".cache" / "compress" / "benchmarks" / "int8_hard"
DATA = ROOT / "configs" / "data" / "cifar10.yaml"
PIPELINE = """
name: int8-hard-{name}
seed: 0
data: {data}
models:
  net: {{python: "{code}:{name}", weights: {weights}}}
stages:
  - quantize: {{epochs: 0, calibration: mse}}
    name: plain
  - export: {{emit: [ort-x86]}}
    name: export-plain
  - quantize: {{accuracy_drop: {budget}, calibration: auto, epochs: 2, learning_rate: 0.0002, optimizer: adamw}}
    name: ladder
    from: net
  - export: {{emit: [ort-x86]}}
targets: [local]
"""


def trained(name: str) -> Path:
    """The weights of the hard network, trained here if they are not kept."""
    path = CACHE / f"{name}.pt"
    if path.is_file():
        return path
    data = compress.load_data(DATA)
    torch.manual_seed(0)
    data = data.head(IMAGES)
    net = compress.train(NETWORKS[name](), data, progress=ConsoleProgress(), threads=1, **RECIPES[name])
    before = _answers(net, data)
    networks.make_hard(net)
    assert np.mean(before.argmax(1) == _answers(net, data).argmax(1)) >= 0.999, "the float network has changed"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(net.state_dict(), path)
    return path


def _answers(net: nn.Module, data: Any) -> np.ndarray:
    found: np.ndarray = predict(net, data, data.validation)
    return found


def lines_of(name: str, report: dict[str, Any]) -> tuple[list[dict[str, Any]], list[Claim]]:
    """The table's lines and claims of one network."""
    rows = {row["name"]: row for row in report["models"]}
    floating = rows[report["reference_row"]]["metrics"]["accuracy"]
    plain, ladder = (rows[f"net-{stage}-ort-x86"]["metrics"]["accuracy"] for stage in ("plain", "ladder"))
    rungs = rows["net-ladder"]["quantization"]["rungs"]
    lines = [{"network": name, "step": "float", "test accuracy": f"{floating:.2%}"}]
    lines.append({"network": name, "step": "int8, calibrated (mse)", "test accuracy": f"{plain:.2%}"})
    for rung in rungs:
        lines.append(
            {
                "network": name,
                "step": f"ladder: {rung['meaning']} ({rung['choice']})",
                "lost on validation": f"{100 * rung['loss']:.2f} points",
                "seconds": f"{rung['seconds']:.0f}",
            }
        )
    kept = rows["net-ladder"]["quantization"]["kept"]
    lines.append({"network": name, "step": f"int8, by the ladder (kept: {kept})", "test accuracy": f"{ladder:.2%}"})
    best = min(rung["loss"] for rung in rungs)
    return lines, [
        Claim(f"{name}: points that plain static quantization loses", 100 * (floating - plain), ">=", 3.0, "{:.2f}"),
        Claim(f"{name}: points that the ladder loses on validation", 100 * best, "<=", 100 * BUDGET, "{:.2f}"),
        Claim(f"{name}: points that the ladder loses on test", 100 * (floating - ladder), "<=", 100 * BUDGET, "{:.2f}"),
    ]


def main() -> int:
    """Run, compare, print and save; the exit status says whether every claim held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), help="by default both")
    parser.add_argument("--store", type=Path, default=Path(".compress"))
    arguments = parser.parse_args()
    if "COMPRESS_DATA" not in os.environ:
        print("COMPRESS_DATA is not set: it must name the folder with cifar10/")
        return 0
    lines: list[dict[str, Any]] = []
    claims: list[Claim] = []
    for name in arguments.networks:
        weights = trained(name)
        code = ROOT / "benchmarks" / "int8_hard_networks.py"
        path = CACHE / f"{name}.yaml"
        data = json.dumps(cifar10_settings(train=IMAGES))
        path.write_text(PIPELINE.format(name=name, data=data, code=code, weights=weights, budget=BUDGET))
        outcome = execute(read_pipeline(path, []), Store(arguments.store), Path("runs"), ConsoleProgress())
        assert outcome is not None
        more, held = lines_of(name, dict(outcome.report))
        lines += more
        claims += held
    part = "" if set(arguments.networks) == set(NETWORKS) else "_" + "_".join(arguments.networks)
    return save_result(f"int8_hard{part}", lines, claims)


if __name__ == "__main__":
    finish(main)
