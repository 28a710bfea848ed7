from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from compress.errors import UsageError
from compress.tasks.text_metrics import (
    bleu,
    classification_metrics,
    exact_match,
    final_answer,
    final_answer_match,
    multilabel_metrics,
    perplexity,
    regression_text_metrics,
    rouge,
)

Array = npt.NDArray[Any]
RANDOM = np.random.default_rng(0)


def logits_of(classes: list[int], count: int) -> Array:
    return np.eye(count)[classes] * 3 - 1


def f1_by_hand(found: Array, right: Array) -> float:
    """2 TP / (2 TP + FP + FN) of two lists of truths."""
    both, either = np.sum(found & right), np.sum(found ^ right)
    return float(2 * both / (2 * both + either)) if both + either else 0.0


def correlation_by_hand(left: Array, right: Array) -> float:
    left, right = left - left.mean(), right - right.mean()
    return float((left * right).sum() / np.sqrt((left**2).sum() * (right**2).sum()))


def ranks(values: Array) -> Array:
    """From 1 on; equal values share the mean of their ranks."""
    return np.array([np.sum(values < value) + (np.sum(values == value) + 1) / 2 for value in values])


def bleu_by_hand(predictions: list[str], references: list[str]) -> float:
    """Papineni et al. 2002, section 2.3, for text whose words are between spaces; no count may be zero."""
    log_precisions = []
    for length in range(1, 5):
        hits = total = 0
        for prediction, reference in zip(predictions, references, strict=True):
            mine, theirs = (
                Counter(tuple(words[i : i + length]) for i in range(len(words) - length + 1))
                for words in (prediction.split(), reference.split())
            )
            hits += sum((mine & theirs).values())
            total += sum(mine.values())
        log_precisions.append(np.log(hits / total))
    ours, wanted = (sum(len(text.split()) for text in texts) for texts in (predictions, references))
    return float(100 * np.exp(min(0, 1 - wanted / ours) + np.mean(log_precisions)))


def test_two_classes_are_judged_by_hand() -> None:
    """3 true positives, 1 false positive, 2 false negatives, 4 true negatives."""
    right = np.array([1, 1, 1, 1, 1, 0, 0, 0, 0, 0])
    found = classification_metrics(logits_of([1, 1, 1, 0, 0, 1, 0, 0, 0, 0], 2), right)
    assert found == {
        "accuracy": 0.7,
        "f1": pytest.approx(6 / 9),
        "matthews": pytest.approx((3 * 4 - 1 * 2) / np.sqrt(4 * 5 * 5 * 6)),
    }
    assert list(found) == ["accuracy", "f1", "matthews"]


def test_more_classes_count_the_same_each() -> None:
    logits, right = RANDOM.normal(size=(60, 4)), RANDOM.choice(4, 60, p=[0.6, 0.2, 0.1, 0.1])
    found = logits.argmax(axis=1)
    each = [f1_by_hand(found == number, right == number) for number in range(4)]
    metrics = classification_metrics(logits, right)
    assert metrics["f1"] == pytest.approx(np.mean(each), rel=1e-12)
    # Gorodkin 2004: the correlation of class indicators, summed over classes.
    x, y = np.eye(4)[found], np.eye(4)[right]
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    assert metrics["matthews"] == pytest.approx((x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum()), rel=1e-12)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("always", [0, 1])
def test_one_answer_for_all_is_no_correlation(always: int) -> None:
    mixed = classification_metrics(logits_of([always] * 4, 2), np.array([0, 0, 0, 1]))
    assert mixed == {"accuracy": 0.25 if always else 0.75, "f1": 0.4 if always else 0.0, "matthews": 0.0}
    assert classification_metrics(logits_of([0] * 4, 2), np.zeros(4, dtype=np.int64))["f1"] == 0


def test_label_sets_are_judged_by_hand() -> None:
    logits = np.array([[2.0, -1.0, 0.0], [0.1, 3.0, -2.0], [-1.0, -1.0, -1.0], [1.0, 1.0, -0.1]])
    targets = np.array([[1, 0, 0], [1, 0, 0], [0, 0, 0], [1, 1, 1]])
    assert multilabel_metrics(logits, targets) == {
        "f1_micro": pytest.approx(2 * 4 / (2 * 4 + 1 + 1)),
        "f1_macro": pytest.approx((1 + 2 / 3 + 0) / 3),
        "accuracy": 0.5,
    }


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("labels", [1, 5])
def test_label_sets_are_judged_by_their_definition(labels: int) -> None:
    logits, targets = RANDOM.normal(size=(40, labels)), RANDOM.integers(0, 2, (40, labels)).astype(np.float32)
    given, right = logits > 0, targets == 1
    found = multilabel_metrics(logits, targets)
    assert found["f1_micro"] == pytest.approx(f1_by_hand(given, right), rel=1e-12)
    assert found["f1_macro"] == pytest.approx(np.mean([f1_by_hand(given[:, i], right[:, i]) for i in range(labels)]))
    assert found["accuracy"] == np.mean(
        [set(np.flatnonzero(g)) == set(np.flatnonzero(r)) for g, r in zip(given, right, strict=True)]
    )


def test_correlations_are_their_definitions() -> None:
    targets = RANDOM.integers(0, 6, 50).astype(np.float32)
    values = (np.exp(targets) + RANDOM.normal(size=50) * 20)[:, None].astype(np.float32)
    wide = values[:, 0].astype(np.float64)
    assert regression_text_metrics(values, targets) == {
        "pearson": pytest.approx(correlation_by_hand(wide, targets.astype(np.float64)), rel=1e-12),
        "spearman": pytest.approx(correlation_by_hand(ranks(wide), ranks(targets)), rel=1e-12),
        "mse": pytest.approx(np.mean((wide - targets) ** 2), rel=1e-12),
    }


@pytest.mark.filterwarnings("error")
def test_a_constant_is_correlated_with_nothing() -> None:
    constant, other = np.full(4, 2.5), np.array([1.0, 2.0, 3.0, 4.0])
    assert regression_text_metrics(constant, other) == {"pearson": 0, "spearman": 0, "mse": 1.25}
    assert regression_text_metrics(other, constant) == {"pearson": 0, "spearman": 0, "mse": 1.25}
    assert regression_text_metrics(np.array([1.0]), np.array([3.0]))["mse"] == 4


def test_outputs_of_another_shape_are_refused() -> None:
    with pytest.raises(UsageError, match=r"one logit a class.*gives \(4, 3, 2\)"):
        classification_metrics(np.zeros((4, 3, 2)), np.zeros(4, dtype=np.int64))
    with pytest.raises(UsageError, match=r"one logit a label, \(4, 2\); the network gives \(4, 3\)"):
        multilabel_metrics(np.zeros((4, 3)), np.zeros((4, 2)))
    with pytest.raises(UsageError, match=r"one value an example, \(4,\); the network gives \(4, 2\)"):
        regression_text_metrics(np.zeros((4, 2)), np.zeros(4))


def test_exact_matches_differ_by_nothing_but_spaces_around() -> None:
    predictions = [" yes\n", "Yes", "yes.", "no  no"]
    assert exact_match(predictions, ["yes", "yes", "yes", "no no"]) == 0.25


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("She sells 16 - 3 - 4 = 9 eggs and makes 9 * 2 = $18.\n#### 18", "18"),
        ("#### 7\nNo, that is wrong.\n#### 1,234.50", "1234.50"),
        ("so the total is 12. Final Answer: $70,000.", "70000"),
        ("ANSWER :  New   York .\n\nQuestion: 5 + 5?", "new york"),
        ("#### 3 then answer: 4", "4"),
        ("answer: 4 or #### 3", "3"),
        ("It costs 3 dollars, so 1,200 for 400.", "400"),
        ("of 2,500,000 people", "2500000"),
        ("one of 1,2,3", "3"),
        ("it is below zero: -3.25", "-3.25"),
        ("between 10-12", "12"),
        ("GPT2 says .5", ".5"),
        ("about 1e-5 of it", "1e-5"),
        ("the answer is 42 and the answer:", "42"),
        ("  No  Idea.  ", "no idea"),
        ("", ""),
    ],
)
def test_the_final_answer_is_found(text: str, answer: str) -> None:
    assert final_answer(text) == answer


def test_final_answers_are_compared_and_not_the_way_there() -> None:
    predictions = ["2 + 3 = 5, times 200 is 1,000", "#### 12", "Answer: Paris", "I think so"]
    assert final_answer_match(predictions, ["#### 1000", "so 11 + 2\n#### 13", "paris.", "yes"]) == 0.5


def test_bleu_is_its_definition_over_the_corpus() -> None:
    pytest.importorskip("sacrebleu")
    assert bleu(["a b c d e"], ["a b c d f"]) == pytest.approx(100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    assert bleu(["a b c d"], ["a b c d e"]) == pytest.approx(100 * np.exp(1 - 5 / 4))
    predictions = ["the cat sat on the mat today", "there is a dog in the old house", "he came home late"]
    references = ["the cat sat on a mat today", "there is a dog in the house now", "he came home very late at night"]
    assert bleu(predictions, references) == pytest.approx(bleu_by_hand(predictions, references), rel=1e-9)
    assert bleu(references, references) == pytest.approx(100)


def test_rouge_is_that_of_its_paper() -> None:
    """Lin 2004, section 3.1: "police killed the gunman"; ROUGE-2 cannot tell the candidates apart, ROUGE-L can."""
    pytest.importorskip("rouge_score")
    reference = "police killed the gunman"
    first, second = "Police kill the gunman", "the gunman kill police"
    assert rouge([first], [reference]) == pytest.approx({"rouge1": 3 / 4, "rouge2": 1 / 3, "rougeL": 3 / 4})
    assert rouge([second], [reference]) == pytest.approx({"rouge1": 3 / 4, "rouge2": 1 / 3, "rougeL": 2 / 4})
    assert rouge([first, second], [reference] * 2)["rougeL"] == pytest.approx(5 / 8)
    # Shorter than its reference: precision 1, recall 1/2.
    assert rouge(["police killed"], [reference])["rouge1"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("module", ["sacrebleu", "rouge_score.rouge_scorer"])
def test_an_absent_library_is_said(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=rf"{module} cannot be imported.*compress-toolkit\[text\]"):
        (bleu if module == "sacrebleu" else rouge)(["a"], ["a"])


@pytest.mark.parametrize("metric", [exact_match, final_answer_match, bleu, rouge])
def test_every_prediction_needs_its_reference(metric: Any) -> None:
    with pytest.raises(ValueError, match="at least one; got 2 and 1"):
        metric(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="at least one; got 0 and 0"):
        metric([], [])


def test_perplexity_is_the_number_of_words_that_are_equally_likely() -> None:
    assert perplexity(50 * float(np.log(1000)), 50) == pytest.approx(1000)
    assert perplexity(0.0, 3) == 1
    assert perplexity(1e6, 10) == float("inf")
    with pytest.raises(ValueError, match="at least one token, got 0"):
        perplexity(0.0, 0)
