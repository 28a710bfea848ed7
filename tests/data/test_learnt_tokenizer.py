from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from compress.data.learnt_tokenizer import byte_pairs, characters, learnt
from compress.data.text_settings import SPECIAL_TOKENS, Bpe, TokenizerSettings

TEXTS = ["low lower lowest", "new newer newest\n", "wide wider widest é"] * 5


def settings(**values: object) -> TokenizerSettings:
    return TokenizerSettings.model_validate(values)


def test_each_character_is_a_token_in_the_order_of_code_points() -> None:
    tokenizer = characters(TEXTS)
    known = sorted(set("".join(TEXTS)))
    assert tokenizer.get_vocab() == {token: number for number, token in enumerate([*SPECIAL_TOKENS, *known])}
    assert tokenizer.encode("newé\n?").tokens == ["n", "e", "w", "é", "\n", "[UNK]"]
    assert tokenizer.decode(tokenizer.encode(TEXTS[1]).ids) == TEXTS[1]


def merges_of(texts: list[str], count: int) -> list[tuple[str, str]]:
    """The first merges by the algorithm of Sennrich et al. 2016 (section 3.2), over words and the space before."""
    words = [tuple(("Ġ" if number else "") + word) for text in texts for number, word in enumerate(text.split())]
    found = []
    for _ in range(count):
        pairs: dict[tuple[str, str], int] = {}
        for word in words:
            for pair in pairwise(word):
                pairs[pair] = pairs.get(pair, 0) + 1
        most = max(pairs.values())
        [best] = [pair for pair, times in pairs.items() if times == most]
        found.append(best)
        merged = []
        for word in words:
            parts: list[str] = []
            for part in word:
                if parts and (parts[-1], part) == best:
                    parts[-1] += part
                else:
                    parts.append(part)
            merged.append(tuple(parts))
        words = merged
    return found


def test_the_most_frequent_pairs_are_merged_first() -> None:
    texts = ["aab aab aab aac xyz xyz", "aab xyz xyz xyz", "aab aab qr"]
    tokenizer = byte_pairs(Bpe(size=261 + 2), texts)
    expected = ["".join(pair) for pair in merges_of(texts, 2)]
    vocabulary = tokenizer.get_vocab()
    assert tokenizer.get_vocab_size() == 263
    assert [token for token, number in sorted(vocabulary.items(), key=lambda item: item[1])][261:] == expected


def test_any_text_is_made_of_bytes() -> None:
    tokenizer = byte_pairs(Bpe(size=300), TEXTS)
    for text in ("völlig anders\t🙂", " two  spaces ", "\n\n"):
        ids = tokenizer.encode(text).ids
        assert 1 not in ids  # [UNK]
        assert tokenizer.decode(ids) == text


def test_texts_stand_between_begin_and_end_and_pairs_are_told_apart(cache: Path) -> None:
    tokenizer = learnt(settings(characters={}), TEXTS)
    assert tokenizer.encode("lo").tokens == ["[CLS]", "l", "o", "[SEP]"]
    pair = tokenizer.encode("l", "o")
    assert (pair.tokens, pair.type_ids) == (["[CLS]", "l", "[SEP]", "o", "[SEP]"], [0, 0, 0, 1, 1])


@pytest.mark.parametrize("kind", [{"characters": {}}, {"bpe": {"size": 280}}])
def test_what_was_learnt_is_kept_by_the_content_it_was_learnt_from(kind: dict[str, object], cache: Path) -> None:
    first = learnt(settings(**kind), iter(TEXTS)).to_str()
    [file] = cache.glob("tokenizers/*")
    assert learnt(settings(**kind), TEXTS).to_str() == first
    before = file.read_bytes()
    assert learnt(settings(**kind), [*TEXTS, "ox" * 50]).to_str() != first
    assert len(list(cache.glob("tokenizers/*"))) == 2
    file.write_text("no tokenizer")
    assert learnt(settings(**kind), TEXTS).to_str() == first
    assert file.read_bytes() == before


def test_texts_are_not_mistaken_for_each_other_at_their_ends(cache: Path) -> None:
    learnt(settings(characters={}), ["ab", "c"])
    learnt(settings(characters={}), ["a", "bc"])
    assert len(list(cache.glob("tokenizers/*"))) == 2


def test_another_process_learns_the_same(tmp_path: Path) -> None:
    texts = [f"word{number % 37} other{number % 11} thing{number % 5}s" for number in range(500)]
    here = byte_pairs(Bpe(size=320), texts).to_str()
    program = (
        "from compress.data.learnt_tokenizer import byte_pairs; from compress.data.text_settings import Bpe; "
        f"print(byte_pairs(Bpe(size=320), {texts!r}).to_str())"
    )
    root = Path(__file__).resolve().parents[2]
    for threads in ("1", "3"):
        environment = {"PYTHONPATH": str(root), "RAYON_NUM_THREADS": threads}
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment, cwd=tmp_path
        )
        assert done.stdout.strip() == here.strip()
