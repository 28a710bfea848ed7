"""`compress run` under `torchrun`: two processes train together, and only one of them plans, measures and writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PIPELINE = """
data: {source: {digits: {}}, limit: {train: 128, validation: 64, test: 64}}
threads: 1
models: {net: {zoo: resnet8, width: 0.5}}
stages:
  - train: {epochs: 2}
  - prune: {keep: {macs: 0.6}, round_to: 2, recover: {epochs: 1}}
  - quantize: {epochs: 1}
targets: [{name: local, rounds: 2, seconds: 0.01, warmup_seconds: 0, throughput_seconds: 0.01}]
"""


def _torchrun(folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "p.yaml").write_text(PIPELINE)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "compress", "run", "p.yaml"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=400)


def test_two_processes_train_and_one_writes(tmp_path: Path) -> None:
    ran = _torchrun(tmp_path)
    assert ran.returncode in (0, 4), ran.stderr
    assert ran.stderr.count("train.fp32: export") == 1
    assert ran.stdout.count("report: ") == 1
    report = json.loads((tmp_path / "runs" / "p" / "report.json").read_text())
    assert {row["stage"] for row in report["models"]} == {"train", "prune", "quantize"}
    assert list((tmp_path / ".compress" / "scratch").iterdir()) == []
