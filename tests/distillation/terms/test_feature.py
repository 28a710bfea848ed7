from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from compress.distillation.loss_term import LossTerm
from compress.distillation.losses.attention_transfer import attention_transfer
from compress.distillation.losses.pkt import pkt
from compress.distillation.losses.rkd import rkd_angle, rkd_distance
from compress.distillation.losses.similarity_preserving import similarity_preserving
from compress.distillation.method import Distillation
from compress.distillation.outputs import observe
from compress.distillation.teacher import Teacher
from compress.distillation.terms.base import Term
from compress.distillation.terms.table import place_terms
from compress.errors import UsageError
from compress.training.method import TorchBatch, TrainingProgress
from compress.training.synchronize import averaged_buffers
from tests.distillation.networks import convolution, images, sentences, site, task_of, text

HERE = TrainingProgress(epoch=0, step=0, steps=10, seed=0)
IMAGES = images(6, 16)


def placed(
    loss: Any, student: nn.Module, teacher: nn.Module, inputs: tuple[Tensor, ...], mask: int | None = None
) -> Distillation:
    examples, task = len(inputs[0]), task_of("image-classification" if mask is None else "text-classification")
    terms = place_terms([LossTerm.model_validate(loss)], lambda: site(student, teacher, inputs, task, examples), 0)
    return Distillation(Teacher(teacher), terms, task, mask)


def value(method: Distillation, student: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    batch = TorchBatch(inputs, torch.zeros(len(inputs[0]), dtype=torch.int64), torch.arange(len(inputs[0])))
    with torch.no_grad():
        return method.loss(student, batch, HERE).item()


def term(method: Distillation) -> Term:
    [found] = method.terms
    assert isinstance(found, Term)
    return found


def features(network: nn.Module, point: str) -> Tensor:
    with torch.no_grad():
        return observe(network.eval(), (IMAGES,), [point]).points[point]


@pytest.mark.parametrize(
    ("loss", "function"),
    [
        ("similarity", similarity_preserving),
        ("pkt", pkt),
        ({"rkd": {"distance": 3, "angle": 0}}, lambda own, theirs: 3 * rkd_distance(own, theirs)),
        ("rkd", lambda own, theirs: 25 * rkd_distance(own, theirs) + 50 * rkd_angle(own, theirs)),
    ],
)
@pytest.mark.parametrize("point", ["linear:input", "layer2"])
def test_relations_are_those_of_the_last_features_or_of_the_named_module(loss: Any, function: Any, point: str) -> None:
    student, teacher = convolution(seed=1).eval(), convolution("resnet14", width=0.5)
    if point == "layer2":
        [(name, settings)] = loss.items() if isinstance(loss, dict) else [(loss, {})]
        loss = {name: {**settings, "student": point, "teacher": point}}
    own, theirs = (features(network, point).flatten(1) for network in (student, teacher))
    found = value(placed(loss, student, teacher, (IMAGES,)), student, (IMAGES,))
    np.testing.assert_allclose(found, function(own, theirs).item(), rtol=1e-5)


def test_attention_transfer_is_the_mean_over_stages() -> None:
    student, teacher = convolution(seed=1).eval(), convolution("resnet14", width=0.5)
    found = value(placed({"attention_transfer": {"power": 3}}, student, teacher, (IMAGES,)), student, (IMAGES,))
    stages = [
        attention_transfer(features(student, name), features(teacher, name), 3).item()
        for name in ("layer1", "layer2", "layer3")
    ]
    np.testing.assert_allclose(found, np.mean(stages), rtol=1e-5)


def test_hints_go_through_a_projector_for_each_pair() -> None:
    student, teacher = convolution(seed=1).eval(), convolution("resnet14", width=0.5)
    method = placed({"hint": {"student": ["layer1", "layer3"], "teacher": ["layer2", "layer3"]}}, student, teacher,
                    (IMAGES,))  # fmt: skip
    method.terms.eval()
    projectors: Any = term(method).projectors
    parts = []
    for projector, own, theirs in zip(projectors, ("layer1", "layer3"), ("layer2", "layer3"), strict=True):
        with torch.no_grad():
            parts.append(functional.mse_loss(projector(features(student, own)), features(teacher, theirs)).item())
    np.testing.assert_allclose(value(method, student, (IMAGES,)), np.mean(parts), rtol=1e-5)


TOKENS = {"student": "bert.encoder.layer.1", "teacher": "bert.encoder.layer.3"}


@pytest.mark.parametrize(
    "loss",
    [
        {"hint": TOKENS},
        {"similarity": TOKENS},
        {"pkt": TOKENS},
        {"rkd": TOKENS},
        {"crd": {**TOKENS, "negatives": 3, "width": 8}},
        "similarity",
    ],
)
def test_padding_changes_no_loss_between_features_of_tokens(loss: Any) -> None:
    student, teacher = text("bert", seed=1).double().eval(), text("bert", layers=4, width=32).double()
    method = placed(loss, student, teacher, sentences(), mask=1)
    method.terms.double().eval()
    short, long = (value(method, student, sentences(padding=padding)) for padding in (0, 5))
    np.testing.assert_allclose(long, short, rtol=1e-9)
    assert short > 0


def test_contrast_learns_its_bank_in_training_only_and_only_the_batch() -> None:
    student, teacher = convolution(seed=1).eval(), convolution("resnet14")
    method = placed({"crd": {"negatives": 4, "width": 8}}, student, teacher, (IMAGES,))
    bank: Any = term(method).bank
    assert averaged_buffers(method.terms) == [], "large memories would be averaged over processes at every step"
    before = bank.student_bank.clone()
    some = TorchBatch((IMAGES[:2],), torch.zeros(2, dtype=torch.int64), torch.tensor([4, 1]))
    method.terms.eval()
    method.loss(student, some, HERE)
    assert torch.equal(bank.student_bank, before)
    method.terms.train()
    method.loss(student, some, HERE)
    assert (bank.student_bank != before).any(1).tolist() == [False, True, False, False, True, False]


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            {"hint": {"student": "layer*", "teacher": ["layer1", "layer2"]}},
            r"pairs modules .* with as many",
        ),
        ({"hint": {"student": "layer1", "teacher": "linear"}}, "hint: no projection from features of shape"),
        ({"attention_transfer": {"student": "linear", "teacher": "linear"}}, "compares feature maps"),
        ({"review": {"student": "linear", "teacher": "linear"}}, "compares feature maps"),
        ({"rkd": {"student": "layer*"}}, r"rkd.student must match one module; it matches layer1, layer2, layer3"),
        ({"pkt": {"teacher": "layr1"}}, r"losses: pkt.teacher: no module matches 'layr1' \(did you mean 'layer1'\?\)"),
    ],
)
def test_modules_that_cannot_be_compared_are_refused_before_training(loss: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        placed(loss, convolution(), convolution("resnet14"), (IMAGES,))


def test_transformers_have_no_maps_to_look_at() -> None:
    with pytest.raises(UsageError, match="attention_transfer compares feature maps"):
        placed("attention_transfer", text("bert"), text("bert"), sentences(), mask=1)
