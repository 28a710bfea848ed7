"""How near written texts come to those that were wanted."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from compress.optional import import_or_explain

_MARK = re.compile(r"####|\banswer\s*:", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w.])-?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:e[+-]?\d+)?", re.IGNORECASE)
_THOUSANDS_COMMA = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


def exact_match(predictions: Sequence[str], references: Sequence[str]) -> float:
    """Share of predictions that are their reference, but for spaces around it.

    Raises:
        ValueError: there is not one prediction for each reference, or none at all.
    """
    _require_pairs(predictions, references)
    return float(np.mean([p.strip() == r.strip() for p, r in zip(predictions, references, strict=True)]))


def final_answer(text: str) -> str:
    """What a worked solution comes to: a normalized string, to be compared with another.

    The first line with text behind the last "####" (as in GSM8K; Cobbe et al. 2021) or "answer:"; without such a mark
    the last number; without a number all of the text. Normalized: lower case, single spaces, no full stop at the end,
    no commas between thousands, no dollar sign before a number.
    """
    marks = list(_MARK.finditer(text))
    marked = text[marks[-1].end() :].strip() if marks else ""
    if marked:
        return _normalized(marked.splitlines()[0])
    numbers = _NUMBER.findall(text)
    return _normalized(numbers[-1] if numbers else text)


def final_answer_match(predictions: Sequence[str], references: Sequence[str]) -> float:
    """Share of predictions that come to the same `final_answer` as their reference.

    Raises:
        ValueError: there is not one prediction for each reference, or none at all.
    """
    _require_pairs(predictions, references)
    return float(np.mean([final_answer(p) == final_answer(r) for p, r in zip(predictions, references, strict=True)]))


def bleu(predictions: Sequence[str], references: Sequence[str]) -> float:
    """BLEU of the corpus, 0 to 100, by sacrebleu with its defaults (Papineni et al. 2002; Post 2018).

    Up to 4-grams, "13a" tokens, case counts, one reference for each prediction.

    Raises:
        ValueError: there is not one prediction for each reference, or none at all.
        UsageError: sacrebleu is not installed.
    """
    _require_pairs(predictions, references)
    library = import_or_explain("sacrebleu", "text")
    return float(library.corpus_bleu(list(predictions), [list(references)]).score)


def rouge(predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """`rouge1`, `rouge2` and `rougeL`: means over examples of F-measures, 0 to 1, by rouge-score (Lin 2004).

    Common words, pairs of words, and the longest common subsequence; lower case, words are not stemmed.

    Raises:
        ValueError: there is not one prediction for each reference, or none at all.
        UsageError: rouge-score is not installed.
    """
    _require_pairs(predictions, references)
    library = import_or_explain("rouge_score.rouge_scorer", "text")
    kinds = ["rouge1", "rouge2", "rougeL"]
    scorer = library.RougeScorer(kinds, use_stemmer=False)
    scores = [scorer.score(reference, text) for text, reference in zip(predictions, references, strict=True)]
    return {kind: float(np.mean([score[kind].fmeasure for score in scores])) for kind in kinds}


def _normalized(text: str) -> str:
    bare = " ".join(_THOUSANDS_COMMA.sub("", text).lower().split())
    return re.sub(r"\$\s?(?=[\d.-])", "", bare).rstrip(". ")


def _require_pairs(predictions: Sequence[str], references: Sequence[str]) -> None:
    if len(predictions) != len(references) or not predictions:
        raise ValueError(
            f"needs one prediction for each reference, and at least one; got {len(predictions)} and {len(references)}"
        )
