from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest

from compress.errors import UsageError
from compress.tasks.text_metrics import (
    bleu,
    exact_match,
    final_answer,
    final_answer_match,
    rouge,
)


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
