from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from compress.data.dataset import ArraySplit, Data
from compress.errors import StageError, UsageError
from compress.profiling import answers as module
from compress.profiling.answers import answers
from compress.targets.settings import TargetSettings

WEIGHT = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
TARGET = TargetSettings(throughput_batch=8)


def model(folder: Path, batch: str = "batch") -> Path:
    text = f'<ir_version: 10, opset_import: ["" : 18]> g (float[{batch},4] input) => (float[{batch},3] output) '
    graph = parser.parse_model(text + "{ output = MatMul(input, w) }")
    graph.graph.initializer.append(numpy_helper.from_array(WEIGHT, "w"))
    onnx.save(graph, folder / "m.onnx")
    return folder / "m.onnx"


def data(count: int, width: int = 4) -> Data:
    inputs = np.random.default_rng(1).standard_normal((count, width)).astype(np.float32)
    split = ArraySplit(inputs, np.zeros(count, dtype=np.int64))
    return Data(split, split, split)


@pytest.mark.parametrize("batch", ["batch", "5"])
@pytest.mark.parametrize("chunk_bytes", [module.CHUNK_BYTES, 300])
def test_answers_are_the_models_for_each_example_in_order(tmp_path: Path, batch: str, chunk_bytes: int) -> None:
    examples = data(37)
    found = answers(model(tmp_path, batch), examples, examples.test, TARGET, chunk_bytes=chunk_bytes)
    expected = np.stack(examples.test.raw(np.arange(37))) @ WEIGHT
    assert found.shape == (37, 3)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_chunks_hold_whole_batches_and_little_memory() -> None:
    examples = data(100)
    chunks = list(module._chunks(examples, examples.test, 8, 300))
    assert [len(inputs) for (inputs,) in chunks] == [24, 24, 24, 24, 4]  # 8 examples of 16 bytes: 3 batches reach 300
    np.testing.assert_array_equal(np.concatenate([inputs for (inputs,) in chunks]), examples.test.raw(range(100)))


def test_what_cannot_be_answered_is_said(tmp_path: Path) -> None:
    empty, wide = data(0), data(9, width=5)
    with pytest.raises(UsageError, match="no such file"):
        answers(tmp_path / "gone.onnx", wide, wide.test, TARGET)
    with pytest.raises(StageError, match=r"m.onnx: it fails when run on input \[8, 5\]"):
        answers(model(tmp_path), wide, wide.test, TARGET)
    with pytest.raises(UsageError, match="no examples"):
        answers(model(tmp_path), empty, empty.test, TARGET)
