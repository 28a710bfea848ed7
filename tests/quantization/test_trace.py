from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from compress.errors import StageError
from compress.quantization.trace import spell_out, trace
from tests.models.text_networks import made
from tests.quantization.text_quantized import ONE_LAYER, tensors


@pytest.mark.parametrize("name", ONE_LAYER)
def test_a_graph_computes_where_its_inputs_lie(name: str) -> None:
    """Traced on the CPU, run on a device without values: positions and masks are made there as well."""
    _, module = made(name, "text-classification", **ONE_LAYER[name])
    graph = trace(module, tensors("text-classification", [4, 3])).to("meta")
    given = (x.to("meta") for x in tensors("text-classification", [9, 7, 2]))
    assert graph(*given).shape == (3, 3)
    assert not any(isinstance(value, torch.device) for node in graph.graph.nodes for value in node.kwargs.values())


def test_a_product_with_weights_and_a_bias_becomes_a_linear_layer() -> None:
    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.randn(6, 4)), nn.Parameter(torch.randn(4))

        def forward(self, x: Tensor) -> Tensor:
            return torch.addmm(self.bias, x, self.weight)

    module, x = Product(), torch.randn(5, 6)
    graph = trace(module, (x[:2],))
    spell_out(graph)
    targets = [node.target for node in graph.graph.nodes if node.op == "call_function"]
    assert torch.ops.aten.linear.default in targets and torch.ops.aten.addmm.default not in targets
    graph.recompile()
    torch.testing.assert_close(graph(x), module(x))


def test_a_text_network_of_one_length_only_is_refused() -> None:
    class OneLength(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.head = nn.Embedding(9, 4), nn.Linear(5 * 4, 3)

        def forward(self, ids: Tensor) -> Tensor:
            result: Tensor = self.head(self.embedding(ids).flatten(1))
            return result

    with pytest.raises(StageError, match=r"torch\.export cannot trace the network"):
        trace(OneLength(), (torch.zeros(2, 5, dtype=torch.int64),))


@pytest.mark.parametrize(("activation", "gate"), [(nn.SiLU(), "sigmoid"), (nn.Hardswish(), "hardsigmoid")])
def test_a_gated_activation_is_spelled_out_as_a_product(activation: nn.Module, gate: str) -> None:
    x = torch.linspace(-8, 8, 2 * 101).reshape(2, 101)
    graph_module = trace(nn.Sequential(activation), (x,))
    spell_out(graph_module)
    graph_module.recompile()
    names = [getattr(node.target, "__name__", "") for node in graph_module.graph.nodes]
    assert any(name.startswith(gate + ".") for name in names)
    assert any(name.startswith("mul.") for name in names)
    torch.testing.assert_close(graph_module(x), activation(x), rtol=1e-6, atol=1e-6)


def test_an_average_pool_of_more_than_the_image_is_a_global_one() -> None:
    x = torch.randn(2, 4, 7, 7)
    pool = nn.AvgPool2d(1280, ceil_mode=True)
    graph_module = trace(nn.Sequential(nn.Conv2d(4, 4, 1), pool), (x,))
    expected = graph_module(x)
    spell_out(graph_module)
    graph_module.recompile()
    assert any(node.target is torch.ops.aten.adaptive_avg_pool2d.default for node in graph_module.graph.nodes)
    torch.testing.assert_close(graph_module(x), expected, rtol=1e-6, atol=1e-7)


class MeanOfLine(nn.Module):
    """The mean over the last of three axes, behind a layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.layer(x)).mean(-1)


@pytest.mark.parametrize(
    ("module", "pools"),
    [
        (MeanOfLine(nn.Conv1d(4, 6, 3)), True),
        (nn.Sequential(nn.Conv1d(4, 6, 3, padding="same"), nn.AdaptiveAvgPool1d(1)), True),
        (MeanOfLine(nn.Linear(9, 5)), False),  # tokens: the last axis holds channels
        (nn.Sequential(nn.Conv1d(4, 6, 3), nn.AdaptiveAvgPool1d(2)), False),
    ],
)
def test_the_mean_of_a_convolved_line_is_a_global_pool(module: nn.Module, pools: bool) -> None:
    x = torch.randn(2, 4, 9)
    graph_module = trace(module, (x,))
    spell_out(graph_module)
    graph_module.recompile()
    targets = [node.target for node in graph_module.graph.nodes]
    assert (torch.ops.aten.adaptive_avg_pool2d.default in targets) == pools
    torch.testing.assert_close(graph_module(x), module(x), rtol=1e-6, atol=1e-6)
