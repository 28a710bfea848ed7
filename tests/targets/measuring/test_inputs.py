from pathlib import Path

import numpy as np

from compress.targets.measuring.inputs import feeds_for, made_up
from compress.targets.measuring.session import open_session
from tests.targets.measuring.running import latency, run, save


def test_every_kind_of_input_can_be_made_up(tmp_path: Path) -> None:
    types = ["float", "double", "float16", "int64", "int32", "int8", "uint8", "bool"]
    inputs = ", ".join(f"{kind}[batch,3] in_{kind}" for kind in types)
    outputs = ", ".join(f"{kind}[batch,3] out_{kind}" for kind in types)
    body = " ".join(f"out_{kind} = Identity(in_{kind})" for kind in types)
    model = save(tmp_path / "m.onnx", f"g ({inputs}) => ({outputs}) {{ {body} }}")
    (result,), _ = run(tmp_path, {"model": str(model), "latency": latency()})
    assert set(result["runs"][0]["shapes"]) == {f"in_{kind}" for kind in types}


def test_made_up_inputs_are_seeded_and_safe_for_any_embedding() -> None:
    np.testing.assert_array_equal(made_up([2, 3], "float32"), made_up([2, 3], "float32"))
    assert set(np.unique(made_up([100], "int64"))) == {0, 1}


def test_made_up_masks_hide_nothing(tmp_path: Path) -> None:
    graph = (
        "g (int64[n,t] input_ids, int64[n,t] attention_mask) => (int64[n,t] y) { y = Add(input_ids, attention_mask) }"
    )
    session = open_session(str(save(tmp_path / "m.onnx", graph)), "CPUExecutionProvider", 1)
    feeds = feeds_for(session, 3, {"t": 50})
    assert feeds["attention_mask"].dtype == np.int64 and (feeds["attention_mask"] == 1).all()
    assert set(np.unique(feeds["input_ids"])) == {0, 1}
