from __future__ import annotations

import copy

import torch

from compress.exporting.references import answers_in_float16, round_only, stop_rounding_activations
from compress.quantization.fake_quantize import FakeQuantize
from tests.exporting.canonical_graphs import canonical_graph


def test_with_all_names_nothing_changes_and_with_none_nothing_is_rounded() -> None:
    proto, model, x = canonical_graph("residual", symmetric=True)
    names = {node.name for node in proto.graph.node if node.op_type == "QuantizeLinear"}
    same, bare, disabled = (copy.deepcopy(model) for _ in range(3))
    round_only(same, names)
    round_only(bare, set())
    stop_rounding_activations(disabled)
    with torch.no_grad():
        assert torch.equal(same(x), model(x))
        assert torch.equal(bare(x), disabled(x))
        assert not torch.equal(bare(x), model(x))


def test_float16_moves_answers_and_leaves_the_network_alone() -> None:
    _, model, x = canonical_graph("residual", symmetric=True)
    before = [module.scale.clone() for module in model.modules() if isinstance(module, FakeQuantize)]
    with torch.no_grad():
        exact = model(x)
    narrow = answers_in_float16(model, (x,))
    assert narrow.dtype == torch.float32
    assert 0 < (narrow - exact).abs().max() < 0.05 * exact.abs().max()
    after = [module.scale for module in model.modules() if isinstance(module, FakeQuantize)]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
