"""An `nn.Module` in memory, float or quantized, to one ONNX file: the library's way into the same export."""

from __future__ import annotations

import copy
import shutil
import tempfile
from pathlib import Path

from onnx import ModelProto
from torch import nn

from compress.bundle import Deployment
from compress.data.dataset import Data
from compress.errors import UsageError
from compress.exporting.emissions.table import EMISSIONS
from compress.exporting.mobile import MODEL_FILE, OPERATORS_FILE
from compress.exporting.references import round_as
from compress.exporting.rounded import MADE_OF_FLOAT, emitted
from compress.exporting.run import finish
from compress.exporting.sizes import with_sizes
from compress.exporting.stage import Export
from compress.exporting.torch_onnx import example_inputs, to_proto
from compress.models.build import deployment_for
from compress.models.deployment import write_tokenizer
from compress.quantization.convert import canonical
from compress.quantization.fake_quantize import FakeQuantize
from compress.stage import Context
from compress.targets.emissions import FLOAT_EMISSIONS, UNCALIBRATED_EMISSIONS
from compress.tasks.task import Task


def export_module(model: nn.Module, data: Data, task: Task, emission: str, path: Path, settings: Export) -> Path:
    """Write one file and check it against `model` on validation examples; returns `path`.

    The tokenizer of a network that reads texts is put beside it, and with `mobile` the same name with `.ort`.

    Raises:
        UsageError: an int8 file is asked of a float network, or network, data and task do not fit each other.
        StageError: the network cannot be exported, or the file does not give its answers.
    """
    data = task.prepare(data)
    deployment = deployment_for(model, data, task)
    proto, module, floating = _proto(model, emission, deployment, settings.opset)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as scratch:
        out = Path(scratch)
        sized = with_sizes(deployment, settings.sizes)
        finish(
            proto, module, emission, out,
            deployment=sized, data=data, settings=settings, context=Context(), floating=floating,
        )  # fmt: skip
        shutil.move(out / "model.onnx", path)
        if settings.mobile:
            shutil.move(out / MODEL_FILE, path.with_suffix(".ort"))
            shutil.move(out / OPERATORS_FILE, path.with_name(f"{path.stem}.{OPERATORS_FILE}"))
    write_tokenizer(data, path.parent)
    return path


def _proto(
    model: nn.Module, emission: str, deployment: Deployment, opset: int
) -> tuple[ModelProto, nn.Module, ModelProto | None]:
    """The graph, the network whose answers it must give, and the float graph that it was rounded from, if it was."""
    quantized = any(isinstance(module, FakeQuantize) for module in model.modules())
    if quantized and emission in UNCALIBRATED_EMISSIONS:
        raise UsageError(f"export: {emission} {MADE_OF_FLOAT}: give the float one")
    if not quantized and emission not in (*FLOAT_EMISSIONS, *UNCALIBRATED_EMISSIONS):
        raise UsageError(f"export: {emission} is an int8 file, and the network is float: use compress.quantize first")
    module = copy.deepcopy(model).cpu().eval()
    if not quantized:
        proto = to_proto(module, deployment, example_inputs(deployment), opset)
        return emitted(proto, emission), module, proto if emission in UNCALIBRATED_EMISSIONS else None
    proto = EMISSIONS[emission](canonical(module, deployment, example_inputs(deployment), opset))
    round_as(module, emission, proto)
    return proto, module, None
