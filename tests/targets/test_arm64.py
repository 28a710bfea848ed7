"""The measuring program under an emulated arm64 Python (emulated_arm.py), with ONNX Runtime's real Arm kernels."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from compress.targets.jobs import run_jobs
from compress.targets.programs import program_for
from compress.targets.settings import TargetSettings
from tests.targets.emulated_arm import arm64, arm64_root

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def root() -> Path:
    """The arm64 file system, made if it is not there."""
    return arm64_root()


class Batches(CalibrationDataReader):  # type: ignore[misc]
    """Calibration examples, one batch at a time."""

    def __init__(self, images: np.ndarray) -> None:
        self.left = [images[start : start + 16] for start in range(0, len(images), 16)]

    def get_next(self) -> dict[str, np.ndarray] | None:
        return {"input": self.left.pop(0)} if self.left else None


def networks(folder: Path, images: np.ndarray) -> dict[str, Path]:
    """A small float classifier, and the same in int8 as suits x86 (u8 activations) and Arm (s8 activations)."""
    generator = np.random.default_rng(0)
    weights = {
        "w0": generator.standard_normal((16, 1, 3, 3)) / 3,
        "w1": generator.standard_normal((32, 16, 3, 3)) / 12,
        "w2": generator.standard_normal((32, 10)),
    }
    nodes = [
        helper.make_node("Conv", ["input", "w0"], ["c0"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c0"], ["r0"]),
        helper.make_node("Conv", ["r0", "w1"], ["c1"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("GlobalAveragePool", ["r1"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w2"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    files = {name: folder / f"{name}.onnx" for name in ("fp32", "x86", "arm")}
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), files["fp32"])
    for name, activations in (("x86", QuantType.QUInt8), ("arm", QuantType.QInt8)):
        settings = {"quant_format": QuantFormat.QDQ, "per_channel": True, "weight_type": QuantType.QInt8}
        quantize_static(files["fp32"], files[name], Batches(images), activation_type=activations, **settings)
    return files


def test_arm_kernels_give_the_classes_that_x86_gives(root: Path, tmp_path: Path) -> None:
    images = np.random.default_rng(1).standard_normal((200, 1, 8, 8)).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    files = networks(tmp_path, images)

    def job(name: str, place: str) -> dict[str, Any]:
        inputs = {"input": f"{place}/images.npy"}
        request = {"inputs": inputs, "output": f"{place}/{name}.npy", "batch": 32}
        return {"model": f"{place}/{name}.onnx", "answers": request}

    run_jobs(TargetSettings(), {name: job(name, str(tmp_path)) for name in files})
    here = {name: np.load(tmp_path / f"{name}.npy") for name in files}

    jobs = [job(name, "files") for name in files]
    request = {"provider": "CPUExecutionProvider", "threads": 1, "cores": None, "jobs": jobs}
    (tmp_path / "request.json").write_text(json.dumps(request))
    program = program_for("onnxruntime")
    sent = [*files.values(), tmp_path / "images.npy", tmp_path / "request.json", program]
    copied = arm64("copy", root, *map(str, sent))
    assert copied.returncode == 0, copied.stderr
    ran = arm64("python", root, f"files/{program.name}", "files/request.json", "files/result.json")
    assert ran.returncode == 0, ran.stderr
    told = json.loads((root / "files" / "result.json").read_text())
    there = {name: np.load(root / "files" / f"{name}.npy") for name in files}

    assert told["machine"]["architecture"] == "aarch64"
    assert all(entry["base_bytes"] > 0 for entry in told["jobs"])  # without /proc
    classes = {name: answers.argmax(1) for name, answers in here.items()}
    assert len(np.unique(classes["fp32"])) > 3
    np.testing.assert_allclose(there["fp32"], here["fp32"], atol=1e-4)
    assert (there["arm"].argmax(1) == classes["arm"]).mean() >= 0.995
    assert (there["arm"].argmax(1) == classes["x86"]).mean() >= 0.98
    step = np.abs(here["arm"]).max() / 127
    assert np.abs(there["arm"] - here["arm"]).max() <= 2 * step
