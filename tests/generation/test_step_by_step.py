from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compress.bundle import Bundle, Kind, write_bundle
from compress.data.collate import IGNORED
from compress.data.dataset import Data
from compress.data.objectives import Causal, SequenceToSequence
from compress.data.open import open_data
from compress.data.settings import DataSettings, read_data_settings
from compress.data.splits import Subset
from compress.distillation.stage import Distill
from compress.errors import UsageError
from compress.generation.responses import Response, prompts_of, write_responses
from compress.generation.step_by_step import Weighed, learning_texts
from compress.models import rest
from compress.training.method import Method, TorchBatch, TrainingProgress
from compress.training.stage import Train
from tests.generation.helpers import TOKENS, built, context_of, question_settings

PLACE = TrainingProgress(epoch=0, step=0, steps=1, seed=0)


def reasons(data: Data, ids: list[int]) -> list[Response]:
    prompts = prompts_of(data)
    return [Response(n, prompts[n], "the dog", rationale=f"because {prompts[n]}") for n in ids]


def said(row: Any, targets: Any) -> tuple[str, str]:
    """The words of a row's prompt and of what is learnt."""
    first = int(np.where(targets != IGNORED)[0][0]) + 1
    return words(row[:first]), words(targets[targets != IGNORED])


def words(row: Any) -> str:
    return " ".join(TOKENS[number] for number in row if number > 4)


def test_each_example_is_seen_once_for_the_answer_and_once_for_the_rationale(questions: DataSettings) -> None:
    data = open_data(questions).collated(Causal())
    found, around = learning_texts(data, reasons(data, [4, 2]), Train(on="x"))
    prompts = prompts_of(data)
    assert around is not None
    assert len(found.train) == 4
    others = (Train(on="x", rationale_weight=0), Train(on="x", rationale_prefix="why "))
    alike = [learning_texts(data, reasons(data, [4, 2]), other)[0].fingerprint for other in others]
    assert len({found.fingerprint, *alike}) == 3
    batch = found.batch(found.train, range(4))
    seen = [said(row, targets) for row, targets in zip(batch.inputs[0], batch.targets, strict=True)]
    assert seen == [
        (prompts[4], "the dog"),
        (prompts[2], "the dog"),
        (f"explain : {prompts[4]}", f"because {prompts[4]}"),
        (f"explain : {prompts[2]}", f"because {prompts[2]}"),
    ]
    few = found.head(3)
    assert isinstance(few.train, Subset)
    assert np.array_equal(few.batch(few.train, [2]).inputs[0], found.batch(found.train, [2]).inputs[0])
    plain = data.batch(data.validation, [0, 1])
    assert np.array_equal(found.batch(found.validation, [0, 1]).targets, plain.targets)


def test_the_prefix_of_the_rationale_takes_the_place_of_that_of_the_answer(tmp_path: Path) -> None:
    data = open_data(question_settings(tmp_path, prompt="answer : {input}")).collated(SequenceToSequence())
    settings = Train(on="x", rationale_prefix="why ", answer_prefix="answer : ")
    found, _ = learning_texts(data, reasons(data, [4]), settings)
    rows = found.batch(found.train, [0, 1]).inputs[0]
    question = data.train.raw([4])[0]
    assert [words(row) for row in rows] == [f"answer : {question}", f"why {question}"]


def test_without_rationales_or_weight_there_are_answers_alone(questions: DataSettings) -> None:
    data = open_data(questions).collated(Causal())
    plain = [Response(n, prompts_of(data)[n], "the dog") for n in (1, 2)]
    for answers, settings in ((plain, Train(on="x")), (reasons(data, [1, 2]), Train(on="x", rationale_weight=0))):
        found, around = learning_texts(data, answers, settings)
        assert (len(found.train), around) == (2, None)
    with pytest.raises(UsageError, match="rationale_weight: the texts have no rationales"):
        learning_texts(data, plain, Train(on="x", rationale_weight=0.5))


def test_without_texts_the_datas_own_rationales_are_learnt_if_they_are_weighed(
    questions: DataSettings, tmp_path: Path
) -> None:
    data = open_data(questions).collated(Causal())
    assert Train().learnt(data, None) == (data, None)
    assert Train(rationale_weight=0).learnt(data, None) == (data, None)
    found, around = Train(rationale_weight=0.5, rationale_prefix="why ").learnt(data, None)
    train: Any = data.train
    assert around is not None and len(found.train) == 2 * len(train)
    batch = found.batch(found.train, [3, len(train) + 3])
    seen = [said(row, targets) for row, targets in zip(batch.inputs[0], batch.targets, strict=True)]
    (prompt,), (answer,), (why,) = train.raw([3]), train.target_texts([3]), train.rationales([3])
    assert seen == [(prompt, answer), (f"why {prompt}", why)]
    weighed = around(_Sum())
    assert isinstance(weighed, Weighed)
    assert (weighed.first, weighed.weight) == (len(train), 0.5)
    assert found.fingerprint not in (data.fingerprint, Train(rationale_weight=0.5).learnt(data, None)[0].fingerprint)
    plain = open_data(question_settings(tmp_path, rationale=None)).collated(Causal())
    with pytest.raises(UsageError, match=r"there are no rationales: name their column as `text: {rationale: ...}`"):
        Train(rationale_weight=1).learnt(plain, None)
    with pytest.raises(UsageError, match="no target texts"):
        Train(rationale_weight=1).learnt(open_data(read_data_settings("digits")), None)


class _Sum(Method):
    def loss(self, model: nn.Module, batch: TorchBatch, progress: TrainingProgress) -> Tensor:
        assert len(batch.inputs[0]) == len(batch.targets) == len(batch.indices)
        return (batch.inputs[0] * batch.targets).mean()


def test_the_loss_is_the_weighted_mean_of_both_kinds() -> None:
    values, targets = np.array([1.0, 2.0, 4.0, 8.0, 16.0]), np.array([1.0, -1.0, 2.0, 0.5, 1.0])
    indices = np.array([7, 1, 12, 10, 3])
    batch = TorchBatch((torch.tensor(values),), torch.tensor(targets), torch.tensor(indices))
    terms = values * targets
    for weight in (0.0, 0.3, 1.0):
        expected = np.where(indices >= 10, weight, 1.0) @ terms / 5
        assert float(Weighed(_Sum(), 10, weight).loss(nn.Identity(), batch, PLACE)) == pytest.approx(expected)
    assert float(Weighed(_Sum(), 0, 0.5).loss(nn.Identity(), batch, PLACE)) == pytest.approx(terms.mean() / 2)
    assert float(Weighed(_Sum(), 99, 0.5).loss(nn.Identity(), batch, PLACE)) == pytest.approx(terms.mean())


@pytest.mark.parametrize("task", ["causal-lm", "sequence-to-sequence"])
def test_stages_learn_what_was_written(task: str, questions: DataSettings, tmp_path: Path) -> None:
    context = context_of(questions, task)
    source = built(tmp_path, context)
    texts = tmp_path / "texts"
    texts.mkdir()
    write_responses(reasons(open_data(questions), list(range(12))), texts)
    write_bundle(texts, Kind.RESPONSES)
    inputs = {"source": source, "on": Bundle(Kind.RESPONSES, texts), "teacher": source}
    stages = {
        "train": Train(on="x", epochs=6, batch_size=6, learning_rate=0.02),
        "weighed": Train(on="x", epochs=6, batch_size=6, learning_rate=0.02, rationale_weight=0.1),
        "distill": Distill.model_validate({"on": "x", "teacher": "t", "epochs": 1, "batch_size": 6}),
    }
    for name, stage in stages.items():
        (tmp_path / name).mkdir()
        metrics = stage.run(inputs, tmp_path / name, context)
        assert metrics["training"]["steps"] == 4 * stage.epochs  # type: ignore[attr-defined]
    trained = [rest.state_digest(rest.load(tmp_path / name)) for name in ("train", "weighed")]
    assert trained[0] != trained[1]


def test_texts_are_a_part_of_what_is_asked_only_where_there_are_some() -> None:
    plain, read = Train(), Train(on="written")
    assert "on" not in read.asked()
    assert not any(key.startswith(("rationale", "answer_")) for key in plain.asked())
    assert read.asked()["rationale_prefix"] == "explain: "
    assert (plain.references(), read.references()) == ({"source": None}, {"source": None, "on": "written"})
    assert Train(rationale_weight=1).asked()["rationale_weight"] == 1, "of the data's own rationales"
    faults = Distill.model_validate({"teacher": "t", "rationale_prefix": "why "}).faults()
    assert [key for key, _ in faults] == ["rationale_prefix"]
    assert Train(on="x", rationale_weight=2).faults() == Train(rationale_weight=2).faults() == []


def test_rationales_have_targets_as_answers_have(questions: DataSettings) -> None:
    data = open_data(questions).collated(Causal())
    found, _ = Train(rationale_weight=1).learnt(data, None)
    both = range(2 * len(data.train))
    assert len(found.train) == len(both)
    assert found.train.targets(both).tolist() == data.train.targets([*range(len(data.train))] * 2).tolist()
