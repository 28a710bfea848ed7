from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from compress.config import read_pipeline
from compress.data.dataset import Data
from compress.data.splits import Subset, Unlabelled
from compress.distillation.distill import Voice
from compress.distillation.pseudo_labels import label
from compress.distillation.stage import Distill
from compress.distillation.teacher_settings import PseudoLabels
from compress.distillation.unlabelled import Relabelled, choose, pseudo_labelled
from compress.errors import UsageError
from compress.plan import make_plan
from compress.run import run_plan
from compress.stage import Context, Silent
from compress.store import Store
from compress.tasks.task import Task
from tests.distillation.networks import task_of

MakeNetwork = Callable[..., nn.Sequential]
Array = npt.NDArray[np.float64]
CONTEXT = Context(device="cpu", threads=1)


def settings(**values: Any) -> PseudoLabels:
    return PseudoLabels.model_validate(values)


def certain(classes: list[int], confidence: list[float], count: int = 3) -> Array:
    """Probabilities of so many classes with these as the likeliest."""
    found = np.array([[(1 - sure) / (count - 1)] * count for sure in confidence])
    found[np.arange(len(classes)), classes] = confidence
    return found


CLASSES = [0, 0, 0, 0, 0, 1, 1, 1, 2, 2]
SURE = [0.70, 0.95, 0.90, 0.99, 0.85, 0.80, 0.91, 0.60, 0.97, 0.75]
PROBABILITIES = certain(CLASSES, SURE)


def test_those_are_labelled_that_the_teacher_is_sure_of() -> None:
    for threshold in (0.0, 0.7, 0.8, 0.9, 0.98):
        expected = [number for number, sure in enumerate(SURE) if sure >= threshold]
        assert choose(PROBABILITIES, settings(threshold=threshold, balance=False), 0).tolist() == expected
    assert choose(PROBABILITIES, settings(threshold=0.999), 0).tolist() == []
    assert choose(PROBABILITIES, settings(threshold=0.999, balance=False), 0).tolist() == []


def test_balanced_classes_have_equally_many_the_surest_first_and_some_twice() -> None:
    # Sure at 0.75: 0: four (1, 2, 3, 4), 1: two (5, 6), 2: two (8, 9); the mean is 8 / 3, so three each.
    found = choose(PROBABILITIES, settings(threshold=0.75), 0)
    assert sorted(found.tolist()) == found.tolist()
    counts = np.bincount(np.array(CLASSES)[found], minlength=3)
    assert counts.tolist() == [3, 3, 3]
    times = np.bincount(found, minlength=10)
    assert times[:5].tolist() == [0, 1, 1, 1, 0]  # the surest three: 0.99, 0.95, 0.90
    assert sorted(times[5:7].tolist()) == [1, 2]
    assert times[7] == 0
    assert sorted(times[8:10].tolist()) == [1, 2]


def test_a_class_with_one_example_has_it_as_often_as_needed_and_one_without_has_none() -> None:
    probabilities = certain([0] * 9 + [1], [0.9] * 10, count=4)
    found = choose(probabilities, settings(threshold=0.5), 3)
    assert np.bincount(found, minlength=10).tolist()[9] == 5
    assert len(found) == 10
    assert found[:5].tolist() == [0, 1, 2, 3, 4]  # equally sure ones in their order


def test_examples_are_taken_again_as_evenly_as_their_number_allows() -> None:
    probabilities = certain([0] * 20 + [1] * 4, [0.9] * 24, count=2)
    times = np.bincount(choose(probabilities, settings(threshold=0.5), 1), minlength=24)
    assert times[20:].tolist() == [3, 3, 3, 3]
    probabilities = certain([0] * 20 + [1] * 5, [0.9] * 25, count=2)  # 12 of 5: two or three times each
    times = np.bincount(choose(probabilities, settings(threshold=0.5), 1), minlength=25)
    assert sorted(times[20:].tolist()) == [2, 2, 2, 3, 3]


def test_the_choice_is_the_seeds() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(400, 5)) * 3 + np.array([2, 0, 0, 0, -1])
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = [choose(probabilities, settings(threshold=0.6), seed) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(found[0], found[1])
    assert found[0].tolist() != found[2].tolist()
    assert len(found[0]) == len(found[2])
    counts = np.bincount(probabilities.argmax(1)[found[0]])
    assert counts.min() == counts.max()


def hidden(data: Data, kept: int = 40) -> Data:
    numbers = np.arange(len(data.train))
    rest = Unlabelled(Subset(data.train, numbers[kept:]))
    return replace(data, train=Subset(data.train, numbers[:kept]), unlabelled=rest, _prepared={}, _encoded={})


def test_labels_of_the_teacher_stand_behind_the_known_ones(data: Data) -> None:
    known = hidden(data)
    probabilities = np.full((80, 3), 0.2)
    probabilities[:, 1] = 0.6
    probabilities[[5, 70]] = [[0.05, 0.05, 0.9], [0.96, 0.02, 0.02]]
    found, log = pseudo_labelled(known, probabilities, settings(threshold=0.8), 0)
    assert len(found.train) == 42
    batch, plain = found.batch(found.train, [41, 0, 40]), data.batch(data.train, [110, 0, 45])
    np.testing.assert_array_equal(batch.inputs[0], plain.inputs[0])
    assert batch.targets.tolist() == [0, plain.targets[1], 2]
    assert log["examples"] == 2
    assert log["by_class"] == [1, 0, 1]
    assert log["mean_confidence"] == pytest.approx(0.93)
    assert found.unlabelled is None
    assert found.validation is data.validation


def test_other_labels_are_other_data(data: Data) -> None:
    known = hidden(data)
    prints = {known.fingerprint, data.fingerprint}
    for threshold, swapped in ((0.8, False), (0.9, False), (0.8, True)):
        probabilities = certain([number % 3 for number in range(80)], list(np.linspace(0.7, 0.99, 80)))
        if swapped:
            probabilities = probabilities[:, [1, 0, 2]]
        prints.add(pseudo_labelled(known, probabilities, settings(threshold=threshold), 0)[0].fingerprint)
    assert len(prints) == 4
    nameless = pseudo_labelled(replace(known, fingerprint=""), probabilities, settings(), 0)[0]
    assert nameless.fingerprint == ""


def test_a_teacher_that_is_sure_of_nothing_is_said(data: Data) -> None:
    probabilities = np.full((80, 3), 1 / 3)
    with pytest.raises(UsageError, match=r"not sure enough of any of the 80 unlabelled examples \(threshold 0.8"):
        pseudo_labelled(hidden(data), probabilities, settings(), 0)


@dataclass
class Told(Silent):
    """Keeps what is said."""

    lines: list[str] = field(default_factory=list)

    def say(self, message: str) -> None:
        self.lines.append(message)


def softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    found: Array = powers / powers.sum(1, keepdims=True)
    return found


def answers(network: nn.Module, data: Data) -> Array:
    with torch.no_grad():
        images = torch.from_numpy(np.stack(data.train.raw(range(40, 120))))
        return np.asarray(network.eval()(images).double().numpy())


@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_several_teachers_label_by_their_mean(average: Any, data: Data, task: Task, make_network: MakeNetwork) -> None:
    networks = [make_network(), make_network(seed=1)]
    augmented = replace(hidden(data), augmentation=({"flip": {"probability": 1.0}},))  # which teachers do not see
    told = Told()
    voices = [Voice(networks[0], 1.0), Voice(networks[1], 3.0)]
    chosen = settings(threshold=0.4, balance=False)
    found, log = label(voices, augmented, task, chosen, average, replace(CONTEXT, progress=told))
    first, second = (answers(network, data) for network in networks)
    if average == "logits":
        mean = softmax(0.25 * first + 0.75 * second)
    else:
        mean = 0.25 * softmax(first) + 0.75 * softmax(second)
    sure = np.flatnonzero(mean.max(1) >= 0.4)
    assert found.batch(found.train, range(40, len(found.train))).targets.tolist() == mean.argmax(1)[sure].tolist()
    assert log["examples"] == len(sure)
    assert 0 < len(sure) < 80
    assert log["mean_confidence"] == pytest.approx(mean.max(1)[sure].mean(), rel=1e-5)
    assert told.lines == [f"pseudo labels: {len(sure)} of 80 examples"]


def test_what_has_no_classes_or_no_unlabelled_examples_is_refused(
    data: Data, task: Task, make_network: MakeNetwork
) -> None:
    voices = [Voice(make_network())]
    with pytest.raises(UsageError, match="pseudo_labels: the data have no unlabelled examples: give the source an"):
        label(voices, data, task, settings(), "probabilities", CONTEXT)
    for name in ("regression", "causal-lm", "multi-label-classification"):
        with pytest.raises(UsageError, match=f"pseudo_labels: the task {name} has no class for each example"):
            label(voices, hidden(data), task_of(name), settings(), "probabilities", CONTEXT)


def test_a_rehearsal_labels_a_few_whatever_the_teacher_says(data: Data, task: Task, make_network: MakeNetwork) -> None:
    rehearsal = replace(CONTEXT, rehearsal=True)
    found, log = label(
        [Voice(make_network())], hidden(data), task, settings(threshold=0.999), "probabilities", rehearsal
    )
    assert 0 < log["examples"] <= 16
    assert len(found.train) == 8 + log["examples"]


def test_relabelled_examples_are_read_in_any_order(data: Data) -> None:
    split = Relabelled(data.train, np.arange(120) % 7)
    assert len(split) == 120
    assert split.targets([9, 0, 9]).tolist() == [2, 0, 2]
    np.testing.assert_array_equal(split.raw([9])[0], data.train.raw([9])[0])


@pytest.mark.parametrize("given", [{"threshold": 1}, {"threshold": -0.1}, {"treshold": 0.5}, {"balance": 3}])
def test_settings_out_of_range_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings(**given)


def test_the_students_own_past_gives_no_labels_and_settings_are_in_the_key() -> None:
    stage = Distill.model_validate({"teacher": {"ema": 0.9}, "pseudo_labels": {}})
    assert [where for where, _ in stage.faults()] == ["pseudo_labels"]
    forms: list[dict[str, Any]] = [{}, {"pseudo_labels": {}}, {"pseudo_labels": {"threshold": 0.9}}]
    asked = [str(Distill.model_validate({"teacher": "t", **form}).asked()) for form in forms]
    assert len(set(asked)) == 3


PIPELINE = """
threads: 1
data:
  source: digits
  split: {unlabelled: 0.8}
  preprocessing: [{scale: 0.0625}]
models:
  teacher: {zoo: resnet8, width: 0.5}
  first: {zoo: resnet8, width: 0.5}
  second: {zoo: resnet8, width: 0.5}
stages:
  - train: {model: teacher, epochs: 6, batch_size: 32, learning_rate: 0.2}
  - distill: {model: first, teacher: teacher, pseudo_labels: {threshold: 0.5}, losses: [task], RECIPE}
    name: one
  - distill: {model: second, teacher: first, pseudo_labels: {threshold: 0.5}, losses: [task, kl], RECIPE}
    name: two
targets: [local]
""".replace("RECIPE", "epochs: 2, batch_size: 32, learning_rate: 0.1")


def test_two_rounds(tmp_path: Path) -> None:
    """Xie et al. 2020: the student of the first round teaches the second."""
    file = tmp_path / "p.yaml"
    file.write_text(PIPELINE)
    plan = make_plan(read_pipeline(file))
    assert plan.step("two").inputs == {"source": "models.second", "teacher": "one"}
    steps = tuple(step for step in plan.steps if step.stage.verb in ("build", "train", "distill"))
    done = run_plan(replace(plan, steps=steps), Store(tmp_path / "store"), Silent())
    for name in ("one", "two"):
        metrics = done[name].record.metrics
        log = metrics["pseudo_labels"]
        assert log["examples"] == sum(log["by_class"])
        counts = {count for count in log["by_class"] if count}
        assert len(counts) == 1, log
        assert 0.5 <= log["mean_confidence"] <= 1
        labelled = 1168 - 934
        assert metrics["training"]["steps"] == 2 * -(-(labelled + log["examples"]) // 32)
        assert metrics["validation"]["accuracy"] > 0.3  # by chance 0.1
