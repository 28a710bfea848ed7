from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from compress.data.dataset import ArraySplit, Data
from compress.quantization.fake_quantize import FakeQuantize
from compress.quantization.quantize import calibration_batches, quantize
from compress.quantization.stage import Quantize
from compress.quantization.weighted import Weighted
from compress.stage import Context
from compress.tasks.open import open_task
from compress.tasks.settings import TaskSettings
from compress.training.settings import Recipe
from compress.training.state import tensors_of
from compress.training.train import train


def blobs(examples: int, seed: int) -> ArraySplit:
    """Three classes of 1x6x6 images: a bright column at the left, in the middle or at the right, under noise."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, 3, examples)
    images = generator.normal(0, 0.7, (examples, 1, 6, 6)).astype(np.float32)
    images[np.arange(examples), 0, :, 2 * targets] += 1.0
    return ArraySplit(images, targets.astype(np.int64))


DATA = Data(blobs(160, 0), blobs(80, 1), blobs(40, 2), fingerprint="blobs")
TASK = open_task(TaskSettings())


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)]
        module = nn.Sequential(*layers)
    train(module, DATA, TASK, Recipe(epochs=6, batch_size=16), Context())
    return module


def test_post_training_only_rounds(trained: nn.Module) -> None:
    before = {name: tensor.clone() for name, tensor in tensors_of(trained).items()}
    result = quantize(trained, DATA, TASK, Quantize(epochs=0))
    assert result.kept == "post_training"
    assert result.log is None
    assert result.post_training["accuracy"] >= 0.9
    assert all(torch.equal(tensor, before[name]) for name, tensor in tensors_of(trained).items())
    layers = [module for module in result.module.modules() if isinstance(module, Weighted)]
    assert torch.equal(layers[0].weight, before["0.weight"])


def test_training_changes_the_weights_and_keeps_the_better(trained: nn.Module) -> None:
    result = quantize(trained, DATA, TASK, Quantize(epochs=2))
    assert result.trained is not None
    assert result.log is not None
    better = max(result.trained["accuracy"], result.post_training["accuracy"])
    from compress.training.evaluate import evaluate

    assert evaluate(result.module, DATA, TASK, DATA.validation)["accuracy"] == better
    assert not any(module.training for module in result.module.modules())


def test_the_last_epoch_is_kept_where_that_is_asked_also_if_it_is_worse(trained: nn.Module) -> None:
    harmful = {"epochs": 1, "optimizer": "sgd", "learning_rate": 20.0, "gradient_clip": 1.0}
    best, last = (
        quantize(trained, DATA, TASK, Quantize.model_validate({**harmful, "keep": k})) for k in ("best", "last")
    )
    assert last.trained is not None
    assert last.trained["accuracy"] < last.post_training["accuracy"]
    assert (best.kept, last.kept) == ("post_training", "trained")
    first, second = (next(m for m in x.module.modules() if isinstance(m, Weighted)).weight for x in (best, last))
    assert not torch.equal(first, second)


def test_the_same_seed_gives_the_same_bits(trained: nn.Module) -> None:
    states = [tensors_of(quantize(trained, DATA, TASK, Quantize(epochs=1)).module) for _ in range(2)]
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def test_calibration_takes_so_many_examples_of_the_training_split() -> None:
    settings = Quantize(calibration_examples=50, batch_size=16)
    sizes = [len(inputs) for (inputs,) in calibration_batches(DATA, settings, Context())()]
    assert sizes == [16, 16, 16, 2]


def test_symmetric_grid_has_no_zero_points(trained: nn.Module) -> None:
    result = quantize(trained, DATA, TASK, Quantize(epochs=0, grid="symmetric"))
    quantizers = [module for module in result.module.modules() if isinstance(module, FakeQuantize)]
    assert all(int(quantizer.zero_point) == 0 for quantizer in quantizers)
    assert result.post_training["accuracy"] >= 0.9
