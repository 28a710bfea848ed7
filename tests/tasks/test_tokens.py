from __future__ import annotations

import numpy as np
import pytest
import torch

from compress.data.collate import IGNORED
from compress.errors import UsageError
from compress.targets.measuring.answers import condensed_tokens
from compress.tasks.tokens import (
    COUNTED,
    NLL,
    RIGHT,
    TOKEN,
    Array,
    condensed,
    joined,
    mean_nll,
    perplexity,
    perplexity_interval,
    same_tokens,
    token_metrics,
)

RANDOM = np.random.default_rng(0)


def logits_and_targets(examples: int = 6, tokens: int = 5, vocabulary: int = 11) -> tuple[Array, Array]:
    logits = RANDOM.normal(0, 3, (examples, tokens, vocabulary)).astype(np.float32)
    targets = RANDOM.integers(0, vocabulary, (examples, tokens))
    targets[RANDOM.random((examples, tokens)) < 0.3] = IGNORED
    targets[0] = IGNORED
    return logits, targets


def by_definition(logits: Array, targets: Array) -> Array:
    """The four numbers of each token, in float64."""
    result = np.zeros((*targets.shape, 4))
    for place in zip(*np.nonzero(targets != IGNORED), strict=True):
        row, right = logits[place].astype(np.float64), targets[place]
        nll = np.log(np.exp(row).sum()) - row[right]
        result[place] = [row.argmax(), nll, 1, row.argmax() == right]
    return result


def test_condensed_is_the_definition_for_arrays_and_tensors() -> None:
    logits, targets = logits_and_targets()
    for found in (condensed(logits, targets), condensed(torch.tensor(logits), torch.tensor(targets))):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, by_definition(logits, targets), atol=1e-5)


def test_the_measuring_program_condenses_alike() -> None:
    logits, targets = logits_and_targets()
    found = condensed_tokens(logits, np.pad(targets, ((0, 0), (0, 3)), constant_values=IGNORED), "output")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_definition(logits, targets), atol=1e-5)
    huge = condensed_tokens(logits * 1e4, targets, "output")
    np.testing.assert_allclose(huge, condensed(logits * np.float32(1e4), targets), rtol=1e-6)


def test_metrics_are_those_of_all_tokens_together() -> None:
    logits, targets = logits_and_targets()
    expected = by_definition(logits, targets)
    counted = expected[..., COUNTED].sum()
    found = token_metrics(condensed(logits, targets))
    assert list(found) == ["perplexity", "token_accuracy"]
    assert found["perplexity"] == pytest.approx(np.exp(expected[..., NLL].sum() / counted), rel=1e-6)
    assert found["token_accuracy"] == pytest.approx(expected[..., RIGHT].sum() / counted)
    assert mean_nll(condensed(logits, targets)) == pytest.approx(expected[..., NLL].sum() / counted, rel=1e-6)


def test_a_model_that_knows_nothing_is_as_perplexed_as_its_vocabulary_is_large() -> None:
    found = token_metrics(condensed(np.zeros((2, 4, 37), np.float32), RANDOM.integers(0, 37, (2, 4))))
    assert found["perplexity"] == pytest.approx(37, rel=1e-6)


def test_without_tokens_that_count_there_is_nothing_to_say() -> None:
    nothing = condensed(np.zeros((2, 3, 5), np.float32), np.full((2, 3), IGNORED))
    assert mean_nll(nothing) == 0
    with pytest.raises(UsageError, match="no token to be judged by"):
        token_metrics(nothing)


def test_batches_of_several_lengths_are_joined_and_padding_does_not_count() -> None:
    parts = [logits_and_targets(3, tokens) for tokens in (4, 7, 2)]
    answers = joined([condensed(*part) for part in parts])
    assert answers.shape == (9, 7, 4)
    together = np.concatenate([by_definition(*part).reshape(-1, 4) for part in parts])
    expected = np.exp(together[:, NLL].sum() / together[:, COUNTED].sum())
    assert token_metrics(answers)["perplexity"] == pytest.approx(expected, rel=1e-6)
    assert (answers[:3, 4:] == 0).all()
    np.testing.assert_array_equal(joined([np.ones((2, 3)), np.zeros((1, 3))]), [[1] * 3, [1] * 3, [0] * 3])


def test_the_interval_holds_the_perplexity_and_shrinks_with_examples() -> None:
    widths = []
    for examples in (50, 800):
        answers = condensed(*logits_and_targets(examples))
        low, high = perplexity_interval(answers)
        assert low < token_metrics(answers)["perplexity"] < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_agreement_counts_tokens_that_count_only() -> None:
    logits, targets = logits_and_targets()
    reference = condensed(logits, targets)
    other = reference.copy()
    first, second = np.argwhere(reference[..., COUNTED] > 0)[:2]
    other[tuple(first)][TOKEN] += 1
    other[0, 0, TOKEN] += 1  # does not count
    counted = int(reference[..., COUNTED].sum())
    assert same_tokens(reference, reference) == 1
    assert same_tokens(other, reference) == pytest.approx(1 - 1 / counted)
    assert same_tokens(np.pad(other, ((0, 0), (0, 2), (0, 0))), reference) == pytest.approx(1 - 1 / counted)
    assert tuple(second) != tuple(first)


@pytest.mark.parametrize("shape", [(6, 11), (6, 4, 11)])
def test_outputs_for_other_tokens_are_refused(shape: tuple[int, ...]) -> None:
    _, targets = logits_and_targets()
    with pytest.raises(UsageError, match="needs logits for each token"):
        condensed(np.zeros(shape, np.float32), targets)


def test_perplexity_is_the_number_of_words_that_are_equally_likely() -> None:
    assert perplexity(50 * float(np.log(1000)), 50) == pytest.approx(1000)
    assert perplexity(0.0, 3) == 1
    assert perplexity(1e6, 10) == float("inf")
    with pytest.raises(ValueError, match="at least one token, got 0"):
        perplexity(0.0, 0)
