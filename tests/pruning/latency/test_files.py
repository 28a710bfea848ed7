from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from compress.bundle import Deployment, TensorSpec
from compress.errors import StageError
from compress.profiling.latency import Latency
from compress.profiling.profile import Profile
from compress.pruning.latency import files as module_of_files
from compress.pruning.latency.files import AGAIN, SURE, measure_files, timing_file
from compress.stage import Silent
from compress.targets.settings import TargetSettings

DEPLOYMENT = Deployment(
    {"name": "classification", "arguments": {}},
    (TensorSpec("x", "float32", ("batch", 3, 12, 12)),),
    (TensorSpec("logits", "float32", ("batch", 5)),),
)
TARGET = TargetSettings(rounds=2, warmup_seconds=0.0, seconds=0.02)


class Saying(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


class Residual(nn.Module):
    """A convolution with a norm, a rectifier, and a way around."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))


def network(width: int = 16) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), Residual(width), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(width, 5),
    ).eval()  # fmt: skip


def optimized(graph: onnx.ModelProto, folder: Path) -> Counter[str]:
    """How many operators of each type the runtime makes of a graph."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(folder / "optimized.onnx"), 4
    onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node)


@pytest.mark.parametrize("emission", ["fp32", "ort-x86", "ort-x86-avx2", "ort-arm"])
def test_files_load_and_answer(emission: str) -> None:
    graph = timing_file(network(), DEPLOYMENT, emission)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        [answer] = session.run(None, {"x": np.zeros((batch, 3, 12, 12), np.float32)})
        assert answer.shape == (batch, 5)


def test_the_float_one_is_the_network() -> None:
    module, x = network(), torch.randn(2, 3, 12, 12)
    graph = timing_file(module, DEPLOYMENT, "fp32")
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        np.testing.assert_allclose(session.run(None, {"x": x.numpy()})[0], module(x).numpy(), atol=1e-5)


@pytest.mark.parametrize("emission", ["ort-x86", "ort-x86-avx2"])
def test_the_int8_one_runs_in_integer_kernels_with_its_rectifiers_folded(emission: str, tmp_path: Path) -> None:
    made = optimized(timing_file(network(), DEPLOYMENT, emission), tmp_path)
    assert made["QLinearConv"] == 3 and made["QGemm"] == made["QLinearAdd"] == 1
    assert made["Conv"] == made["Gemm"] == made["Add"] == made["Relu"] == 0


def test_the_network_is_left_as_it_was() -> None:
    module = network().train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    for emission in ("fp32", "ort-x86"):
        timing_file(module, DEPLOYMENT, emission)
    assert module.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_what_cannot_be_exported_is_refused() -> None:
    class Branching(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((2, 3)) if x.sum() > 0 else -x.mean((2, 3))

    with pytest.raises(StageError, match="cannot be exported"):
        timing_file(Branching(), DEPLOYMENT, "fp32")


def test_files_are_measured_side_by_side() -> None:
    graphs = {name: timing_file(network(width), DEPLOYMENT, "fp32") for name, width in (("wide", 96), ("narrow", 8))}
    found = measure_files(graphs, DEPLOYMENT, TARGET, 2, Silent())
    assert list(found) == ["wide", "narrow"]
    assert found["wide"][1] == 1.0
    assert found["wide"][0] > 4 * found["narrow"][0] > 0
    assert found["narrow"][1] == pytest.approx(found["wide"][0] / found["narrow"][0])


def around(middle: float, spread: float, count: int = 24) -> tuple[float, ...]:
    """Rounds that lie on both sides of the middle in turn."""
    return tuple(middle * (1 + (spread if number % 2 else -spread)) for number in range(count))


STEADY, WILD = around(1.0, 0.0), (1.0, 1.4, 0.9, 1.5, 0.8, 1.3)


@pytest.mark.parametrize(
    ("whole", "choice", "waited", "times"),
    [
        ([STEADY], [STEADY], [0.0], 1),
        ([STEADY], [STEADY], [None], 1),
        ([STEADY], [STEADY], [0.5], 1),
        ([WILD], [WILD], [0.0], 1),  # both move alike: how many times faster is known
        ([STEADY], [around(1.0, 0.6 * SURE)], [0.0], 1),
        ([STEADY] * AGAIN, [around(1.0, 1.8 * SURE)] * AGAIN, [0.0] * AGAIN, AGAIN),
        ([WILD, (1.0,) * 60], [around(1.0, 0.01, 6), (1.0,) * 60], [0.5, 0.0], 2),
        ([WILD] * AGAIN, [around(1.0, 0.01, 6)] * AGAIN, [0.5] * AGAIN, AGAIN),
    ],
)
def test_what_is_not_known_is_asked_again_and_an_unsteady_or_busy_machine_is_told(
    whole: list[tuple[float, ...]], choice: list[tuple[float, ...]], waited: list[float | None], times: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The profile is a stand-in: a real machine is not unsteady when asked."""
    asked: list[int] = []

    def row(ms: Iterable[float]) -> list[Latency]:
        return [Latency("t", "r", 1, 2, {}, 1.0, 1.0, 1.0, (1.0, 1.0), 1, 1.0, 1, 1.0, [[x, x, 9 * x] for x in ms])]

    def profile(files: dict[str, Path], *_: object, **__: object) -> Profile:
        number = len(asked)
        asked.append(len(files))
        found = {"whole": row(4 * x for x in whole[number]), "other": row(x for x in whole[number])}
        found["choice"] = row(2 * x for x in choice[number])
        before, after = {"waited_s": 0.0, "clock_s": 0.0}, {"waited_s": waited[number], "clock_s": 1.0}
        machine = {"rounds": [{"before": before, "after": after}] * len(whole[number])}
        return Profile(found, None, (), machine)

    monkeypatch.setattr(module_of_files, "profile", profile)
    graph, progress = timing_file(network(8), DEPLOYMENT, "fp32"), Saying()
    found = measure_files(dict.fromkeys(("whole", "other", "choice"), graph), DEPLOYMENT, TARGET, 2, progress)
    assert asked == [3] * times
    slow, quick = (factor * float(np.median(np.concatenate(rounds))) for factor, rounds in ((4, whole), (2, choice)))
    assert found["whole"] == (slow, 1.0) and found["other"] == (slow / 4, 4.0)
    assert found["choice"] == (quick, slow / quick)
    assert (found.within <= SURE) == (times < AGAIN)
    assert sum("is known within" in said for said in progress.said) == (times == AGAIN)
    busy = waited[-1] == 0.5
    assert found.is_quiet == (not busy)
    assert sum("other programs" in said for said in progress.said) == busy


@pytest.mark.parametrize(("share", "quiet"), [(0.4, True), (0.6, False)])
def test_a_machine_is_busy_where_most_rounds_waited(share: float, quiet: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The profile is a stand-in, as above."""
    waited = [0.5 if number < 10 * share else 0.0 for number in range(10)]
    rows = [Latency("t", "r", 1, 2, {}, 1.0, 1.0, 1.0, (1.0, 1.0), 1, 1.0, 1, 1.0, [[1.0]] * 10)]
    before = {"waited_s": 0.0, "clock_s": 0.0}
    rounds = [{"before": before, "after": {"waited_s": one, "clock_s": 1.0}} for one in waited]
    monkeypatch.setattr(module_of_files, "profile", lambda *_, **__: Profile({"a": rows}, None, (), {"rounds": rounds}))
    graph = timing_file(network(8), DEPLOYMENT, "fp32")
    assert measure_files({"a": graph}, DEPLOYMENT, TARGET, 2, Silent()).is_quiet == quiet
