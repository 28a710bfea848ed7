from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from compress.data.collate import IGNORED
from compress.distillation.exchange import Exchange, Rows, check_answers
from compress.distillation.outputs import Seen
from compress.errors import UsageError
from compress.training.method import TrainingProgress
from tests.distillation.networks import task_of

HERE = TrainingProgress(epoch=0, step=0, steps=10, seed=0)
GENERATOR = torch.Generator().manual_seed(0)


def exchange(student: Tensor, teacher: Tensor, targets: Tensor, task: str, mask: Tensor | None = None) -> Exchange:
    return Exchange(Seen(student), Seen(teacher), targets, torch.arange(len(student)), task_of(task), HERE, mask)


def logits(*shape: int) -> tuple[Tensor, Tensor]:
    return torch.randn(shape, generator=GENERATOR), torch.randn(shape, generator=GENERATOR)


def test_rows_of_classes_are_the_examples() -> None:
    student, teacher = logits(3, 5)
    rows = exchange(student, teacher, torch.tensor([4, -1, 2]), "image-classification").rows()
    assert rows.student is student
    assert rows.teacher is teacher
    assert rows.labels.tolist() == [4, int(teacher[1].argmax()), 2]


def test_rows_of_texts_are_the_positions_that_count() -> None:
    student, teacher = logits(2, 3, 5)
    targets = torch.tensor([[1, IGNORED, 3], [IGNORED, 0, IGNORED]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    material = exchange(student, teacher, targets, "masked-lm", mask)
    rows = material.rows()
    assert torch.equal(rows.student, torch.stack([student[0, 0], student[0, 2], student[1, 1]]))
    assert torch.equal(rows.teacher, torch.stack([teacher[0, 0], teacher[0, 2], teacher[1, 1]]))
    assert rows.labels.tolist() == [1, 3, 0]
    every = material.rows("all")
    assert torch.equal(every.student, torch.cat([student[0], student[1, :2]]))
    chosen = [int(teacher[0, 1].argmax()), int(teacher[1, 0].argmax())]
    assert every.labels.tolist() == [1, chosen[0], 3, chosen[1], 0]
    assert material.rows() is rows


def test_without_a_mask_all_positions_are_those_with_targets() -> None:
    student, teacher = logits(1, 3, 5)
    material = exchange(student, teacher, torch.tensor([[1, IGNORED, 3]]), "causal-lm")
    assert torch.equal(material.rows("all").student, student[0, [0, 2]])


def test_a_decoders_positions_are_not_told_by_the_mask_of_the_text_that_its_encoder_reads() -> None:
    student, teacher = logits(1, 3, 5)
    targets = torch.tensor([[1, 2, IGNORED]])  # two tokens to say about a text of three
    material = exchange(student, teacher, targets, "sequence-to-sequence", torch.tensor([[1, 1, 1]]))
    assert torch.equal(material.rows("all").student, student[0, :2])


def test_rows_of_pictures_with_a_class_for_each_pixel_are_the_pixels() -> None:
    student, teacher = logits(2, 4, 3, 3)
    rows = exchange(student, teacher, torch.zeros(2, 3, 3, dtype=torch.int64), "image-classification").rows()
    assert torch.equal(rows.student[5], student[0, :, 1, 2])
    assert torch.equal(rows.teacher[-1], teacher[1, :, 2, 2])
    assert len(rows.labels) == 18


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (torch.tensor([1, 0]), None),
        (torch.tensor([1, -1]), [True, False]),
        (torch.tensor([0.5, 1.5]), None),
        (torch.tensor([[1, IGNORED]]), None),
    ],
)
def test_examples_without_a_label_are_known(targets: Tensor, expected: Any) -> None:
    student, teacher = logits(len(targets), 3)
    found = exchange(student, teacher, targets, "image-classification").labelled
    assert (found if found is None else found.tolist()) == expected


def test_the_mask_fits_the_tokens_or_all_count() -> None:
    mask = torch.tensor([[1, 1, 0]])
    material = exchange(*logits(1, 2), torch.tensor([0]), "text-classification", mask)
    assert material.token_mask(torch.zeros(1, 3, 8), "layer") is mask
    assert material.token_mask(torch.zeros(1, 5, 8), "layer").tolist() == [[1] * 5]
    unmasked = exchange(*logits(1, 3, 5), torch.tensor([[2, IGNORED, 1]]), "causal-lm")
    assert unmasked.token_mask(torch.zeros(1, 3, 8), "layer").tolist() == [[True, False, True]]


@pytest.mark.parametrize("tokens", [3, 4])
def test_states_of_a_decoder_and_of_its_encoder_have_masks_of_their_own(tokens: int) -> None:
    """Also where both texts are as long."""
    mask = torch.tensor([[1, 1, 1, 0][:tokens]])
    targets = torch.tensor([[4, IGNORED, IGNORED]])
    material = exchange(*logits(1, 3, 5), targets, "sequence-to-sequence", mask)
    assert material.token_mask(torch.zeros(1, tokens, 8), "network.encoder.block.0") is mask
    for point in ("network.decoder.block.1", "network.lm_head:input"):
        assert material.token_mask(torch.zeros(1, 3, 8), point).tolist() == [[True, False, False]]


def test_both_must_answer_in_one_shape() -> None:
    check_answers(torch.zeros(2, 3), torch.zeros(2, 3))
    with pytest.raises(UsageError, match=r"\(100,\).*\(10,\)"):
        check_answers(torch.zeros(2, 10), torch.zeros(2, 100))
    with pytest.raises(UsageError, match=r"vocabulary has 90 tokens, the student's 80.*tokenizer"):
        check_answers(torch.zeros(2, 3, 80), torch.zeros(2, 3, 90), task_of("causal-lm"))


def test_labels_without_targets_are_the_teachers_choice() -> None:
    assert Rows(torch.zeros(2, 2), torch.tensor([[0.0, 1.0], [1.0, 0.0]]), None).labels.tolist() == [1, 0]
