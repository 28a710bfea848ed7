from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compress.distillation.layout import transformer
from compress.distillation.loss_term import LossTerm
from compress.distillation.method import Distillation
from compress.distillation.outputs import observe
from compress.distillation.teacher import Teacher
from compress.distillation.terms.layers import layer_map
from compress.distillation.terms.table import place_terms
from compress.errors import UsageError
from compress.training.method import TorchBatch, TrainingProgress
from tests.distillation.networks import convolution, images, sentences, site, task_of, text

TARGETS = torch.tensor([0, 1, 1, 0])


def method_of(loss: Any, student: nn.Module, teacher: nn.Module, inputs: tuple[Tensor, ...]) -> Distillation:
    task = task_of("text-classification")
    terms = place_terms([LossTerm.model_validate(loss)], lambda: site(student, teacher, inputs, task, 4), seed=0)
    kind = next(student.parameters()).dtype
    return Distillation(Teacher(teacher), terms.to(kind), task, mask_input=1)


def value(method: Distillation, student: nn.Module, inputs: tuple[Tensor, ...], step: int = 0) -> float:
    batch = TorchBatch(inputs, TARGETS, torch.arange(4))
    with torch.no_grad():
        return method.loss(student, batch, TrainingProgress(0, step, 10, seed=0)).item()


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        (4, 12, [2, 5, 8, 11]),  # TinyBERT-4 of BERT-base
        (6, 12, [1, 3, 5, 7, 9, 11]),
        (2, 3, [1, 2]),
        (3, 3, [0, 1, 2]),
        (1, 5, [4]),
        (4, 2, [0, 0, 1, 1]),
    ],
)
def test_layers_are_spread_evenly_and_end_with_the_last(student: int, teacher: int, expected: list[int]) -> None:
    assert layer_map(student, teacher, "uniform") == expected


def test_all_layers_need_as_many() -> None:
    assert layer_map(3, 3, "all") == [0, 1, 2]
    with pytest.raises(UsageError, match="all needs as many layers; student 2, teacher 4"):
        layer_map(2, 4, "all")


CASES = [
    (family, loss)
    for family in ("bert", "distilbert", "roberta", "gpt2")
    for loss in (
        "hidden", {"hidden": {"distance": "cosine", "layers": "last"}}, {"hidden": {"embeddings": True}}, "tinybert",
        "minilm", {"minilm": {"layer": -2}}, {"minilm_v2": {"relation_heads": 8}}, "mobilebert",
    )
] + [("llama", loss) for loss in ("hidden", {"minilm_v2": {"relation_heads": 4, "layer": 0}})]  # fmt: skip


@pytest.mark.parametrize(("family", "loss"), CASES)
def test_padding_changes_no_loss_between_layers(family: str, loss: Any) -> None:
    student, teacher = text(family, seed=1).double().eval(), text(family, layers=4, width=32).double()
    method = method_of(loss, student, teacher, sentences())
    short, long = (value(method, student, sentences(padding=padding)) for padding in (0, 5))
    np.testing.assert_allclose(long, short, rtol=1e-9)
    assert short > 0


@pytest.mark.parametrize("loss", ["hidden", "tinybert", "minilm", {"minilm_v2": {"relation_heads": 4}}, "mobilebert"])
@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_a_student_that_is_its_teacher_costs_nothing(loss: Any, family: str) -> None:
    student, teacher = text(family).eval(), text(family)
    assert value(method_of(loss, student, teacher, sentences()), student, sentences()) == pytest.approx(0, abs=1e-6)


def test_hidden_states_are_compared_at_the_paired_layers() -> None:
    student, teacher, inputs = text("bert", seed=1).eval(), text("bert", layers=4).eval(), sentences()
    found = value(method_of({"hidden": {"embeddings": True}}, student, teacher, inputs), student, inputs)
    layer = "network.bert.encoder.layer."
    own = observe(student, inputs, [f"{layer}0:input", f"{layer}0", f"{layer}1"]).points.values()
    theirs = observe(teacher, inputs, [f"{layer}0:input", f"{layer}1", f"{layer}3"]).points.values()
    real = inputs[1].bool().numpy()
    differences = [(o - t).detach().double().numpy()[real] for o, t in zip(own, theirs, strict=True)]
    np.testing.assert_allclose(found, np.mean([(difference**2).mean() for difference in differences]), rtol=1e-5)


def test_attention_is_that_of_the_network_itself() -> None:
    """MiniLM's attention and MobileBERT's are read from projections; the network tells its own."""
    student, teacher, inputs = text("bert", seed=1).eval(), text("bert").eval(), sentences()
    attentions = []
    for network in (student, teacher):
        network.network.set_attn_implementation("eager")  # type: ignore[union-attr, operator]
        with torch.no_grad():
            outputs = network.network(  # type: ignore[operator]
                input_ids=inputs[0], attention_mask=inputs[1], output_attentions=True, output_hidden_states=True
            )
        attentions.append([a.double().numpy() for a in outputs.attentions])
        attentions[-1].append(outputs.hidden_states[1].double().numpy())
    method = method_of("mobilebert", student, teacher, inputs)
    real = inputs[1].bool().numpy()
    (own, _, own_states), (theirs, _, their_states) = attentions
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.where(theirs > 0, theirs * (np.log(theirs) - np.log(own)), 0.0).sum(-1)  # (examples, heads, queries)
    divergence = parts.transpose(0, 2, 1)[real].mean()
    states = ((own_states - their_states)[real] ** 2).mean()
    np.testing.assert_allclose(value(method, student, inputs), divergence + states, rtol=1e-4)


def test_mobilebert_teaches_one_layer_after_the_other_and_then_none() -> None:
    student, teacher, inputs = text("bert").double().eval(), text("bert").double(), sentences()
    with torch.no_grad():
        teacher.network.bert.encoder.layer[1].output.dense.weight.mul_(2)  # type: ignore[union-attr, index]
    method = method_of({"mobilebert": {"until": 0.8}}, student, teacher, inputs)
    values = [value(method, student, inputs, step) for step in range(10)]
    assert values[:4] == pytest.approx([0] * 4, abs=1e-12)
    assert min(values[4:8]) > 1e-6
    assert values[8:] == [0, 0]


def test_unlike_heads_leave_mobilebert_the_states() -> None:
    student, teacher = text("bert", seed=1).eval(), text("bert", heads=2)
    assert value(method_of("mobilebert", student, teacher, sentences()), student, sentences()) > 0


@pytest.mark.parametrize(
    ("loss", "student", "teacher", "message"),
    [
        (
            "tinybert",
            ("bert", {"heads": 2}),
            ("bert", {}),
            "has 2 heads where the teacher has 4: use minilm_v2",
        ),
        ("minilm", ("bert", {"heads": 2}), ("bert", {}), r"as many heads in student \(2\) and teacher \(4\)"),
        ({"minilm": {"layer": -5}}, ("bert", {}), ("bert", {}), "minilm.layer: the teacher has layers -2 to 1"),
        ("minilm_v2", ("bert", {}), ("bert", {}), "12 does not divide the student's width of 16"),
        (
            {"minilm_v2": {"relation_heads": 16}},
            ("llama", {}),
            ("llama", {}),
            "divide the student's width of 8",
        ),
        ("tinybert", ("llama", {}), ("llama", {}), "the student's are rotated afterwards: use minilm_v2 or hidden"),
        ("minilm", ("bert", {}), ("gpt_neox", {}), "the teacher's are rotated afterwards"),
        ("mobilebert", ("llama", {}), ("llama", {}), "rotated"),
        ({"hidden": {"layers": "all"}}, ("bert", {}), ("bert", {"layers": 4}), "all needs as many layers"),
    ],
)
def test_networks_that_do_not_fit_are_refused_before_training(
    loss: Any, student: tuple[str, Any], teacher: tuple[str, Any], message: str
) -> None:
    own, theirs = (text(family, **sizes) for family, sizes in (student, teacher))
    with pytest.raises(UsageError, match=message):
        method_of(loss, own, theirs, sentences())


def test_convolution_networks_have_no_such_layers() -> None:
    for loss, message in (("tinybert", "needs a transformer with query, key and value layers"), (
        {"hidden": {"student": "layer1", "teacher": "layer1"}}, "compares states of tokens")):  # fmt: skip
        with pytest.raises(UsageError, match=message):
            method_of(loss, convolution(), convolution(), (images(2, 16),))


class Unknown(nn.Module):
    """A stack of layers with one projection each, of nobody knows how many heads."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.Module()
        layer.qkv = nn.Linear(4, 12)
        self.blocks = nn.ModuleList([layer])


def test_attention_that_cannot_be_read_is_refused() -> None:
    assert transformer(Unknown()) is not None
    with pytest.raises(UsageError, match=r"reads the teacher's attention, but how its heads lie .* use hidden"):
        method_of("minilm_v2", text("bert"), Unknown(), sentences())
