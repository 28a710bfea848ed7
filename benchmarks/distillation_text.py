"""Students of text classifiers, taken from their teachers: SST-2 (12 to 6 layers) and BANKING77.

    COMPRESS_DATA=... python benchmarks/distillation_text.py [--set distill.epochs=1] [--only sst2]

Runs `pipelines/sst2_distilbert.yaml` and `pipelines/banking77.yaml`, and reads what ONNX Runtime answered from the
files. SST-2: the student's accuracy on GLUE's dev sentences and the labelled test together (2,693), against the
teacher's, and its latency against the teacher's, measured side by side. BANKING77: the distilled student against the
same student trained on labels alone, by a paired bootstrap over the test set. About an hour on two cores; a call that
was interrupted goes on.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
from common import ROOT, Claim, finish, save_result

from compress.config import read_pipeline
from compress.console import ConsoleProgress
from compress.data.dataset import Data
from compress.data.open import open_data
from compress.execute import execute
from compress.pipeline import Pipeline
from compress.profiling.answers import answers
from compress.profiling.latency import Latency
from compress.profiling.profile import compare
from compress.store import Store
from compress.targets.reading import read_target
from compress.tasks.open import open_task

DRAWS = 10_000
Rows = dict[str, dict[str, Any]]


def run(name: str, arguments: argparse.Namespace) -> tuple[Pipeline, Path, Rows]:
    """A pipeline's folder of results, and its report's rows by name."""
    pipeline = read_pipeline(ROOT / "pipelines" / f"{name}.yaml", arguments.set)
    outcome = execute(pipeline, Store(arguments.store), Path("runs"), ConsoleProgress())
    assert outcome is not None
    return pipeline, outcome.folder, {row["name"]: row for row in outcome.report["models"]}


def right(folder: Path, data: Data, split: str) -> np.ndarray:
    """For each example of a split whether the answer of the file in a folder of artifacts is right."""
    part = getattr(data, split)
    found = answers(folder / "model.onnx", data, part, read_target("local")).argmax(1) == part.targets(
        np.arange(len(part))
    )
    return np.asarray(found, dtype=np.float64)


def sst2(arguments: argparse.Namespace) -> tuple[list[dict[str, Any]], list[Claim]]:
    """Accuracy kept and time saved by half of the layers."""
    pipeline, folder, rows = run("sst2_distilbert", arguments)
    data = open_task(pipeline.task).prepare(open_data(pipeline.data))
    names = {"teacher, 12 layers": "teacher-fp32", "student, 6 layers": "student-fp32"}
    found = {}
    for title, name in names.items():
        place = folder / rows[name]["path"]
        found[title] = np.concatenate([right(place, data, "validation"), right(place, data, "test")])
    latencies = {title: Latency.from_row(rows[name]["latency"][0]) for title, name in names.items()}
    teacher, student = found.values()
    ratio = compare(*latencies.values())
    lines = [
        {
            "data": "SST-2, dev and test",
            "network": title,
            "parameters": f"{rows[names[title]]['parameters']:,}",
            "accuracy": f"{values.mean():.2%}",
            "p50": f"{latencies[title].p50_ms:.2f} ms",
        }
        for title, values in found.items()
    ]
    lines[1]["points lost"] = f"{100 * (teacher.mean() - student.mean()):.2f}"
    lines[1]["parameters saved"] = f"{1 - _parameters(rows, names, 1) / _parameters(rows, names, 0):.0%}"
    claims = [
        Claim("SST-2: share of the teacher's accuracy kept", student.mean() / teacher.mean(), ">=", 0.97, "{:.2%}"),
        Claim(
            f"SST-2: latency over the teacher's (95 % interval {1 / ratio.high:.2f} to {1 / ratio.low:.2f})",
            1 / ratio.value, "<=", 0.6, "{:.2f}",
        ),
    ]  # fmt: skip
    return lines, claims


def _parameters(rows: Rows, names: dict[str, str], position: int) -> int:
    return int(rows[list(names.values())[position]]["parameters"])


def banking77(arguments: argparse.Namespace) -> tuple[list[dict[str, Any]], list[Claim]]:
    """The same student with and without its teacher."""
    pipeline, folder, rows = run("banking77", arguments)
    data = open_task(pipeline.task).prepare(open_data(pipeline.data))
    names = {"teacher, 12 layers": "teacher-fp32", "student, labels alone": "control-fp32", "student": "student-fp32"}
    found = {title: right(folder / rows[name]["path"], data, "test") for title, name in names.items()}
    difference = found["student"] - found["student, labels alone"]
    generator = np.random.default_rng(0)
    drawn = generator.integers(0, len(difference), (DRAWS, len(difference)), dtype=np.int32)
    means = difference[drawn].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    lines = [
        {
            "data": "BANKING77, test",
            "network": title,
            "parameters": f"{rows[names[title]]['parameters']:,}",
            "accuracy": f"{values.mean():.2%}",
        }
        for title, values in found.items()
    ]
    what = f"BANKING77: gain over labels alone {difference.mean():.2%} (to {high:.2%}), lower end of its 95 % interval"
    return lines, [Claim(what, float(low), ">=", 0.0001, "{:.2%}")]


def main() -> int:
    """Run, compare, print and save; the exit status says whether every claim held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", action="append", default=[], help="override a value of the pipelines")
    parser.add_argument("--store", type=Path, default=Path(".compress"))
    parser.add_argument("--only", choices=["sst2", "banking77"])
    arguments = parser.parse_args()
    if "COMPRESS_DATA" not in os.environ:
        print("COMPRESS_DATA is not set: it must name the folder with sst2/, banking77/ and bert_vocab/")
        return 0
    lines, claims = [], []
    for name, measure in {"sst2": sst2, "banking77": banking77}.items():
        if arguments.only in (None, name):
            more_lines, more_claims = measure(arguments)
            lines += more_lines
            claims += more_claims
    suffix = f"_{arguments.only}" if arguments.only else ""
    return save_result(f"distillation_text{suffix}", lines, claims)


if __name__ == "__main__":
    finish(main)
