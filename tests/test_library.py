"""The functions do what the stages do: each is tried on a small network and real digits, and held against the stage."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import compress
from compress.data.dataset import Data
from compress.data.splits import Subset, Unlabelled
from compress.errors import UsageError
from compress.stage import Silent

SMALL = {"source": {"digits": {}}, "limit": {"train": 320, "validation": 64, "test": 64}}


def network(width: int = 16) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 10),
    )  # fmt: skip


@pytest.fixture(scope="module")
def data() -> Data:
    return compress.load_data(SMALL)


@pytest.fixture(scope="module")
def trained(data: Data) -> nn.Module:
    return compress.train(network(), data, epochs=8, threads=1)


def accuracy(model: nn.Module, data: Data) -> float:
    batch = data.batch(data.test, np.arange(len(data.test)))
    with torch.no_grad():
        outputs = model(*(torch.from_numpy(array) for array in batch.inputs))
    return float((outputs.argmax(1).numpy() == batch.targets).mean())


def same(first: nn.Module, second: nn.Module) -> bool:
    states = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in states)


def test_importing_the_library_imports_no_torch() -> None:
    code = "import compress, sys; compress.__version__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_train_learns_and_leaves_its_argument_alone(data: Data, trained: nn.Module) -> None:
    untrained = network()
    again = compress.train(untrained, data, epochs=8, threads=1)
    assert same(untrained, network())
    assert same(again, trained)
    assert accuracy(untrained, data) < 0.5 < accuracy(trained, data)


def test_distill_makes_the_student_answer_like_its_teacher(data: Data, trained: nn.Module) -> None:
    student = compress.distill(network(8), trained, data, epochs=6, threads=1, losses=[{"kl": {"temperature": 2}}])
    batch = data.batch(data.test, np.arange(len(data.test)))
    with torch.no_grad():
        theirs, before, after = (m.eval()(torch.from_numpy(batch.inputs[0])) for m in (trained, network(8), student))
    distance = nn.KLDivLoss(reduction="batchmean", log_target=True)
    assert distance(after.log_softmax(1), theirs.log_softmax(1)) < 0.5 * distance(
        before.log_softmax(1), theirs.log_softmax(1)
    )


class Told(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)


def test_distill_keeps_the_teachers_answers_as_it_is_told(
    data: Data, trained: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path))
    files = {}
    states = []
    for name, cache in (("off", "off"), ("kept", {"views": 1})):
        told = Told()
        student = compress.distill(network(8), trained, data, epochs=3, threads=1, cache=cache, progress=told)
        states.append(torch.cat([tensor.flatten().float() for tensor in student.state_dict().values()]))
        files[name] = [path.name for path in tmp_path.rglob("*.npy")]
        assert any("1 view, 6,400 bytes" in line for line in told.lines) == (name == "kept")
    assert files == {"off": [], "kept": ["shard-00000.logits.npy"]}
    torch.testing.assert_close(states[0], states[1], rtol=0.05, atol=0.02)  # answers in half precision
    with pytest.raises(UsageError, match="cache"):
        compress.distill(network(8), trained, data, cache={"view": 1})
    with pytest.raises(UsageError, match="average"):
        compress.distill(network(8), trained, data, average="median")


def test_train_and_distill_take_the_examples_that_the_stages_would(data: Data, trained: nn.Module) -> None:
    expert = compress.train(network(), data, epochs=8, threads=1, classes=["0", 1, 2])
    batch = data.batch(data.test, np.arange(len(data.test)))
    with torch.no_grad():
        said = expert(torch.from_numpy(batch.inputs[0])).argmax(1).numpy()
    assert set(said.tolist()) <= {0, 1, 2}
    with pytest.raises(UsageError, match="classes: there is no class 10"):
        compress.train(network(), data, epochs=1, classes=[10])
    with pytest.raises(UsageError, match="rationale_weight: the data have no target texts"):
        compress.train(network(), data, epochs=1, rationale_weight=0.5)
    with pytest.raises(UsageError, match="rationale_weight: the data have no target texts"):
        compress.distill(network(8), trained, data, epochs=1, rationale_weight=0.5)
    numbers, told = np.arange(len(data.train)), Told()
    hidden = Unlabelled(Subset(data.train, numbers[32:]))
    few = replace(data, train=Subset(data.train, numbers[:32]), unlabelled=hidden, _prepared={}, _encoded={})

    def taught(source: Data, **settings: Any) -> nn.Module:
        more = {"epochs": 2, "threads": 1, "keep": "last", "losses": ["task"], "progress": told, **settings}
        return compress.distill(network(8), trained, source, **more)

    with_them, without = taught(few), taught(replace(few, unlabelled=None))
    assert not same(with_them, without)
    assert told.lines == []
    labelled = taught(few, pseudo_labels={"threshold": 0.2})
    assert not same(with_them, labelled)
    assert told.lines[0].startswith("pseudo labels: ")
    with pytest.raises(UsageError, match="pseudo_labels: the data have no unlabelled examples"):
        compress.distill(network(8), trained, data, epochs=1, pseudo_labels={})


def test_prune_keeps_the_share_that_was_asked(data: Data, trained: nn.Module) -> None:
    pruned = compress.prune(trained, data, keep={"parameters": 0.5}, round_to=2, recover={"epochs": 2}, threads=1)
    share = sum(p.numel() for p in pruned.parameters()) / sum(p.numel() for p in trained.parameters())
    assert 0.4 < share < 0.53
    assert accuracy(pruned, data) > 0.5


def test_quantize_export_and_profile(data: Data, trained: nn.Module, tmp_path: Path) -> None:
    int8 = compress.quantize(trained, data, epochs=0, threads=1)
    assert abs(accuracy(int8, data) - accuracy(trained, data)) <= 0.05
    files = compress.export(int8, data, tmp_path, emit=["fp32", "ort-x86", "ort-arm"])
    inputs = data.batch(data.test, np.arange(len(data.test))).inputs[0]
    with torch.no_grad():
        expected = int8(torch.from_numpy(inputs)).numpy()
    session = onnxruntime.InferenceSession(files["ort-x86"])
    (answers,) = session.run(None, {session.get_inputs()[0].name: inputs})
    assert (answers.argmax(1) == expected.argmax(1)).mean() >= 0.98
    assert files["ort-x86"].stat().st_size < 0.6 * files["fp32"].stat().st_size
    measured = compress.profile(files, rounds=2, seconds=0.01, warmup_seconds=0)
    assert list(measured) == ["fp32", "ort-x86", "ort-arm"]
    assert all(rows[0].p50_ms > 0 for rows in measured.values())


def test_an_int8_file_of_a_float_network_is_refused(data: Data, trained: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="float"):
        compress.export(trained, data, tmp_path, emit=["ort-x86"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("call", "settings"), [("train", {"epochs": 1}), ("prune", {"keep": {"macs": 0.5}})])
def test_a_network_that_cannot_be_copied_is_refused_in_words(call: str, settings: dict[str, Any], data: Data) -> None:
    module = nn.Sequential(nn.Flatten(), nn.utils.weight_norm(nn.Linear(64, 10)))
    module(torch.zeros(1, 1, 8, 8))
    with pytest.raises(UsageError, match=r"the network cannot be copied: .*parametrizations.weight_norm"):
        getattr(compress, call)(module, data, **settings)


def test_wrong_settings_are_all_named_at_once(data: Data) -> None:
    with pytest.raises(UsageError) as caught:
        compress.train(network(), data, epocs=3, batch_size=0)
    assert "epocs" in str(caught.value) and "epochs" in str(caught.value)
    assert "batch_size" in str(caught.value)


class Reader(nn.Module):
    """The mean of what stands for each token, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.head = nn.Embedding(300, 8), nn.Linear(8, 2)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        rows = self.table(ids) * mask.unsqueeze(-1)
        result: torch.Tensor = self.head(rows.sum(1) / mask.sum(1, keepdim=True))
        return result


def test_a_network_of_ones_own_reads_texts(tmp_path: Path) -> None:
    lines = [f"{'good' if i % 2 else 'bad'} {'very ' * (i % 3)}film\t{i % 2}" for i in range(80)]
    (tmp_path / "films.tsv").write_text("text\tlabel\n" + "\n".join(lines) + "\n")
    data = compress.load_data({
        "source": {"table": {"path": str(tmp_path / "films.tsv"), "input": "text", "target": "label"}},
        "text": {"tokenizer": {"bpe": {"size": 290}}, "max_length": 16},
    })  # fmt: skip
    trained = compress.train(Reader(), data, task="text-classification", epochs=20, learning_rate=0.05, threads=1)
    batch = data.batch(data.test, range(len(data.test)))
    expected = trained(*map(torch.from_numpy, batch.inputs)).detach().numpy()
    assert (expected.argmax(1) == batch.targets).all()
    files = compress.export(trained, data, tmp_path / "out", task="text-classification")
    assert (tmp_path / "out" / "tokenizer.json").is_file()
    session = onnxruntime.InferenceSession(files["fp32"])
    found = session.run(None, dict(zip(data.input_names, batch.inputs, strict=True)))[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    with pytest.raises(UsageError, match="this task needs texts"):
        compress.train(Reader(), SMALL, task="masked-lm", epochs=1)
