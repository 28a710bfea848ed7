"""A report such as a run on scikit-learn's digits gives, and variants of it."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.report.int8_logs import bare_file, climbed, only_trained, slow_int8
from tests.report.measured_logs import all_measured, two_rounds
from tests.report.pruning_logs import pruned_to_a_share, pruned_to_a_time, pruned_very_deep
from tests.report.target_logs import changed_texts, side_by_side

TEST_EXAMPLES = 360
Json = dict[str, Any]


def wilson(share: float, examples: int) -> list[float]:
    z = 1.96
    middle = (share + z * z / (2 * examples)) / (1 + z * z / examples)
    half = z / (1 + z * z / examples) * math.sqrt(share * (1 - share) / examples + z * z / (4 * examples**2))
    return [middle - half, middle + half]


def latency(p50_ms: float, *, target: str = "local", batch: int = 1, seed: int = 0, memory: int = 0) -> Json:
    """Rounds of calls with a heavy tail and a little drift between rounds, and their statistics."""
    chance = random.Random(f"{seed} {p50_ms} {batch} {target}")
    rounds = []
    for _ in range(12):
        drift = p50_ms * (1 + chance.gauss(0, 0.01))
        calls = [drift * math.exp(abs(chance.gauss(0, 0.03)) - 0.02) for _ in range(100)]
        calls = [call * (1 + chance.expovariate(4)) if chance.random() < 0.03 else call for call in calls]
        rounds.append(sorted(round(call, 6) for call in calls))
    calls = sorted(call for one_round in rounds for call in one_round)
    medians = sorted(one_round[50] for one_round in rounds)
    p50, p90, p99 = (calls[int(share * len(calls))] for share in (0.5, 0.9, 0.99))
    return {
        "target": target,
        "runtime": "onnxruntime",
        "threads": 1,
        "batch": batch,
        "shape": {"input": [batch, 1, 8, 8]},
        "p50_ms": p50,
        "p90_ms": p90,
        "p99_ms": p99,
        "p50_ci95_ms": [medians[2], medians[-3]],
        "samples": len(calls),
        "throughput_per_s": (1600 if batch == 1 else 32_000) / p50,
        "peak_memory_bytes": memory or None,
        "load_ms": 12.0 + p50_ms,
        "rounds_ms": rounds,
    }


def file_row(name: str, right: int, p50_ms: float, size_bytes: int, seed: int, **more: Any) -> Json:
    share = right / TEST_EXAMPLES
    return {
        "name": name,
        "stage": "export",
        "kind": "onnx",
        "precision": "fp32",
        "profile": "fp32",
        "path": f"artifacts/{name}.onnx",
        "sha256": f"{abs(hash_of(name)):064x}"[-64:],
        "size_bytes": size_bytes,
        "parameters": 155_000,
        "macs": 2_300_000,
        "int8_share": None,
        "metrics": {"accuracy": share, "accuracy_ci95": wilson(share, TEST_EXAMPLES), "agreement": 0.9917},
        "validation": {"accuracy": share - 0.002, "accuracy_ci95": wilson(share - 0.002, 200)},
        "latency": [
            latency(p50_ms, seed=seed, memory=6_000_000 + 4 * size_bytes),
            latency(p50_ms * 20, seed=seed, batch=32, memory=9_000_000 + 5 * size_bytes),
        ],
        "parity": {"max_abs_difference": 3.1e-6, "same_class": 1.0},
        **more,
    }


def hash_of(name: str) -> int:
    import hashlib

    return int(hashlib.sha256(name.encode()).hexdigest(), 16)


def torch_row(name: str, sizes: tuple[int, int], accuracy: float, p50_ms: float | None, **more: Any) -> Json:
    parameters, macs = sizes
    return {
        "name": name,
        "kind": "torch",
        "precision": "fp32",
        "profile": None,
        "path": None,
        "sha256": "ab" * 32,
        "size_bytes": 4 * parameters + 5_000,
        "parameters": parameters,
        "macs": macs,
        "int8_share": None,
        "metrics": {"accuracy": accuracy + 0.001, "accuracy_ci95": wilson(accuracy + 0.001, TEST_EXAMPLES)},
        "validation": {"accuracy": accuracy, "accuracy_ci95": wilson(accuracy, 200)},
        "latency": [] if p50_ms is None else [{**latency(p50_ms), "rounds_ms": []}],
        **more,
    }


def make_digits_report() -> Json:
    left = [{"name": "head", "operator": "Gemm", "reason": "kept in float: it is not worth quantizing here"}]
    int8 = {"precision": "int8", "int8_share": 0.958, "not_int8": left, "parent": "student-int8"}
    rows = [
        torch_row("teacher", (2_742_858, 20_310_000), 0.9889, 1.52, stage="train"),
        torch_row("student", (1_228_810, 9_210_000), 0.9852, 0.731, stage="distill"),
        torch_row("student-small", (301_482, 4_590_000), 0.9833, 0.262, stage="prune", parent="student"),
        torch_row("student-int8", (301_482, 4_590_000), 0.9833, None, stage="quantize", parent="student-small"),
        file_row("teacher-fp32", 357, 1.52, 10_984_211, 1, parameters=2_742_858, parent="teacher"),
        file_row("student-small-fp32", 355, 0.262, 1_215_020, 2, parent="student-small"),
        file_row("student-small-int8-ort-x86", 355, 0.118, 318_400, 3, profile="ort-x86", **int8),
        file_row("student-small-int8-ort-arm", 354, 0.171, 318_912, 4, profile="ort-arm", **int8),
    ]
    rows[4]["stage"] = "train"
    rows[4]["metrics"]["agreement"] = 1.0
    budget = [
        {"name": "accuracy_drop", "limit": 0.01, "value": 2 / 360, "met": True},
        {
            "name": "speedup",
            "limit": 4,
            "value": rows[4]["latency"][0]["p50_ms"] / rows[6]["latency"][0]["p50_ms"],
            "met": True,
        },
        {"name": "size_ratio", "limit": 10, "value": 10_984_211 / 318_400, "met": True},
    ]
    steps = [
        ("train teacher", "train", 31.2, False),
        ("distill student", "distill", 22.8, False),
        ("prune", "prune", 14.1, False),
        ("quantize", "quantize", 19.7, False),
        ("export fp32", "export", 2.4, True),
        ("export ort-x86", "export", 1.9, False),
        ("measure on local", "profile", 27.6, False),
    ]
    return {
        "name": "digits",
        "met": True,
        "reference": "teacher",
        "reference_row": "teacher-fp32",
        "deploy": "student-small-int8-ort-x86",
        "judged": "student-small-int8-ort-x86",
        "deploy_reason": "the fastest file that meets the budget",
        "target": "local",
        "primary_metric": {"name": "accuracy", "higher_is_better": True},
        "models": rows,
        "budget": budget,
        "steps": [
            {"name": name, "stage": stage, "key": f"{hash_of(name):064x}", "seconds": took, "reused": reused}
            for name, stage, took, reused in steps
        ],
        "environment": {
            "processor": {"model": "AMD EPYC 9B14", "usable_cores": 2, "int8": ["avx2", "avx512_vnni"]},
            "memory_bytes": 8_332_890_112,
            "gpus": [{"name": "NVIDIA L4", "memory_mib": 23034}],
            "conditions": {"load": None},
            "python": "3.11.9",
            "libraries": {"torch": "2.13.0", "onnxruntime": "1.23.0", "numpy": "2.1.0"},
        },
        "notes": [],
    }


@pytest.fixture(scope="session")
def _digits_once() -> Json:
    return make_digits_report()


@pytest.fixture
def digits(_digits_once: Json) -> Json:
    """A fresh copy, to be changed as a test likes."""
    return copy.deepcopy(_digits_once)


@pytest.fixture(scope="session")
def variants(_digits_once: Json) -> dict[str, Json]:
    """Reports of every awkward kind, by name. Not to be changed."""
    made: dict[str, Callable[[Json], None]] = {
        "nothing meets the budget": _nothing_meets,
        "no budget": _no_budget,
        "regression": _regression,
        "no latency on the way": _no_latency_on_the_way,
        "one model": _one_model,
        "thirty models": _thirty_models,
        "very long names": _very_long_names,
        "several targets": _several_targets,
        "bare minimum": _bare_minimum,
        "awkward text": _awkward_text,
        "pruned to a share": pruned_to_a_share,
        "pruned to a time": pruned_to_a_time,
        "pruned, very deep": pruned_very_deep,
        "int8 climbed": climbed,
        "int8 only trained": only_trained,
        "int8 slower": slow_int8,
        "bare file": bare_file,
        "targets side by side": side_by_side,
        "changed texts": changed_texts,
        "all measured": all_measured,
        "two rounds": two_rounds,
    }
    reports = {"as usual": copy.deepcopy(_digits_once)}
    for name, change in made.items():
        reports[name] = copy.deepcopy(_digits_once)
        change(reports[name])
    return reports


@pytest.fixture(scope="session")
def pages(variants: dict[str, Json]) -> dict[str, str]:
    """The page of each variant."""
    from compress.report.page import html_page

    return {name: html_page(report) for name, report in variants.items()}


def _nothing_meets(report: Json) -> None:
    report.update(met=False, deploy=None, deploy_reason="no file is both fast and accurate enough")
    report["judged"] = "student-small-int8-ort-x86"
    report["budget"][0].update(limit=0.005, value=0.0050012, met=False)
    report["budget"][1].update(limit=30, value=12.9, met=False)
    report["budget"].append({"name": "peak_memory_bytes", "limit": 8_000_000, "value": None, "met": False})


def _no_budget(report: Json) -> None:
    report.update(budget=[], deploy_reason="")


def _regression(report: Json) -> None:
    report["primary_metric"] = {"name": "mse", "higher_is_better": False}
    for at, row in enumerate(report["models"]):
        value = 0.01234 * (1 + 0.01 * at)
        row["validation"] = {"mse": value * 0.97}
        if row["kind"] == "onnx":
            row["metrics"] = {"mse": value, "mse_ci95": [value * 0.94, value * 1.06], "agreement": 0.97}
        else:
            row["metrics"] = {}
    report["budget"][0] = {"name": "metric_drop", "limit": 0.05, "value": 0.019, "met": True}


def _no_latency_on_the_way(report: Json) -> None:
    for row in report["models"]:
        if row["kind"] == "torch":
            row.update(latency=[], metrics={})


def _one_model(report: Json) -> None:
    report["models"] = [report["models"][4]]
    report.update(deploy="teacher-fp32", judged="teacher-fp32", budget=[], deploy_reason="", steps=report["steps"][:1])


def _thirty_models(report: Json) -> None:
    chance = random.Random(0)
    for at in range(26):
        right = chance.randint(340, 357)
        name = f"student-keep{10 + 3 * at}-int8-ort-x86"
        row = file_row(name, right, 0.09 * 1.09**at, 200_000 + 20_000 * at, at, profile="ort-x86", precision="int8")
        report["models"].append(row)


def _very_long_names(report: Json) -> None:
    for row in report["models"]:
        for key in ("name", "parent"):
            if row.get(key):
                row[key] = f"a-company-wide-{row[key]}-with-a-name-that-somebody-thought-had-to-say-everything-v2.1"
    report["deploy"] = report["judged"] = report["models"][6]["name"]
    report["reference_row"] = report["models"][4]["name"]
    report["name"] = "the-compression-of-our-production-model-for-the-new-generation-of-cameras"


def _several_targets(report: Json) -> None:
    for at, row in enumerate(row for row in report["models"] if row["kind"] == "onnx"):
        for target, slower in (("raspberry-pi-5", 3.9), ("jetson-orin", 1.7)):
            row["latency"].append(
                latency(row["latency"][0]["p50_ms"] * slower * (1 + 0.2 * at), target=target, seed=at)
            )
    report["budget"].append(
        {"name": "latency_p50_ms", "limit": 1.5, "value": 0.61, "met": True, "target": "raspberry-pi-5"}
    )


def _bare_minimum(report: Json) -> None:
    report.update(models=[], budget=[], steps=[], environment={}, deploy=None, met=False)
    for key in ("reference_row", "judged", "target", "primary_metric", "notes", "deploy_reason"):
        report.pop(key)


def _awkward_text(report: Json) -> None:
    report["name"] = "<script>alert('x')</script> & $\\alpha$ | pipes"
    report["notes"] = ['<img src=x onerror=alert(1)> 50 % of "all"', "数字 測定"]
    report["models"][6]["name"] = report["deploy"] = report["judged"] = "学生-<b>$x_1$</b>|int8"
