"""What is said of answers to text: classes, label sets, values, and text itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import exp
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.errors import UsageError
from compress.models.optional import import_or_explain

Array = npt.NDArray[Any]

_MARK = re.compile(r"####|\banswer\s*:", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w.])-?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:e[+-]?\d+)?", re.IGNORECASE)
_THOUSANDS_COMMA = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


def classification_metrics(logits: Array, classes: Array) -> dict[str, float]:
    """`accuracy`, `f1` and `matthews` of the classes with the largest logits; the numbers that GLUE asks for.

    `f1` is that of class 1 where there are two classes, and otherwise the mean over classes that are found or right at
    least once (macro). Where nothing is put into class 1 and nothing belongs there, f1 is 0. `matthews` is the
    correlation of found with right classes (Matthews 1975; Gorodkin 2004 for more than two).

    Args:
        logits: (examples, classes).
        classes: (examples,), the right class numbers.

    Raises:
        UsageError: the shapes are others.
    """
    from sklearn.metrics import f1_score, matthews_corrcoef

    if logits.ndim != 2 or classes.shape != logits.shape[:1]:
        raise UsageError(f"needs one logit a class, {len(classes)} x classes; the network gives {logits.shape}")
    found = logits.argmax(axis=1)
    average = "binary" if logits.shape[1] == 2 else "macro"
    # The correlation with a constant is 0 / 0. A network that always says the same tells no classes apart: 0.
    constant = np.ptp(found) == 0 or np.ptp(classes) == 0
    return {
        "accuracy": float(np.mean(found == classes)),
        "f1": float(f1_score(classes, found, average=average, zero_division=0)),
        "matthews": 0.0 if constant else float(matthews_corrcoef(classes, found)),
    }


def multilabel_metrics(logits: Array, targets: Array) -> dict[str, float]:
    """`f1_micro`, `f1_macro` and `accuracy` of label sets; a label is given where its logit is over 0.

    `f1_micro` is over all decisions together, `f1_macro` the mean over labels, `accuracy` the share of examples whose
    whole set is right. A label that is neither given nor right anywhere has an f1 of 0.

    Args:
        logits: (examples, labels).
        targets: (examples, labels), 1 where the label is right, else 0.

    Raises:
        UsageError: the shapes are others.
    """
    from sklearn.metrics import f1_score

    if logits.ndim != 2 or logits.shape != targets.shape:
        raise UsageError(f"needs one logit a label, {targets.shape}; the network gives {logits.shape}")
    given, right = (logits > 0).astype(np.int64), (targets > 0).astype(np.int64)
    # As one long list for the micro mean: with a single label, scikit-learn would count its absence as a class too.
    return {
        "f1_micro": float(f1_score(right.ravel(), given.ravel(), zero_division=0)),
        "f1_macro": float(np.mean([f1_score(r, g, zero_division=0) for r, g in zip(right.T, given.T, strict=True)])),
        "accuracy": float(np.mean((given == right).all(axis=1))),
    }


def regression_text_metrics(values: Array, targets: Array) -> dict[str, float]:
    """`pearson` and `spearman` correlation, and `mse`, the mean squared difference in the targets' unit squared.

    Args:
        values: (examples,) or (examples, 1).
        targets: (examples,) or (examples, 1).

    Raises:
        UsageError: the numbers of values differ, or there are none.
    """
    from scipy.stats import pearsonr, spearmanr

    if values.size != targets.size or values.size != len(targets) or not values.size:
        raise UsageError(f"needs one value an example, {targets.shape}; the network gives {values.shape}")
    found, wanted = values.reshape(-1).astype(np.float64), targets.reshape(-1).astype(np.float64)
    # The correlation with a constant is 0 / 0. A network that always says the same knows nothing of the order: 0.
    constant = np.ptp(found) == 0 or np.ptp(wanted) == 0
    return {
        "pearson": 0.0 if constant else float(pearsonr(found, wanted).statistic),
        "spearman": 0.0 if constant else float(spearmanr(found, wanted).statistic),
        "mse": float(np.mean((found - wanted) ** 2)),
    }


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


def perplexity(nll_sum: float, tokens: int) -> float:
    """How many words are equally likely at each place: e to the power of the mean negative log-likelihood of a token.

    The vocabulary's size for a model that knows nothing, 1 for one that knows all.

    Args:
        nll_sum: negative log-likelihoods of all tokens, summed, in nats.
        tokens: how many those are.

    Raises:
        ValueError: there are no tokens.
    """
    if tokens < 1:
        raise ValueError(f"needs at least one token, got {tokens}")
    try:
        return exp(nll_sum / tokens)
    except OverflowError:  # Over 709 nats a token: more than a float holds.
        return float("inf")


def _normalized(text: str) -> str:
    bare = " ".join(_THOUSANDS_COMMA.sub("", text).lower().split())
    return re.sub(r"\$\s?(?=[\d.-])", "", bare).rstrip(". ")


def _require_pairs(predictions: Sequence[str], references: Sequence[str]) -> None:
    if len(predictions) != len(references) or not predictions:
        raise ValueError(
            f"needs one prediction for each reference, and at least one; got {len(predictions)} and {len(references)}"
        )
