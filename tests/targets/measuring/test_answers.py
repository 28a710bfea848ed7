from pathlib import Path

import numpy as np

from compress.targets.measuring.answers import filled
from tests.targets.measuring.running import run, save


def test_answers_are_those_of_numpy_in_uneven_batches(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    model = save(tmp_path / "m.onnx", "g (float[batch,4] x) => (float[batch,3] y) { y = MatMul(x, w) }", w=weight)
    values = np.random.default_rng(1).standard_normal((23, 4)).astype(np.float32)
    np.save(tmp_path / "x.npy", values)
    request = {"inputs": {"x": str(tmp_path / "x.npy")}, "output": str(tmp_path / "y.npy"), "batch": 5}
    (result,), _ = run(tmp_path, {"model": str(model), "answers": request})
    assert result["examples"] == 23
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), values @ weight, atol=1e-6)


def test_a_file_bound_to_a_batch_answers_every_example_once(tmp_path: Path) -> None:
    model = save(tmp_path / "m.onnx", "g (float[4,2] x) => (float[4,2] y) { y = Add(x, x) }")
    values = np.arange(14, dtype=np.float32).reshape(7, 2)
    np.save(tmp_path / "x.npy", values)
    request = {"inputs": {"x": str(tmp_path / "x.npy")}, "output": str(tmp_path / "y.npy"), "batch": 32}
    run(tmp_path, {"model": str(model), "answers": request})
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), values * 2)


def test_answers_for_tokens_need_a_row_for_each(tmp_path: Path) -> None:
    model = save(tmp_path / "m.onnx", "g (float[n,4] x) => (float[n,4] y) { y = Relu(x) }")
    np.save(tmp_path / "x.npy", np.zeros((3, 4), np.float32))
    np.save(tmp_path / "t.npy", np.zeros((3, 4), np.int64))
    request = {"inputs": {"x": str(tmp_path / "x.npy")}, "output": str(tmp_path / "y.npy"), "batch": 2}
    request |= {"condense": "tokens", "targets": str(tmp_path / "t.npy")}
    [result], _ = run(tmp_path, {"model": str(model), "answers": request})
    assert result["error"]["kind"] == "run" and "not one row for each token" in result["error"]["message"]


def test_rows_are_filled_up_to_a_length_that_the_model_fixes() -> None:
    values = np.array([[1, 2], [3, 4]])
    assert filled(values, [None, 4], True).tolist() == [[1, 2, 0, 0], [3, 4, 0, 0]]
    assert filled(values, ["batch", "sequence"], True) is values
    assert filled(values, [None, 4], False) is values
    assert filled(values, [None, 2], True) is values
