from __future__ import annotations

from typing import get_args

import onnx
import pytest

from compress.exporting.emissions.table import EMISSIONS
from compress.exporting.stage import Emission
from compress.targets.emissions import EMISSIONS as KNOWN_TO_TARGETS
from tests.exporting.canonical_graphs import canonical_graph


def test_yaml_targets_and_the_table_know_the_same_emissions() -> None:
    assert tuple(EMISSIONS) == get_args(Emission) == KNOWN_TO_TARGETS


@pytest.mark.parametrize("emission", EMISSIONS)
def test_each_gives_a_valid_graph_and_leaves_the_canonical_one_alone(emission: str) -> None:
    proto = canonical_graph("mobile", symmetric=True, weight_bits=7)[0]
    before = proto.SerializeToString(deterministic=True)
    onnx.checker.check_model(EMISSIONS[emission](proto), full_check=True)
    assert proto.SerializeToString(deterministic=True) == before
