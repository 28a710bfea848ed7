"""From a torch network to an ONNX graph that holds the network and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from onnx import GraphProto, ModelProto
from torch import Tensor, nn

from compress.bundle import Deployment, TensorSpec
from compress.errors import StageError
from compress.exporting.graph import nested
from compress.exporting.pooling import PoolsAsMeans, pool_globally
from compress.exporting.simplify import simplify
from compress.exporting.tracing import dynamic_shapes, quiet, reason
from compress.exporting.translations import kept_translations

DEFAULT_OPSET = 18
PRODUCER = "compress"


def to_onnx(
    module: nn.Module,
    deployment: Deployment,
    example_inputs: tuple[Tensor, ...],
    path: Path,
    opset: int = DEFAULT_OPSET,
) -> None:
    """Write the network in evaluation mode. Axes that the deployment names are dynamic, the others fixed."""
    save(to_proto(module, deployment, example_inputs, opset), path)


def to_proto(
    module: nn.Module, deployment: Deployment, example_inputs: tuple[Tensor, ...], opset: int = DEFAULT_OPSET
) -> ModelProto:
    """The network as an ONNX graph: names from the deployment, no documentation, traces, paths or tool's name in it.

    Raises:
        StageError: torch cannot export the network.
    """
    axes = tuple(
        {i: torch.export.Dim.DYNAMIC for i, size in enumerate(spec.shape) if isinstance(size, str)}
        for spec in deployment.inputs
    )
    was_training = module.training
    if was_training:
        module.eval()
    try:
        with quiet(), kept_translations(), PoolsAsMeans(), torch.no_grad():
            program = torch.onnx.export(
                module,
                example_inputs,
                dynamo=True,
                dynamic_shapes=dynamic_shapes(module, axes),
                input_names=[spec.name for spec in deployment.inputs],
                output_names=[spec.name for spec in deployment.outputs],
                opset_version=opset,
                external_data=False,
                verbose=False,
            )
    except Exception as error:
        raise StageError(f"the network cannot be exported to ONNX: {reason(error)}") from error
    finally:
        if was_training:
            module.train()
    assert program is not None
    proto: ModelProto = program.model_proto
    _tidy(proto, deployment)
    return proto


def example_inputs(deployment: Deployment, batch: int = 2, *, nominal: bool = False) -> tuple[Tensor, ...]:
    """Zeros of the deployment's shapes, and ones for masks: `batch` on the axis of that name.

    Other dynamic axes get the lengths at which files are measured where `nominal`, else short and different ones.
    """
    longest = deployment.extra.get("sizes", {})
    names = dict.fromkeys(axis for spec in deployment.inputs for axis in spec.shape if isinstance(axis, str))
    sizes = {"batch": batch}
    for name in names:
        if name not in sizes:
            short = max(2, 9 - len(sizes))
            sizes[name] = longest.get(name, short) if nominal else min(short, longest.get(name, short))
    return tuple(
        (torch.ones if "mask" in spec.name and spec.dtype == "int64" else torch.zeros)(
            [sizes[axis] if isinstance(axis, str) else axis for axis in spec.shape], dtype=getattr(torch, spec.dtype)
        )
        for spec in deployment.inputs
    )


def fixed(proto: ModelProto, sizes: Mapping[str, int]) -> None:
    """Set axes of the graph's inputs and outputs, by their names."""
    for value in (*proto.graph.input, *proto.graph.output):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param in sizes:
                axis.dim_value = sizes[axis.dim_param]


def save(proto: ModelProto, path: Path) -> None:
    """Write a graph; the same graph gives the same bytes."""
    path.write_bytes(proto.SerializeToString(deterministic=True))


def _tidy(proto: ModelProto, deployment: Deployment) -> None:
    graph = proto.graph
    proto.producer_name, proto.producer_version, proto.doc_string, proto.domain = PRODUCER, "", "", ""
    del proto.metadata_props[:]
    del proto.functions[:]
    graph.name, graph.doc_string = "model", ""
    pool_globally(graph)
    simplify(graph)
    del graph.value_info[:]
    del graph.metadata_props[:]
    for item in _everything(graph):
        item.doc_string = ""
        del item.metadata_props[:]
    _name_layers(graph)
    for specs, values in ((deployment.inputs, graph.input), (deployment.outputs, graph.output)):
        if len(specs) != len(values):
            raise StageError(f"the network has {len(values)} inputs or outputs where {len(specs)} are declared")
        for spec, value in zip(specs, values, strict=True):
            _declare(spec, value)


def _name_layers(graph: GraphProto) -> None:
    """Call an operator with weights what its module is called."""
    constants = {item.name for item in graph.initializer}
    taken: set[str] = set()
    for node in graph.node:
        name = next((name for name in node.input[1:2] if name in constants and name.endswith(".weight")), "")
        if name and name not in taken:
            taken.add(name)
            node.name = name.removesuffix(".weight")


def _everything(graph: GraphProto) -> Iterable[Any]:
    yield from graph.input
    yield from graph.output
    yield from graph.initializer
    for node in graph.node:
        yield node
        for inner in nested(node):
            yield from _everything(inner)


def _declare(spec: TensorSpec, value: Any) -> None:
    """Give a graph input or output the axes that the deployment names."""
    shape = value.type.tensor_type.shape
    for i, axis in enumerate(shape.dim):
        named = spec.shape[i] if i < len(spec.shape) else None
        if isinstance(named, str):
            axis.dim_param = named
        elif named is not None:
            axis.dim_value = named
