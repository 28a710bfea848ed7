"""What the `export` stage does: one bundle in, one ONNX file out, checked on real examples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import ModelProto
from torch import nn

from compress.bundle import Bundle, Deployment, Kind, TensorSpec, write_bundle
from compress.data.dataset import Data
from compress.data.open import open_data
from compress.errors import UsageError
from compress.exporting import parity
from compress.exporting.emissions.table import EMISSIONS
from compress.exporting.int8_share import int8_share
from compress.exporting.stage import Export
from compress.exporting.torch_onnx import DEFAULT_OPSET, example_inputs, fixed, save, to_proto
from compress.exporting.tracing import quiet
from compress.models import rest
from compress.models.count import count_macs, count_parameters
from compress.stage import Context, Metrics

BATCH = 32


def export_emission(
    source: Bundle, emission: str, out: Path, settings: Export | None = None, context: Context | None = None
) -> Metrics:
    """Write `model.onnx` and `bundle.json` into `out`; the record says how it compares with torch.

    Without data in the context there are no examples, and no parity is measured.

    Raises:
        UsageError: A float model cannot be emitted in int8, or the emission is unknown.
        StageError: The network cannot be exported, or the file does not give its answers.
    """
    settings, context = settings or Export(), context or Context()
    data = None if context.data is None else open_data(context.data)
    deployment = _with_batch(source.deployment, settings.batch)
    proto, module = _proto(source, emission, settings.opset)
    return finish(proto, module, emission, out, deployment=deployment, data=data, settings=settings, context=context)


def finish(
    proto: ModelProto,
    module: nn.Module,
    emission: str,
    out: Path,
    *,
    deployment: Deployment,
    data: Data | None,
    settings: Export,
    context: Context,
) -> Metrics:
    """Write an emission of `module` as a bundle and check it; as `export_emission`."""
    if settings.batch is not None:
        fixed(proto, settings.batch)
    out.mkdir(parents=True, exist_ok=True)
    path = out / "model.onnx"
    save(proto, path)
    onnx.checker.check_model(str(path))
    write_bundle(out, Kind.ONNX, deployment)
    integer = emission != "fp32"
    metrics: Metrics = {
        "precision": "int8" if integer else "fp32",
        "profile": emission,
        "size_bytes": path.stat().st_size,
        "int8_share": None,
        "not_int8": [],
        "parameters": count_parameters(module),
        "macs": count_macs(module, example_inputs(deployment, batch=1)),
    }
    if integer:
        counted = int8_share(path, signed=emission == "ort-arm")
        metrics.update(int8_share=counted.share, not_int8=list(counted.not_int8))
    if data is not None:
        count = 2 if context.rehearsal else settings.parity_examples
        metrics["parity"] = _parity(
            path, module, data, deployment, count, integer=integer, strict=not context.rehearsal
        ).as_json()
    return metrics


def _proto(source: Bundle, emission: str, opset: int) -> tuple[ModelProto, nn.Module]:
    """The graph, and the torch model whose answers it must give."""
    if emission not in EMISSIONS:
        raise UsageError(f"export: unknown emission {emission!r}; there are {', '.join(EMISSIONS)}")
    if source.kind is Kind.TORCH:
        if emission != "fp32":
            raise UsageError(f"export: {emission} is int8, and the model is float: put `quantize:` before `export:`")
        module = rest.load(source.path)
        return to_proto(module, source.deployment, example_inputs(source.deployment), opset), module
    from compress.quantization.convert import canonical
    from compress.quantization.rest import CANONICAL_FILE, load_quantized

    model = load_quantized(source.path)
    if opset == DEFAULT_OPSET:
        graph = onnx.load(source.path / CANONICAL_FILE)
    else:
        graph = canonical(model, source.deployment, example_inputs(source.deployment), opset)
    if emission == "fp32":
        stop_rounding_activations(model)
    return EMISSIONS[emission](graph), model


def stop_rounding_activations(model: nn.Module) -> None:
    """Let a quantized model compute with float activations, as its float file does; weights stay rounded."""
    from compress.quantization.fake_quantize import FakeQuantize

    for module in model.modules():
        if isinstance(module, FakeQuantize):
            module.enabled = False


def _with_batch(deployment: Deployment, batch: int | None) -> Deployment:
    """The deployment of a file whose batch is fixed."""
    if batch is None:
        return deployment

    def fix(spec: TensorSpec) -> TensorSpec:
        return replace(spec, shape=tuple(batch if axis == "batch" else axis for axis in spec.shape))

    return replace(deployment, inputs=tuple(map(fix, deployment.inputs)), outputs=tuple(map(fix, deployment.outputs)))


def _parity(
    path: Path, module: nn.Module, data: Data, deployment: Deployment, count: int, *, integer: bool, strict: bool
) -> parity.Parity:
    """The file against torch on the first validation examples, in batches that the file takes."""
    fixed_batch = deployment.inputs[0].shape[0]
    size = fixed_batch if isinstance(fixed_batch, int) else BATCH
    count = min(count, len(data.validation))
    feeds, expected, again = [], [], []
    module.eval()
    for start in range(0, count, size):
        indices = np.arange(start, start + size) % len(data.validation)
        if not isinstance(fixed_batch, int):
            indices = indices[: count - start]
        inputs = data.batch(data.validation, indices).inputs
        feeds.append(dict(zip((spec.name for spec in deployment.inputs), inputs, strict=True)))
        tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in inputs]
        with torch.no_grad():
            expected.append(module(*tensors).numpy())
            with quiet(), torch.backends.mkldnn.flags(enabled=False):
                again.append(module(*tensors).numpy())
    return parity.check(path, feeds, expected, integer=integer, again=again, strict=strict)
