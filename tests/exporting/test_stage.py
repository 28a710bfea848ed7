from __future__ import annotations

import pytest

from compress.exporting.stage import Export


def test_sizes_are_the_batch_and_the_other_axes() -> None:
    assert Export().sizes == {}
    assert Export(batch=1, axes={"sequence": 128}).sizes == {"batch": 1, "sequence": 128}


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        (Export(axes={"batch": 8}), "axes"),
        (Export(mobile=True, emit=("fp32", "bf16")), "mobile"),
        (Export(emit=()), "emit"),
        (Export(emit=("fp16", "fp16")), "emit"),
    ],
)
def test_what_makes_no_sense_is_said_before_any_work(settings: Export, field: str) -> None:
    ((where, _),) = settings.faults()
    assert where == field
    assert Export(mobile=True, emit=("fp16", "tensorrt")).faults() == []
