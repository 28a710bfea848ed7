"""What a report holds of int8: a ladder that was climbed, training alone, int8 that does not pay, a bare file."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
KIND = ("operator", "count", "microseconds")
FLOAT = [("Conv", 7, 140.0), ("FusedConv", 2, 60.0), ("Gemm", 1, 30.0), ("ReorderOutput", 3, 9.0), ("Reshape", 1, 1.0)]
INT8 = [("QLinearConv", 9, 80.0), ("QuantizeLinear", 2, 30.0), ("DequantizeLinear", 2, 10.0), ("QGemm", 1, 5.0)]


def operators(kinds: list[tuple[str, int, float]]) -> list[Json]:
    return [dict(zip(KIND, kind, strict=True)) for kind in kinds]


def rung(name: str, meaning: str, choice: str, loss: float, seconds: float, *in_float: str, **more: Any) -> Json:
    return {
        "rung": name,
        "meaning": meaning,
        "choice": choice,
        "error": 0.004 * (1 + 10 * max(loss, 0)),
        "loss": loss,
        "seconds": seconds,
        "in_float": list(in_float),
        **more,
    }


def climbed(report: Json) -> None:
    """Three rungs, of which the last was kept, and int8 that pays."""
    report["models"][3]["quantization"] = {
        "grid": "affine",
        "weight_bits": 8,
        "kept": "mixed",
        "post_training": {"accuracy": 0.95},
        "trained": {"accuracy": 0.978},
        "rungs": [
            rung("static", "ranges from samples", "mse", 0.0333, 0.9, accuracy=0.95),
            rung("trained", "trained as it will run, from these scales", "4 epochs", 0.0053, 61.0, accuracy=0.978),
            rung(
                "mixed", "the most sensitive operators in float", "in float: stem", -0.001, 9.0, "stem", accuracy=0.984
            ),
        ],
        "in_float": ["stem"],
    }
    weigh(report, 2.22, True)


def only_trained(report: Json) -> None:
    """No ladder: calibrated, then trained."""
    report["models"][3]["quantization"] = {
        "grid": "symmetric",
        "weight_bits": 7,
        "kept": "trained",
        "post_training": {"accuracy": 0.95},
        "trained": {"accuracy": 0.978},
        "rungs": [],
        "in_float": [],
    }


def slow_int8(report: Json) -> None:
    """The float file is deployed, because int8 is not faster; why is said."""
    report.update(deploy="student-small-fp32", judged="student-small-fp32")
    weigh(report, 0.91, False, "4 operators go from float to int8 or back: 32% of its time", "3 of 9 layers are narrow")


def weigh(report: Json, speedup: float, pays: bool, *reasons: str) -> None:
    file, over = "student-small-int8-ort-x86", "student-small-fp32"
    finding = f"int8 {'pays' if pays else 'does not pay'} here: {file} against {over}"
    report["int8"] = {
        "file": file,
        "over": over,
        "pays": pays,
        "speedup": speedup,
        "speedup_ci95": [speedup - 0.02, speedup + 0.02],
        "said": finding,
        "reasons": list(reasons),
    }
    rows = {row["name"]: row for row in report["models"]}
    rows[over]["operators"], rows[file]["operators"] = operators(FLOAT), operators(INT8)


def bare_file(report: Json) -> None:
    """What `compress quantize` writes of a file without labels."""
    given, floating, int8 = (report["models"][at] for at in (4, 5, 6))
    for row, name, agreement in ((given, "given", 1.0), (floating, "fp32", 1.0), (int8, "ort-x86", 0.998)):
        row.update(name=name, profile=name, metrics={"agreement": agreement}, validation={"agreement": agreement})
        row.update(parent=None if name == "given" else "given", stage="quantize" if name == "ort-x86" else "export")
        row.update(parameters=None, macs=None)
    int8["quantization"] = {"kept": "static", "rungs": [rung("static", "ranges from samples", "minmax", 0.002, 1.2)]}
    said = "int8 pays here: ort-x86 is 2.20x faster than fp32 (2.10 to 2.30)"
    report.update(
        models=[given, floating, int8], reference="given", reference_row="given", deploy="ort-x86", judged="ort-x86",
        split="given", steps=[], primary_metric={"name": "agreement", "higher_is_better": True}, deploy_reason=said,
        budget=[{"name": "loss", "limit": 0.01, "value": 0.002, "met": True}],
    )  # fmt: skip
    worth = {"file": "ort-x86", "over": "fp32", "pays": True, "speedup": 2.2, "speedup_ci95": [2.1, 2.3]}
    report["int8"] = {**worth, "said": said, "reasons": []}
    floating["operators"], int8["operators"] = operators(FLOAT), operators(INT8)
