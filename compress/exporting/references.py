"""The torch network whose answers a file must give: with the rounding that the file has, and no other."""

from __future__ import annotations

import copy

import numpy as np
import torch
from onnx import ModelProto, NodeProto
from torch import Tensor, nn
from torch.fx import GraphModule

from compress.exporting.graph import Graph
from compress.exporting.tracing import quiet
from compress.quantization.fake_quantize import FakeQuantize
from compress.quantization.prepare import name_sources
from compress.targets.emissions import FLOAT_EMISSIONS


def round_as(module: nn.Module, emission: str, proto: ModelProto) -> None:
    """Let a quantized network round what the file `proto` rounds: nothing in a float file; weights stay rounded."""
    if emission in FLOAT_EMISSIONS:
        stop_rounding_activations(module)
    elif emission.startswith("ort-"):
        round_to_grids_of(module, proto)
    elif emission == "tensorrt":
        round_only(module, {node.name for node in proto.graph.node if node.op_type == "QuantizeLinear"})


def stop_rounding_activations(model: nn.Module) -> None:
    """Let a quantized model compute with float activations, as its float file does; weights stay rounded."""
    for module in model.modules():
        if isinstance(module, FakeQuantize):
            module.enabled = False


def round_to_grids_of(module: nn.Module, proto: ModelProto) -> None:
    """Give a quantized network the grids of a file, which uses the whole of one where training used half of it."""
    assert isinstance(module, GraphModule)
    graph = Graph(proto.graph)
    grids = {node.name: _signed_grid(graph, node) for node in graph.nodes if node.op_type == "QuantizeLinear"}
    for node in module.graph.nodes:
        quantizer = module.get_submodule(str(node.target)) if node.op == "call_module" else None
        grid = grids.get(f"{node.args[0].name}_quantize") if isinstance(quantizer, FakeQuantize) else None
        if isinstance(quantizer, FakeQuantize) and grid is not None:
            own = copy.deepcopy(quantizer)  # tensors of one scale may have unlike zero points in the file
            own.set_grid(*grid)
            node.target = f"{node.target}_of_{node.args[0].name}"
            module.add_submodule(node.target, own)
    name_sources(module)
    module.recompile()


def _signed_grid(graph: Graph, node: NodeProto) -> tuple[float, int]:
    """Scale and zero point of a QuantizeLinear, as of signed integers."""
    scale, zero_point = (graph.arrays[name] for name in node.input[1:3])
    return float(scale.item()), int(zero_point.item()) - (128 if zero_point.dtype == np.uint8 else 0)


def round_only(module: nn.Module, names: set[str]) -> None:
    """Take out of a quantized network the roundings that are not among `names`, operators of its canonical graph."""
    assert isinstance(module, GraphModule)
    for node in list(module.graph.nodes):
        if node.op != "call_module" or not isinstance(module.get_submodule(str(node.target)), FakeQuantize):
            continue
        if f"{node.args[0].name}_quantize" not in names:
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)
    module.recompile()


def answers_in_float16(module: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """What torch's own float16 makes of a quantized network: how far answers move by that precision alone."""
    with quiet():
        narrow = copy.deepcopy(module)
    for part in narrow.modules():
        if isinstance(part, FakeQuantize):
            part.scale.data.copy_(part.scale.detach().half().float())
    rounded = [tensor.half().float() if tensor.is_floating_point() else tensor for tensor in inputs]
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.float16):
        result: Tensor = narrow(*rounded)
    return result.float()
