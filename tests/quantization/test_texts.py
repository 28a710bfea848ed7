"""Networks that read texts of any length, in int8."""

from __future__ import annotations

import pytest
import torch

from compress.data.dataset import Data
from compress.quantization.calibrate import set_quantizing
from compress.quantization.quantize import calibration_batches, quantize
from compress.quantization.stage import Quantize
from compress.quantization.weighted import Weighted
from compress.stage import Context
from compress.tasks.open import open_task
from compress.tasks.settings import TaskSettings
from compress.training.evaluate import evaluate
from tests.distillation.texts import network, texts
from tests.processor import WEIGHT_BITS
from tests.quantization.text_quantized import quantized, tensors

LINEAR = {"bert": 8, "llama": 8, "gpt2": 5}
"""Linear layers of the networks: four of attention, two or three behind it, the heads; GPT-2 has queries to values in
one."""


@pytest.mark.parametrize("name", LINEAR)
def test_without_rounding_it_is_the_float_network_at_any_length(name: str) -> None:
    module, model = quantized(name)
    set_quantizing(model, False)
    try:
        with torch.no_grad():
            for lengths in ([1], [3, 12], [24, 7, 16]):
                given = tensors("text-classification", lengths)
                torch.testing.assert_close(model(*given), module(*given), atol=1e-4, rtol=1e-4)
    finally:
        set_quantizing(model, True)


@pytest.mark.parametrize("name", LINEAR)
def test_every_linear_layer_is_int8_and_the_answers_stay_close(name: str) -> None:
    module, model = quantized(name)
    layers = [layer for layer in model.modules() if isinstance(layer, Weighted)]
    assert len(layers) == LINEAR[name]
    assert all(layer.bits == WEIGHT_BITS and layer.source for layer in layers)
    given = tensors("text-classification", [24, 7, 16])
    with torch.no_grad():
        error = (model(*given) - module(*given)).norm() / module(*given).norm()
    assert 0 < error < 0.1


def test_what_layers_do_not_read_stays_float() -> None:
    """The sum behind attention adds the float embeddings, not the rounded ones that the queries are made of."""
    _, model = quantized("bert")
    sums = [
        node for node in model.graph.nodes if node.target is torch.ops.aten.add.Tensor and node.meta["val"].ndim == 3
    ]
    rounded = [node for node in model.graph.nodes if node.op == "call_module" and "quantizers" in str(node.target)]
    assert len(rounded) == 6
    assert not any(item in rounded for node in sums for item in node.all_input_nodes)


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return texts("documents", tmp_path_factory.mktemp("documents"))


def test_calibration_texts_stand_in_order_of_length(documents: Data) -> None:
    batches = [*calibration_batches(documents, Quantize(batch_size=8), Context())()]
    longest = [ids.shape[1] for ids, _ in batches]
    assert longest == sorted(longest)
    assert longest[0] < longest[-1]
    assert sum(len(ids) for ids, _ in batches) == len(documents.train)


@pytest.mark.parametrize("calibration", ["mse", "auto"])
def test_a_language_model_is_quantized_trained_and_measured(documents: Data, calibration: str) -> None:
    task = open_task(TaskSettings(name="causal-lm"))
    module = network("documents", documents, seed=0)
    settings = Quantize.model_validate(
        {"epochs": int(calibration == "mse"), "batch_size": 8, "calibration": calibration}
    )
    result = quantize(module, documents, task, settings)
    told = result.post_training["perplexity"]
    assert told == pytest.approx(evaluate(module, documents, task, documents.validation)["perplexity"], rel=0.2)
    if result.trained is not None:
        assert result.kept == ("trained" if result.trained["perplexity"] <= told else "post_training")
    found = evaluate(result.module, documents, task, documents.validation)["perplexity"]
    assert found == min(told, (result.trained or result.post_training)["perplexity"])
