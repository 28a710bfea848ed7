from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compress.distillation import large_vocabulary
from compress.distillation.large_vocabulary import can_chunk, head_of, headless
from compress.distillation.loss_term import LossTerm
from compress.distillation.method import Distillation
from compress.distillation.teacher import Teacher
from compress.distillation.terms.base import Term
from compress.distillation.terms.table import place_terms
from compress.errors import UsageError
from compress.models.transformers_text import build
from compress.tasks.open import open_task
from compress.tasks.settings import TaskSettings
from compress.training.method import TorchBatch, TrainingProgress

HERE = TrainingProgress(epoch=0, step=0, steps=10, seed=0)
VOCABULARY = 64
CONFIGS: dict[str, dict[str, Any]] = {
    "causal-lm": {
        "model_type": "llama", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": VOCABULARY, "pad_token_id": 0,
        "use_cache": False,
    },
    "masked-lm": {
        "model_type": "bert", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 4, "vocab_size": VOCABULARY, "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    },
    "sequence-to-sequence": {
        "model_type": "t5", "d_model": 16, "d_ff": 32, "num_layers": 2, "num_heads": 4, "d_kv": 4,
        "vocab_size": VOCABULARY, "pad_token_id": 0, "decoder_start_token_id": 0, "dropout_rate": 0.0,
        "use_cache": False,
    },
}  # fmt: skip
BART: dict[str, Any] = {
    "model_type": "bart", "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "vocab_size": VOCABULARY,
    "max_position_embeddings": 32, "dropout": 0.0, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "decoder_start_token_id": 2, "forced_eos_token_id": 2, "use_cache": False,
}  # fmt: skip
LOSSES = [
    [{"kl": {"temperature": 2.0, "weight": 0.7}}, {"task": {"weight": 0.3}}],
    [{"reverse_kl": {"positions": "all"}}, {"cross_entropy": {"label_smoothing": 0.1}}],
    [{"jsd": {"standardize": True}}, {"mse": {"weight": 0.1}}, {"dkd": {"weight": 0.2}}],
]


def network(task: str, seed: int, **changes: Any) -> nn.Module:
    torch.manual_seed(seed)
    return build({**CONFIGS[task], **changes}, task, _names(task))


def _names(task: str) -> tuple[str, ...]:
    names = ("input_ids", "attention_mask", "decoder_input_ids")
    return names if task == "sequence-to-sequence" else names[:2]


def batch(task: str = "causal-lm") -> TorchBatch:
    """Of two texts both are as long, and their padding is not."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(1, VOCABULARY, (3, 7), generator=generator)
    mask = torch.ones_like(ids)
    mask[2, 4:] = 0
    targets = torch.randint(0, VOCABULARY, (3, 7), generator=generator)
    targets[:, -1] = -100
    targets[2, 3:] = -100
    inputs = (ids, mask, ids.roll(1, 0)) if task == "sequence-to-sequence" else (ids, mask)
    return TorchBatch(inputs, targets, torch.arange(3))


def method(task: str, losses: list[Any], teacher: nn.Module) -> Distillation:
    terms = [LossTerm.model_validate(term) for term in losses]
    placed = place_terms(terms, lambda: pytest.fail("nothing looks inside"), 0)
    return Distillation(Teacher(teacher), placed, open_task(TaskSettings(name=task)), 1)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Every batch is large, and a chunk is two rows; gives how many chunks' logits were seen, by rows."""
    seen: list[int] = []
    row_loss = large_vocabulary._row_loss

    def spied(terms: Any) -> Any:
        inner = row_loss(terms)

        def loss(student: Tensor, teacher: Tensor | None, targets: Tensor | None) -> Tensor:
            seen.append(len(student))
            found: Tensor = inner(student, teacher, targets)
            return found

        return loss

    monkeypatch.setattr(large_vocabulary, "LARGE_BYTES", 2 * 4 * 4 * VOCABULARY)
    monkeypatch.setattr(large_vocabulary, "_row_loss", spied)
    yield seen


@pytest.mark.parametrize("task", CONFIGS)
@pytest.mark.parametrize("losses", LOSSES)
def test_loss_and_gradients_are_those_of_full_logits(
    task: str, losses: list[Any], small_chunks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, student = network(task, 0).double(), network(task, 1).double()
    found = method(task, losses, teacher).loss(student, batch(task), HERE)
    found.backward()  # type: ignore[no-untyped-call]
    gradients = {name: p.grad.clone() for name, p in student.named_parameters() if p.grad is not None}
    assert len(small_chunks) > 3
    assert max(small_chunks) == 2
    monkeypatch.setattr(large_vocabulary, "LARGE_BYTES", 2**40)
    student.zero_grad()
    expected = method(task, losses, teacher).loss(student, batch(task), HERE)
    expected.backward()  # type: ignore[no-untyped-call]
    np.testing.assert_allclose(found.item(), expected.item(), rtol=1e-10)
    for name, parameter in student.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-8, atol=1e-12)
    assert all(p.grad is None for p in teacher.parameters())


def test_the_network_is_whole_again_after_the_block() -> None:
    student, inputs = network("causal-lm", 0), batch().inputs
    before = student(*inputs)
    head = head_of(student)
    assert head is not None
    with headless(head):
        assert student(*inputs).shape[-1] == 16
    torch.testing.assert_close(student(*inputs), before)


def test_a_head_whose_logits_are_scaled_afterwards_is_left_alone() -> None:
    plain = network("causal-lm", 0)
    assert head_of(plain) is not None
    plain.network.config.logit_scale = 0.0625  # type: ignore[union-attr]
    assert head_of(plain) is None


def test_losses_of_the_whole_batch_keep_full_logits() -> None:
    def terms(*losses: Any) -> Any:
        placed = place_terms([LossTerm.model_validate(term) for term in losses], lambda: pytest.fail(""), 0)
        return [(term, 1.0) for term in placed]

    assert can_chunk(terms("kl", "task"))
    assert not can_chunk(terms("kl", "dist"))
    assert not can_chunk(terms("mlkd"))


@pytest.mark.usefixtures("small_chunks")
def test_another_vocabulary_is_refused() -> None:
    teacher, student = network("causal-lm", 0, vocab_size=80), network("causal-lm", 1)
    with pytest.raises(UsageError, match=r"vocabulary has 80 tokens, the student's 64"):
        method("causal-lm", ["kl"], teacher).loss(student, batch(), HERE)


def test_another_vocabulary_is_refused_with_full_logits_too() -> None:
    teacher, student = network("causal-lm", 0, vocab_size=80), network("causal-lm", 1)
    with pytest.raises(UsageError, match=r"vocabulary has 80 tokens, the student's 64"):
        method("causal-lm", ["kl"], teacher).loss(student, batch(), HERE)


def test_a_bias_that_is_added_after_the_head_is_not_left_out(small_chunks: list[int]) -> None:
    """BART's `final_logits_bias`: such networks keep full logits."""
    task = "sequence-to-sequence"
    networks = []
    for seed in range(2):
        torch.manual_seed(seed)
        networks.append(build(BART, task, _names(task)).double())
        bias = next(buffer for name, buffer in networks[-1].named_buffers() if name.endswith("final_logits_bias"))
        bias.normal_()
    teacher, student = networks
    assert head_of(student) is None
    given = batch(task)
    found = method(task, [{"kl": {"temperature": 1.0}}], teacher).loss(student, given, HERE)
    assert small_chunks == []
    counted = given.targets != -100
    log_q, log_p = (part(*given.inputs)[counted].log_softmax(-1) for part in (student, teacher))
    torch.testing.assert_close(found, (log_p.exp() * (log_p - log_q)).sum(-1).mean())


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(
    "loss", [*sorted(large_vocabulary.BY_ROW), "task", {"cross_entropy": {"label_smoothing": 0.1}}]
)
def test_logits_of_half_precision_are_compared_in_float32(loss: Any) -> None:
    """The loss is the one that the chunks' own logits have in float64, to float32's precision and not bf16's."""
    [term] = place_terms([LossTerm.model_validate(loss)], lambda: pytest.fail("nothing looks inside"), 0)
    student, teacher = 4 * torch.randn(2, 6, VOCABULARY, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert isinstance(term, Term)
    row_loss = large_vocabulary._row_loss([(term, 1.0)])
    found = row_loss(student, teacher, torch.arange(6))
    assert found.dtype == torch.float32
    expected = row_loss(student.double(), teacher.double(), torch.arange(6))
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
