from __future__ import annotations

import numpy as np
import pytest

from compress.errors import StageError
from compress.exporting.emissions import ort_x86, ort_x86_avx2
from compress.exporting.graph import Graph
from tests.exporting.canonical_graphs import canonical_graph


def test_weights_of_seven_bits_cannot_saturate_sums_of_sixteen() -> None:
    proto = ort_x86_avx2.emit(canonical_graph("residual", weight_bits=7)[0])
    weights = [array for array in Graph(proto.graph).arrays.values() if array.dtype == np.int8 and array.ndim > 1]
    assert len(weights) == 5  # four layers and the shortcut
    assert max(2 * 255 * int(np.abs(array.astype(np.int32)).max()) for array in weights) < 2**15
    assert max(int(np.abs(array.astype(np.int32)).max()) for array in weights) == 63


def test_it_is_the_file_for_vnni_otherwise() -> None:
    proto = canonical_graph("residual", weight_bits=7)[0]
    emitted = [emit(proto).SerializeToString(deterministic=True) for emit in (ort_x86.emit, ort_x86_avx2.emit)]
    assert emitted[0] == emitted[1]


def test_weights_of_eight_bits_are_refused() -> None:
    with pytest.raises(StageError, match=r"the weights of stem\.0 use more than 7 bits.*set `weight_bits: 7`"):
        ort_x86_avx2.emit(canonical_graph("residual", weight_bits=8)[0])
