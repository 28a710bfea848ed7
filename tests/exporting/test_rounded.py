from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto

from compress.errors import StageError, UsageError
from compress.exporting.emissions import dynamic
from compress.exporting.emissions.constant_weights import faster_float
from compress.exporting.emissions.table import EMISSIONS
from compress.exporting.graph import Array, Graph
from compress.exporting.parity import Parity, check, run
from compress.exporting.rounded import check_rounded, emitted, useless
from compress.exporting.torch_onnx import example_inputs, save, to_proto
from compress.exporting.twins import twin
from compress.targets.emissions import UNCALIBRATED_EMISSIONS
from tests.exporting.canonical_graphs import canonical_graph
from tests.exporting.text_exports import deployment
from tests.models.text_networks import answer, inputs, made
from tests.processor import WEIGHT_BITS

TASK = "causal-lm"
LENGTHS = ([5], [9, 24], [16, 1, 5])


@pytest.fixture(autouse=True)
def _sums_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of as many bits as can be summed here."""
    monkeypatch.setattr(dynamic, "LARGEST", 2 ** (WEIGHT_BITS - 1) - 1)


@functools.cache
def llama() -> tuple[ModelProto, list[dict[str, Array]], list[Array]]:
    """Two layers whose head is the embedding, texts of several lengths, and PyTorch's answers."""
    _, module = made("llama", TASK, hidden_size=64, intermediate_size=96, tie_word_embeddings=True)
    given = [inputs(TASK, list(lengths)) for lengths in LENGTHS]
    feeds = [dict(zip(("input_ids", "attention_mask"), arrays, strict=True)) for arrays in given]
    described = deployment(module, TASK)
    return to_proto(module, described, example_inputs(described)), feeds, [answer(module, arrays) for arrays in given]


def kept(feeds: list[dict[str, Array]]) -> list[Array]:
    """The tokens that are no padding."""
    return [feed["attention_mask"] > 0 for feed in feeds]


def checked(emission: str, folder: Path) -> Parity:
    proto, feeds, expected = llama()
    save(emitted(proto, emission), folder / "model.onnx")
    return check_rounded(
        folder / "model.onnx", proto, feeds, emission=emission, reference=expected, again=expected, counted=kept(feeds)
    )


@pytest.mark.parametrize("emission", UNCALIBRATED_EMISSIONS)
def test_each_gives_its_twins_answers_and_those_are_not_the_float_ones(emission: str, tmp_path: Path) -> None:
    found = checked(emission, tmp_path)
    assert found.examples == sum(map(sum, LENGTHS))
    assert found.within_step >= 0.99
    proto, feeds, expected = llama()
    twins = twin(proto, onnx.load(tmp_path / "model.onnx"))
    save(twins, tmp_path / "twin.onnx")
    lost = max(
        float(np.abs(found - exact).max() / np.ptp(exact))
        for found, exact in zip(run(tmp_path / "twin.onnx", feeds, optimize=False), expected, strict=True)
    )
    assert 1e-3 < lost < 1


@pytest.mark.skipif(WEIGHT_BITS == 8, reason="this processor sums in 32 bits")
def test_where_sums_saturate_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamic, "LARGEST", 127)
    with pytest.raises(StageError, match="export: ort-dynamic needs VNNI, which this processor has not"):
        checked("ort-dynamic", tmp_path)


def test_what_pytorch_computes_is_what_it_is_held_against(tmp_path: Path) -> None:
    proto, feeds, expected = llama()
    save(emitted(proto, "ort-weights8"), tmp_path / "model.onnx")
    with pytest.raises(StageError, match="does not give the torch model's answers"):
        check_rounded(
            tmp_path / "model.onnx", proto, feeds,
            emission="ort-weights8", reference=[array * 1.02 for array in expected], counted=kept(feeds),
        )  # fmt: skip


@pytest.mark.parametrize("emission", UNCALIBRATED_EMISSIONS)
def test_the_twin_of_a_file_with_one_other_scale_is_not_that_of_the_file(emission: str, tmp_path: Path) -> None:
    """As if a runtime read one layer's scale wrongly: the answers are then no more within rounding."""
    proto, feeds, _ = llama()
    file, other = emitted(proto, emission), emitted(proto, emission)
    graph = Graph(other.graph)
    name = next(name for name in graph.arrays if name.endswith(("_scales", "_scale")))
    graph.arrays[name] = (graph.arrays[name] * 1.5).astype(np.float32)
    graph.write()
    save(twin(faster_float(proto), other), tmp_path / "twin.onnx")
    save(file, tmp_path / "model.onnx")
    expected = run(tmp_path / "twin.onnx", feeds, optimize=False)
    with pytest.raises(StageError, match="does not give"):
        check(tmp_path / "model.onnx", feeds, expected, integer=True, counted=kept(feeds))


def test_a_file_for_which_a_network_is_not_made_is_refused_in_words() -> None:
    convolutions = EMISSIONS["fp32"](canonical_graph("residual")[0])
    with pytest.raises(UsageError, match="export: ort-dynamic rounds the inputs of linear layers"):
        emitted(convolutions, "ort-dynamic")
    with pytest.raises(UsageError, match="export: ort-weights4 rounds the weights of linear layers"):
        emitted(convolutions, "ort-weights4")
    assert not any(useless(llama()[0], name) for name in EMISSIONS)
    assert emitted(convolutions, "fp32") is convolutions
