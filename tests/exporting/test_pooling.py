"""Pools over all of height and width are exported as one operator that computes the same, whichever order axes have."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from compress.bundle import Deployment, TensorSpec
from compress.exporting.torch_onnx import to_proto

SIZES = {1: (6, 5), 2: (6, 5, 4), 3: (6, 5, 4, 3)}
"""Channels, and the axes that are pooled."""
POOLS = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}


class Pooled(nn.Module):
    """Features of each example, from maps whose channels lie first or last."""

    def __init__(self, pool: nn.Module, channels_last: bool) -> None:
        super().__init__()
        self.pool, self.channels_last = pool, channels_last

    def forward(self, maps: Tensor) -> Tensor:
        """Pool, and flatten."""
        found: Tensor = self.pool(maps.movedim(-1, 1) if self.channels_last else maps)
        return found.flatten(1)


def exported(module: nn.Module, maps: Tensor) -> tuple[Counter[str], np.ndarray]:
    """The operators of the file with a free batch size, and what it answers."""
    with torch.no_grad():
        shape = module(maps).shape
    deployment = Deployment(
        task={},
        inputs=(TensorSpec("maps", "float32", ("batch", *maps.shape[1:])),),
        outputs=(TensorSpec("features", "float32", ("batch", *shape[1:])),),
    )
    proto = to_proto(module.eval(), deployment, (maps[:2],))
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    return Counter(node.op_type for node in proto.graph.node), session.run(None, {"maps": maps.numpy()})[0]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("axes", POOLS)
def test_a_pool_to_one_is_exported_as_one_operator(axes: int, channels_last: bool) -> None:
    module = Pooled(POOLS[axes](1), channels_last)
    channels, *size = SIZES[axes]
    maps = torch.randn(3, *size, channels) if channels_last else torch.randn(3, channels, *size)
    operators, found = exported(module, maps)
    pool = "GlobalAveragePool" if axes == 2 else "ReduceMean"
    assert operators[pool] == 1
    assert operators.total() - operators["Transpose"] == 2  # the pool, and what flattens
    pooled = tuple(range(1, axes + 1) if channels_last else range(2, axes + 2))
    np.testing.assert_allclose(found, maps.numpy().mean(pooled), atol=1e-6)


class Traced(nn.Module):
    """A pool as graphs that `torch.export` made call it."""

    def forward(self, maps: Tensor) -> Tensor:
        """Pool."""
        found: Tensor = torch.ops.aten.adaptive_avg_pool2d.default(maps, [1, 1])
        return found


def test_a_traced_pool_is_exported_so_too() -> None:
    operators, _ = exported(Pooled(Traced(), True), torch.randn(2, 5, 4, 6))
    assert operators["GlobalAveragePool"] == 1
    assert operators["Gather"] == 0


@pytest.mark.parametrize("size", [(1, 1), [1, 1], 1])
def test_one_may_be_written_in_each_way(size: Any) -> None:
    maps = torch.randn(2, 5, 4, 6)
    assert exported(Pooled(nn.AdaptiveAvgPool2d(size), True), maps)[0]["Gather"] == 0


def test_a_pool_to_more_stays_what_it_is() -> None:
    maps = torch.randn(2, 6, 8, 8)
    operators, found = exported(Pooled(nn.AdaptiveAvgPool2d((2, 1)), False), maps)
    assert not operators["GlobalAveragePool"]
    np.testing.assert_allclose(found, maps.reshape(2, 6, 2, 4, 8).mean((3, 4)).flatten(1), atol=1e-6)
