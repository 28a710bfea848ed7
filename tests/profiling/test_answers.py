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
from compress.tasks import batching
from compress.tasks.batching import evaluation_batches
from compress.tasks.language import CausalLM
from compress.tasks.text_classification import TextClassification
from tests.data.text_helpers import labelled

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
    batches = evaluation_batches(examples, examples.test, 8)
    chunks = list(module._chunks(examples, examples.test, batches, 300))
    assert [len(chunk) for chunk in chunks] == [3, 3, 3, 3, 1]  # 8 examples of 16 bytes: 3 batches reach 300
    inputs = [batch.inputs[0] for chunk in chunks for batch in chunk]
    assert {len(array) for array in inputs[:-1]} == {8}
    np.testing.assert_array_equal(np.concatenate(inputs), examples.test.raw(range(100)))


def table_of(folder: Path, vocabulary: int, width: int) -> Path:
    """A network whose logits for each token are a row of a table: (N, T) -> (N, T, width); it reads the mask also."""
    text = '<ir_version: 10, opset_import: ["" : 18]> g (int64[batch,sequence] input_ids, int64[batch,sequence] '
    text += f"attention_mask) => (float[batch,sequence,{width}] output) "
    text += "{ rows = Gather(w, input_ids) axes = Constant<value_ints = [2]>() wide = Unsqueeze(attention_mask, axes) "
    text += "mask = Cast<to = 1>(wide) output = Mul(rows, mask) }"
    graph = parser.parse_model(text)
    weight = np.random.default_rng(3).normal(0, 2, (vocabulary, width)).astype(np.float32)
    graph.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    onnx.save(graph, folder / "table.onnx")
    return folder / "table.onnx"


@pytest.mark.parametrize("chunk_bytes", [module.CHUNK_BYTES, 700])
@pytest.mark.parametrize("logits_bytes", [batching.LOGITS_BYTES, 1500])
def test_answers_for_tokens_are_condensed_where_they_are_made(
    tmp_path: Path, chunk_bytes: int, logits_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "LOGITS_BYTES", logits_bytes)
    task = CausalLM()
    texts = task.prepare(labelled(tmp_path, count=90))
    size = task.output_size(texts)
    file = table_of(tmp_path, size, size)
    found = answers(file, texts, texts.train, TARGET, task=task, chunk_bytes=chunk_bytes)
    weight = numpy_helper.to_array(onnx.load(file).graph.initializer[0])
    batch = texts.batch(texts.train, np.arange(len(texts.train)))
    expected = task.condense(weight[batch.inputs[0]], batch.targets)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_texts_with_one_answer_each_come_in_the_order_of_the_split(tmp_path: Path) -> None:
    texts = labelled(tmp_path, count=90)
    text = '<ir_version: 10, opset_import: ["" : 18]> g (int64[batch,sequence] input_ids, int64[batch,sequence] '
    text += "attention_mask) => (float[batch,2] output) { axes = Constant<value_ints = [1]>() "
    text += "a = ReduceSum<keepdims = 1>(input_ids, axes) b = ReduceSum<keepdims = 1>(attention_mask, axes) "
    text += "c = Concat<axis = 1>(a, b) output = Cast<to = 1>(c) }"
    onnx.save(parser.parse_model(text), tmp_path / "sums.onnx")
    found = answers(tmp_path / "sums.onnx", texts, texts.train, TARGET, task=TextClassification(), chunk_bytes=600)
    ids, mask = texts.batch(texts.train, np.arange(len(texts.train))).inputs
    np.testing.assert_array_equal(found, np.stack([(ids * mask).sum(1), mask.sum(1)], axis=1))


def test_what_cannot_be_answered_is_said(tmp_path: Path) -> None:
    empty, wide = data(0), data(9, width=5)
    with pytest.raises(UsageError, match="no such file"):
        answers(tmp_path / "gone.onnx", wide, wide.test, TARGET)
    with pytest.raises(StageError, match=r"m.onnx: it fails when run on input \[8, 5\]"):
        answers(model(tmp_path), wide, wide.test, TARGET)
    with pytest.raises(UsageError, match="no examples"):
        answers(model(tmp_path), empty, empty.test, TARGET)
