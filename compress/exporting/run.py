"""What the `export` stage does: one bundle in, one ONNX file out, checked on real examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import ModelProto
from torch import nn

from compress.bundle import Bundle, Deployment, Kind, write_bundle
from compress.data.dataset import Data
from compress.data.open import open_data
from compress.errors import UsageError
from compress.exporting import parity
from compress.exporting.element_types import computes_in_float16
from compress.exporting.emissions.table import EMISSIONS
from compress.exporting.int8_share import int8_share
from compress.exporting.library_folder import library_factory, library_names, rename, write_library_files
from compress.exporting.lint.check import lint, refuse
from compress.exporting.mobile import write_mobile
from compress.exporting.references import answers_in_float16, round_as
from compress.exporting.rounded import MADE_OF_FLOAT, check_rounded, emitted
from compress.exporting.sizes import fill, with_sizes
from compress.exporting.stage import Export
from compress.exporting.torch_onnx import DEFAULT_OPSET, example_inputs, fixed, save, to_proto
from compress.exporting.tracing import quiet
from compress.models import rest
from compress.models.count import count_macs, count_parameters
from compress.models.deployment import copy_tokenizer
from compress.stage import Context, Metrics
from compress.targets.emissions import FLOAT_EMISSIONS, UNCALIBRATED_EMISSIONS, precision_of
from compress.tasks.open import open_task

BATCH = 32
TEXT_BATCH = 8
"""Texts at a time: few, so that batches of different lengths are compared."""
PARITY_BYTES = 64 * 2**20
"""What the outputs that are compared may take: of language models those of a few texts."""
WRITING = ("causal-lm", "sequence-to-sequence")
NO_CACHE = (
    "files of language models give the logits of all tokens of a text at once and keep no keys and values from one "
    "call to the next: a runtime that writes text with them repeats the whole pass for each token"
)


def export_emission(
    source: Bundle, emission: str, out: Path, settings: Export | None = None, context: Context | None = None
) -> Metrics:
    """Write `model.onnx` and `bundle.json` into `out`; the record says how it compares with torch.

    Without data in the context there are no examples, and no parity is measured. The file of a network of the
    `transformers` library calls its tensors what the library does, and the library's files are put beside it.

    Raises:
        UsageError: A float model cannot be emitted in int8, or the emission is unknown.
        StageError: The network cannot be exported, or the file does not give its answers.
    """
    settings, context = settings or Export(), context or Context()
    task = open_task(context.task)
    data = None if context.data is None else task.prepare(open_data(context.data))
    proto, module, floating = _proto(source, emission, settings.opset)
    deployment, factory = with_sizes(source.deployment, settings.sizes), library_factory(source)
    if factory is not None:
        named = library_names(deployment)
        for graph in (proto, floating):
            if graph is not None:
                rename(graph, deployment, named)
        deployment = named
    metrics = finish(
        proto, module, emission, out,
        deployment=deployment, data=data, settings=settings, context=context, floating=floating,
    )  # fmt: skip
    copy_tokenizer(source.path, out)
    if factory is not None:
        loadable = write_library_files(out, factory, deployment)
        write_bundle(out, Kind.ONNX, deployment.with_extra(optimum=loadable.as_json()))
    return metrics | ({"notes": [NO_CACHE]} if task.name in WRITING else {})


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
    floating: ModelProto | None = None,
) -> Metrics:
    """Write an emission of `module` as a bundle and check it; as `export_emission`.

    `floating` is the float graph that a file was made of which needs no calibration.
    """
    fixed(proto, settings.sizes)
    if floating is not None:
        fixed(floating, settings.sizes)
    findings = lint(proto, emission)
    refuse(findings, "the file", emission)
    out.mkdir(parents=True, exist_ok=True)
    path = out / "model.onnx"
    save(proto, path)
    onnx.checker.check_model(str(path))
    write_bundle(out, Kind.ONNX, deployment)
    metrics: Metrics = {
        "precision": precision_of(emission),
        "profile": emission,
        "size_bytes": path.stat().st_size,
        "int8_share": None,
        "not_int8": [],
        "lint": [finding.as_json() for finding in findings],
        "parameters": count_parameters(module),
        "macs": count_macs(module, example_inputs(deployment, batch=1, nominal=True)),
    }
    if emission.startswith("ort-"):
        counted = int8_share(path, signed=emission == "ort-arm")
        metrics.update(int8_share=counted.share, not_int8=list(counted.not_int8))
    if settings.mobile:
        write_mobile(path, _any_feeds(deployment), signed=emission == "ort-arm")
    if data is not None:
        count = 2 if context.rehearsal else settings.parity_examples
        metrics["parity"] = _parity(
            path, module, data, deployment, count,
            emission=emission, strict=not context.rehearsal, floating=floating,
        ).as_json()  # fmt: skip
    return metrics


def _proto(source: Bundle, emission: str, opset: int) -> tuple[ModelProto, nn.Module, ModelProto | None]:
    """The graph, the torch model whose answers it must give, and the float graph that it was rounded from, if any."""
    if emission not in EMISSIONS:
        raise UsageError(f"export: unknown emission {emission!r}; there are {', '.join(EMISSIONS)}")
    if source.kind is Kind.TORCH:
        if emission not in (*FLOAT_EMISSIONS, *UNCALIBRATED_EMISSIONS):
            raise UsageError(f"export: {emission} is int8, and the model is float: put `quantize:` before `export:`")
        module = rest.load(source.path)
        proto = to_proto(module, source.deployment, example_inputs(source.deployment), opset)
        return emitted(proto, emission), module, proto if emission in UNCALIBRATED_EMISSIONS else None
    if emission in UNCALIBRATED_EMISSIONS:
        raise UsageError(f"export: {emission} {MADE_OF_FLOAT}: name that with `model:` or `from:`")
    from compress.quantization.convert import canonical
    from compress.quantization.rest import CANONICAL_FILE, load_quantized

    model = load_quantized(source.path)
    if opset == DEFAULT_OPSET:
        graph = onnx.load(source.path / CANONICAL_FILE)
    else:
        graph = canonical(model, source.deployment, example_inputs(source.deployment), opset)
    proto = EMISSIONS[emission](graph)
    round_as(model, emission, proto)
    return proto, model, None


def _any_feeds(deployment: Deployment) -> dict[str, npt.NDArray[Any]]:
    """Inputs of a file: random numbers, and of texts the least that there is."""
    random = np.random.default_rng(0)
    examples = zip(deployment.inputs, example_inputs(deployment, nominal=True), strict=True)
    return {
        spec.name: random.standard_normal(tensor.shape, np.float32) if spec.dtype == "float32" else tensor.numpy()
        for spec, tensor in examples
    }


def _parity(
    path: Path,
    module: nn.Module,
    data: Data,
    deployment: Deployment,
    count: int,
    *,
    emission: str,
    strict: bool,
    floating: ModelProto | None = None,
) -> parity.Parity:
    """The file against torch on the first validation examples, in batches that the file takes."""
    feeds, expected, again, counted = [], [], [], []
    narrow = emission == "tensorrt" and computes_in_float16(onnx.load(path, load_external_data=False))
    module.eval()
    for indices in _batches(data, deployment, count):
        inputs = fill(data.batch(data.validation, indices).inputs, deployment)
        feeds.append(dict(zip((spec.name for spec in deployment.inputs), inputs, strict=True)))
        tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in inputs]
        with torch.no_grad():
            expected.append(module(*tensors).numpy())
            if narrow:
                again.append(answers_in_float16(module, tuple(tensors)).numpy())
            else:
                with quiet(), torch.backends.mkldnn.flags(enabled=False):
                    again.append(module(*tensors).numpy())
        counted.append(_unpadded(feeds[-1], expected[-1], deployment))
    tokens = counted if _answers_tokens(deployment) else None
    if floating is not None:
        return check_rounded(
            path, floating, feeds, emission=emission, reference=expected, again=again, counted=tokens, strict=strict
        )
    integer = emission not in FLOAT_EMISSIONS
    return parity.check(
        path,
        feeds,
        expected,
        integer=integer,
        again=again,
        counted=tokens,
        strict=strict,
        emission=emission,
        narrow=narrow,
        network=module,
    )


def _batches(data: Data, deployment: Deployment, count: int) -> list[npt.NDArray[np.int64]]:
    """The first validation examples, texts in order of length; repeated where a file's batch is fixed."""
    fixed_batch, available = deployment.inputs[0].shape[0], len(data.validation)
    lengths = data.lengths(data.validation)
    size = fixed_batch if isinstance(fixed_batch, int) else BATCH if lengths is None else TEXT_BATCH
    order = np.arange(min(count, available))
    if lengths is not None:
        order = order[np.argsort(lengths[order], kind="stable")]
        if _answers_tokens(deployment):
            row = 4 * int(deployment.outputs[0].shape[-1]) * max(int(lengths[order].max()), *_decoded(deployment))
            order = order[:: -(-len(order) * row // PARITY_BYTES)]
    if isinstance(fixed_batch, int):
        order = np.resize(order, -(-len(order) // size) * size)
    return [order[start : start + size] for start in range(0, len(order), size)]


def _answers_tokens(deployment: Deployment) -> bool:
    """Whether outputs have an axis of tokens: a dynamic one besides the batch, or one as long as that of the inputs."""
    read, written = deployment.inputs[0], deployment.outputs[0]
    if any(isinstance(axis, str) for axis in written.shape[1:]):
        return True
    return read.dtype == "int64" and len(written.shape) == 3 and written.shape[1] == read.shape[1]


def _decoded(deployment: Deployment) -> list[int]:
    """The longest text that a decoder says, if there is one, in tokens; 0 to begin with."""
    return [0, *(size for name, size in deployment.extra.get("sizes", {}).items() if name.startswith("target"))]


def _answers_what_it_reads(deployment: Deployment) -> bool:
    """Whether each token of the outputs stands for one of the inputs; a decoder's do not."""
    decodes = any(spec.name.startswith("decoder_") for spec in deployment.inputs)
    return not decodes and deployment.outputs[0].shape[1] == deployment.inputs[0].shape[1]


def _unpadded(
    feed: dict[str, npt.NDArray[Any]], outputs: npt.NDArray[Any], deployment: Deployment
) -> npt.NDArray[np.bool_]:
    """Which tokens of the outputs, (examples, tokens), stand for a token of the inputs and no padding."""
    if "attention_mask" in feed and _answers_what_it_reads(deployment):
        return np.asarray(feed["attention_mask"] > 0)
    return np.ones(outputs.shape[:2], dtype=np.bool_)
