from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import compress
from compress.bundle import Kind, write_bundle
from compress.exporting import parity
from compress.exporting.emissions.table import EMISSIONS
from compress.exporting.torch_onnx import example_inputs, save
from compress.models import rest
from compress.models.build import deployment_for
from compress.models.factory import Factory
from compress.quantization.convert import canonical
from compress.quantization.quantize import Quantized, quantize
from compress.quantization.rest import Preparation, load_quantized, save_quantized
from compress.quantization.stage import Quantize
from compress.quantization.weighted import Weighted
from compress.stage import Context
from compress.training.evaluate import evaluate
from compress.training.settings import Recipe
from compress.training.train import train
from tests.quantization.classifier import make
from tests.quantization.test_quantize import DATA, TASK


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = make()
    train(module, DATA, TASK, Recipe(epochs=6, batch_size=16), Context(threads=1))
    return module.eval()


@pytest.fixture(scope="module")
def planted(trained: nn.Module) -> nn.Module:
    """One channel that the linear layer reads is always zero, and the weights that read it are huge."""
    with torch.random.fork_rng():
        module = make()
    module.load_state_dict(trained.state_dict())
    with torch.no_grad():
        module[3].weight[0] = 0.0  # type: ignore[index]
        module[3].bias[0] = 0.0  # type: ignore[index]
        module[6].weight[:, :36] = 100.0  # type: ignore[index]
    return module.eval()


def climbed(module: nn.Module, **settings: object) -> Quantized:
    given = {"batch_size": 16, "epochs": 1, "adaround_iterations": 5, "calibration": "minmax", **settings}
    return quantize(module, DATA, TASK, Quantize.model_validate(given), Context(threads=1))


def accuracy(module: nn.Module) -> float:
    return evaluate(module, DATA, TASK, DATA.validation)["accuracy"]


def rungs(found: Quantized) -> list[str]:
    return [row["rung"] for row in found.rungs]


@pytest.fixture(scope="module")
def mixed(planted: nn.Module) -> Quantized:
    return climbed(planted, accuracy_drop=0.03, rungs=["static", "mixed"])


def test_a_budget_that_calibration_keeps_needs_no_more(trained: nn.Module) -> None:
    found = climbed(trained, accuracy_drop=0.05)
    assert rungs(found) == ["static"]
    assert found.kept == "static" and found.log is None and found.trained is None
    assert accuracy(trained) - accuracy(found.module) <= 0.05
    assert found.post_training["accuracy"] == pytest.approx(accuracy(found.module))


def test_a_budget_out_of_reach_takes_every_rung_and_keeps_the_best(planted: nn.Module) -> None:
    settings = Quantize.model_validate({"batch_size": 16, "epochs": 1, "calibration": "minmax", "accuracy_drop": 0.0,
                                        "rungs": ["static", "trained"]})  # fmt: skip
    found = quantize(planted, DATA, TASK, settings, Context(threads=1))
    assert rungs(found) == ["static", "trained"]
    assert found.log is not None and found.trained is not None
    best = max(found.rungs, key=lambda row: row["accuracy"])
    assert found.kept == best["rung"]
    assert accuracy(found.module) == pytest.approx(best["accuracy"], abs=0.03)
    assert not any(module.training for module in found.module.modules())


def test_the_planted_layer_stays_in_float_and_nothing_else(planted: nn.Module, mixed: Quantized) -> None:
    static, last = mixed.rungs
    assert static["loss"] > 0.1
    assert (mixed.kept, last["in_float"], mixed.ignore) == ("mixed", ["6"], ("6",))
    assert accuracy(planted) - accuracy(mixed.module) <= 0.03
    integer = [module for module in mixed.module.modules() if isinstance(module, Weighted) and module.bits]
    assert len(integer) == 2


def test_what_stays_in_float_is_read_back_and_exported(planted: nn.Module, mixed: Quantized, tmp_path: Path) -> None:
    factory = Factory("python", "classifier.py:make", {"num_classes": 3, "in_channels": 1}, Path(__file__).parent)
    described = deployment_for(planted, DATA, TASK)
    rest.save(planted, factory, tmp_path / "float")
    write_bundle(tmp_path / "float", Kind.TORCH, described)
    settings = Quantize(accuracy_drop=0.03)
    save_quantized(
        mixed.module, Preparation.of(settings, mixed.ignore), tmp_path / "float", described, tmp_path / "int8"
    )
    write_bundle(tmp_path / "int8", Kind.QUANTIZED, described)
    again = load_quantized(tmp_path / "int8")
    x = DATA.batch(DATA.validation, np.arange(64)).inputs[0]
    with torch.no_grad():
        expected = mixed.module(torch.from_numpy(x))
        assert torch.equal(again(torch.from_numpy(x)), expected)
    proto = EMISSIONS["ort-x86"](canonical(again, described, example_inputs(described), 18))
    save(proto, tmp_path / "model.onnx")
    found = parity.check(tmp_path / "model.onnx", [{described.inputs[0].name: x}], [expected.numpy()], integer=True)
    assert found.within_step >= 0.99
    quantized = {name for item in proto.graph.node if item.op_type == "DequantizeLinear" for name in item.output}
    layers = {item.op_type: item.input[1] in quantized for item in proto.graph.node if item.op_type in ("Conv", "Gemm")}
    assert layers == {"Conv": True, "Gemm": False}


def test_as_a_function_of_the_library(trained: nn.Module) -> None:
    found = compress.quantize(trained, DATA, accuracy_drop=0.05, threads=1, calibration="minmax")
    assert accuracy(trained) - accuracy(found) <= 0.05


def test_a_rehearsal_climbs_what_can_fail(trained: nn.Module) -> None:
    settings = Quantize.model_validate({"batch_size": 4, "epochs": 1, "accuracy_drop": 0.5, "calibration": "minmax"})
    found = quantize(trained, DATA, TASK, settings, Context(threads=1, rehearsal=True))
    assert rungs(found) == ["static", "trained"]
