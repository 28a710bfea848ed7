"""One claim, every architecture: it is pruned to half, runs, is read back, exported and made int8."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compress.exporting import parity
from compress.exporting.emissions.table import EMISSIONS
from compress.exporting.torch_onnx import example_inputs, save, to_onnx
from compress.models import rest
from compress.models.factory import Factory
from compress.pruning.prune import PruneLog, prune_module
from compress.pruning.settings import Pruning
from compress.quantization.calibrate import calibrate
from compress.quantization.convert import canonical
from compress.quantization.prepare import prepare
from tests.architectures.table import ARCHITECTURES, deployment, inputs, made

ALWAYS = ("resnet50", "mobilenet_v2", "densenet", "bert")
EACH = [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.long) for name in ARCHITECTURES]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _pruned(name: str) -> tuple[Factory, nn.Module, PruneLog]:
    factory, module = made(name)
    settings = Pruning.model_validate({"keep": {"macs": 0.5}, "importance": "magnitude", "round_to": 2})
    return factory, module, prune_module(module, inputs(name, 2), settings)


@torch.no_grad()
def _answer(module: nn.Module, given: tuple[Tensor, ...]) -> Tensor:
    return module(*given)  # type: ignore[no-any-return]


def _feeds(name: str, given: tuple[Tensor, ...]) -> dict[str, np.ndarray]:
    specs = deployment(name, torch.empty(1, 1)).inputs
    return {spec.name: tensor.numpy() for spec, tensor in zip(specs, given, strict=True)}


@pytest.mark.parametrize("name", EACH)
def test_half_of_the_macs_are_left(name: str) -> None:
    _, module, log = _pruned(name)
    assert log.reached == pytest.approx(0.5, rel=0.05)
    assert log.after["macs"] / log.before["macs"] == pytest.approx(log.reached)
    _, whole = made(name)
    for batch in (2, 1, 5):
        given = inputs(name, batch)
        wanted = _answer(whole, given).shape
        assert _answer(module.eval(), given).shape == wanted
        if batch > 1:
            found: Tensor = module.train()(*given)
            assert found.shape == wanted
            gradients = torch.autograd.grad(found.sum(), list(module.parameters()), allow_unused=True)
            assert all(torch.isfinite(gradient).all() for gradient in gradients if gradient is not None)


@pytest.mark.parametrize("name", EACH)
def test_only_what_gives_the_output_stays_as_it_is(name: str) -> None:
    _, _, log = _pruned(name)
    assert set(log.fixed.values()) <= {"its channels are the network's output"}


@pytest.mark.parametrize("name", EACH)
def test_it_is_read_back_bit_by_bit(name: str, tmp_path: Path) -> None:
    factory, module, _ = _pruned(name)
    rest.save(module, factory, tmp_path)
    again = rest.load(tmp_path)
    assert rest.state_digest(again) == rest.state_digest(module)
    given = inputs(name, 3)
    assert torch.equal(_answer(again, given), _answer(module.eval(), given))


@pytest.mark.parametrize("name", EACH)
def test_its_file_gives_its_answers(name: str, tmp_path: Path) -> None:
    _, module, _ = _pruned(name)
    batches = [inputs(name, batch) for batch in (1, 4)]
    expected = [_answer(module.eval(), given) for given in batches]
    described = deployment(name, expected[0])
    to_onnx(module, described, example_inputs(described), tmp_path / "model.onnx")
    for given, wanted in zip(batches, expected, strict=True):
        feeds = [_feeds(name, given)]
        parity.check(tmp_path / "model.onnx", feeds, [wanted.numpy()], integer=False)


@pytest.mark.parametrize("name", EACH)
def test_it_is_made_int8(name: str, tmp_path: Path) -> None:
    _, module, _ = _pruned(name)
    given = inputs(name, 64)
    model = prepare(module, inputs(name, 2), weight_bits=7)
    calibrate(model, lambda: [given], "minmax")
    expected = _answer(model, given)
    with torch.backends.mkldnn.flags(enabled=False):
        again = _answer(model, given)
    described = deployment(name, expected)
    proto = EMISSIONS["ort-x86"](canonical(model, described, example_inputs(described), 18))
    save(proto, tmp_path / "model.onnx")
    feeds = [_feeds(name, given)]
    parity.check(tmp_path / "model.onnx", feeds, [expected.numpy()], integer=True, again=[again.numpy()])


@pytest.mark.long
def test_query_heads_go_with_their_keys_and_values() -> None:
    _, _, log = _pruned("llama")
    for layer in range(2):
        width = {key: log.widths[f"network.model.layers.{layer}.self_attn.{key}_proj"][1] for key in "qkv"}
        assert width["q"] == 2 * width["k"] == 2 * width["v"]
