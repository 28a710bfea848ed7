"""Reports of several targets, one of them emulated, and of answers that changed."""

from __future__ import annotations

from typing import Any

import numpy as np

from compress.profiling.flips import flips
from compress.profiling.shown import shown_flips

Json = dict[str, Any]
DEPLOYED, OTHER = "student-small-int8-ort-x86", "student-small-int8-ort-arm"
LABELS = tuple("0123456789")


class Scans:
    """Test examples whose content tells which they are."""

    def __init__(self, texts: bool) -> None:
        self.texts = texts

    def __len__(self) -> int:
        return 360

    def raw(self, indices: Any) -> list[Any]:
        if self.texts:
            return [
                f"Example {index}: " + "it was the best of films, it was the worst of films. " * 7 for index in indices
            ]
        chance = np.random.default_rng(0)
        return [chance.integers(0, 17, (8, 8)).astype(np.uint8) for _ in indices]

    def targets(self, indices: Any) -> Any:
        return np.asarray(indices) % 10


def moved(*, texts: bool = False) -> Json:
    """What an evaluation tells of a file that errs on 4 others and has 2 more right."""
    right = np.arange(360) % 10
    before, after = right.copy(), right.copy()
    before[[10, 20, 30]] = 3
    after[[30, 41, 52, 63, 74]] = 5
    after[30] = 4
    found = flips(np.eye(10)[after], np.eye(10)[before], right)
    shown = shown_flips(Scans(texts), found, LABELS)
    return {"file": DEPLOYED, "reference": "teacher-fp32", "target": "local", **found.as_json(), "shown": shown}


def place(name: str, deploy: str | None, **more: Any) -> Json:
    processor = {"architecture": "aarch64", "cpu": f"the processor of {name}", "cores": 4, "features": ["dotprod"]}
    told = {"runtime": "onnxruntime", "threads": 1, "kind": "ssh", "emulated": False, "machine": processor}
    decided: Json = {"deploy": deploy, "judged": deploy, "met": None if deploy is None else True, "budget": []}
    marks = {"fingerprint": f"machine-{name}", "session": f"session-{name}"}
    reason = "the fastest file that meets the budget"
    return {"name": name, **told, **marks, **decided, "reason": reason, **more}


def side_by_side(report: Json) -> None:
    """Three places: another file is the best one on the second, the third is emulated."""
    from tests.report.conftest import latency, wilson

    for at, row in enumerate(row for row in report["models"] if row["kind"] == "onnx"):
        main = row["latency"][0]
        here, arm = main["p50_ms"], row["profile"] == "ort-arm"
        main["p90_ci95_ms"] = [0.97 * main["p90_ms"], 1.05 * main["p90_ms"]]
        board = latency(here * (2.1 if arm else 4.2), target="raspberry-pi-5", seed=at, memory=9_000_000)
        board.update(mode="full", p99_ms=None, not_established={"p99_ms": "321 calls are too few: it takes 662"})
        emulator = latency(here * 31, target="arm64-emulated", seed=at, memory=9_000_000) | {"emulated": True}
        row["latency"] += [board, emulator]
        share = row["metrics"]["accuracy"]
        row["metrics"].update(accuracy_drop_ci95=[-0.004, 0.016], agreement_ci95=[0.97, 0.997])
        there = {"accuracy": share - 0.003, "accuracy_ci95": wilson(share - 0.003, 360), "agreement": 0.98}
        row["metrics_by_target"] = {"local": dict(row["metrics"]), "raspberry-pi-5": there, "arm64-emulated": there}
    report["targets"] = [
        place("local", DEPLOYED),
        place("raspberry-pi-5", OTHER),
        place("arm64-emulated", None, emulated=True, reason="its times are those of an emulator"),
    ]
    report["flips"] = moved()
    _with_operators(report)
    _with_settings(report)


def changed_texts(report: Json) -> None:
    """The same, of a network that reads texts."""
    report["flips"] = moved(texts=True)


def _with_operators(report: Json) -> None:
    kinds = {"teacher-fp32": [("Conv", 14, 1380.0), ("Gemm", 1, 40.0)], DEPLOYED: [("QLinearConv", 9, 90.0)]}
    for row in report["models"]:
        row["operators"] = [
            {"operator": kind, "count": count, "microseconds": spent}
            for kind, count, spent in kinds.get(row["name"], [])
        ]
    there = {
        "teacher-fp32": [("Conv", 14, 4500.0), ("Gemm", 1, 100.0)],
        OTHER: [("QLinearConv", 9, 300.0), ("QGemm", 1, 50.0)],
    }
    for row in report["models"]:
        if row["name"] in there:
            told = [
                {"operator": kind, "count": count, "microseconds": spent} for kind, count, spent in there[row["name"]]
            ]
            row["operators_by_target"] = {"raspberry-pi-5": told, "arm64-emulated": told}


def _with_settings(report: Json) -> None:
    report["format"], report["task"] = 2, "image-classification"
    report["data"] = {
        "source": "digits",
        "fingerprint": "ab" * 32,
        "examples": {"train": 1168, "validation": 270, "test": 360},
        "labels": list(LABELS),
    }
    report["settings"] = {
        "seed": 0,
        "data": {"source": {"digits": {}}, "augmentation": [{"pad_crop": {"padding": 1}}]},
        "stages": [
            {"name": "train", "train": {"model": "teacher", "epochs": 12}},
            {"name": "distill", "distill": {"model": "student", "teacher": "teacher", "epochs": 1}},
            {"name": "small", "prune": {"keep": {"macs": 0.5}}},
            {"name": "export", "export": {"emit": ["fp32", "ort-x86"]}},
        ],
    }
