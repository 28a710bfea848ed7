from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compress.data.learnt_tokenizer import byte_pairs
from compress.data.settings import read_data_settings
from compress.data.text import TextEncoder
from compress.data.text_settings import Bpe, TextSettings
from compress.data.tokenizer import open_encoder
from compress.errors import UsageError
from tests.data.text_helpers import FOLDER, TOKENS, real, vocabulary

TEXTS = [
    "It's a charming, often affecting journey.",
    "  Café naïve — 東京 tower\tüber\u0000ﬁne ",
    "unbelievably-long" * 9,
    "",
    "[MASK] and [SEP] are special; 3.14 isn't",
]


def encoder(tokenizer: Any, pair: bool = False, **more: Any) -> TextEncoder:
    settings = TextSettings.model_validate({"tokenizer": tokenizer, "max_length": 20, **more})
    return open_encoder(settings, ["some words to learn from"], pair=pair)


@real
@pytest.mark.parametrize("lowercase", [True, False])
def test_a_vocabulary_is_read_as_transformers_reads_it(lowercase: bool) -> None:
    transformers = pytest.importorskip("transformers")
    file = FOLDER / "bert_vocab" / "vocab.txt"
    theirs = transformers.BertTokenizerFast(vocab_file=str(file), do_lower_case=lowercase)
    ours = encoder({"vocabulary": str(file), "lowercase": lowercase}, pair=True)
    ids, _ = ours.encode(TEXTS)
    expected = theirs(TEXTS, max_length=20, truncation=True)
    assert [ids[row].tolist() for row in range(len(TEXTS))] == expected["input_ids"]
    pairs = list(zip(TEXTS, reversed(TEXTS), strict=True))
    ids, types = ours.encode(pairs)
    expected = theirs([list(pair) for pair in pairs], max_length=20, truncation="longest_first")
    assert types is not None
    assert [ids[row].tolist() for row in range(len(TEXTS))] == expected["input_ids"]
    assert [types[row].tolist() for row in range(len(TEXTS))] == expected["token_type_ids"]
    assert (ours.pad_id, ours.mask_id) == (theirs.pad_token_id, theirs.mask_token_id)
    assert ours.vocabulary_size == len(theirs)


def saved(folder: Path) -> Path:
    """A tokenizer of GPT-2's kind in a file, which is to cut and to pad."""
    tokenizer = byte_pairs(Bpe(size=270), ["low lower lowest newest"])
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=9)
    file = folder / "tokenizer.json"
    tokenizer.save(str(file))
    return file


def test_a_tokenizer_json_alone_or_in_a_folder(tmp_path: Path) -> None:
    file = saved(tmp_path)
    for where in (file, tmp_path):
        found = encoder(str(where))
        assert found.encode_plain(["lowest"]) == [found.tokenizer.encode("lowest").ids]
        assert len(found.encode_plain(["lowest newest"])[0]) > 2  # not cut as the file says
        names = [found.tokenizer.id_to_token(number) for number in (found.eos_id, found.mask_id, found.pad_id)]
        assert names == ["<|endoftext|>", "[MASK]", "[PAD]"]
        assert '"truncation":null' in found.json.replace(" ", "")


def test_a_folder_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    vocabulary(tmp_path)
    theirs = transformers.BertTokenizerFast(vocab_file=str(tmp_path / "vocab.txt"))
    theirs.save_pretrained(tmp_path / "bert")
    text = "the cats sat on a dog ."
    found = encoder(str(tmp_path / "bert"))
    assert found.encode([text])[0][0].tolist() == theirs(text)["input_ids"]
    assert (found.pad_id, found.mask_id, found.cls_id, found.sep_id, found.bos_id) == (0, 4, 2, 3, 2)
    gpt = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(saved(tmp_path)), eos_token="<|endoftext|>", bos_token="<|endoftext|>", pad_token=None
    )
    gpt.save_pretrained(tmp_path / "gpt")
    found = encoder(str(tmp_path / "gpt"))
    assert found.pad_id == found.eos_id == found.bos_id == 270  # what ends a text pads it too
    assert found.mask_id is None
    assert found.beginning == []


def test_what_opens_is_what_was_written(tmp_path: Path) -> None:
    vocabulary(tmp_path)
    found = encoder({"vocabulary": str(tmp_path / "vocab.txt")})
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "tokenizer.json").write_text(found.json, encoding="utf-8")
    again = encoder(str(tmp_path / "again"))
    assert again.encode(TEXTS)[0].values.tolist() == found.encode(TEXTS)[0].values.tolist()
    assert again.json == found.json
    assert (again.pad_id, again.mask_id, again.eos_id) == (found.pad_id, found.mask_id, found.eos_id)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [(["the", "cat"], r"no vocabulary of WordPiece: it has no \[PAD\]"), (TOKENS[:3], r"it has no \[SEP\]")],
)
def test_what_is_no_vocabulary_is_refused(tokens: list[str], message: str, tmp_path: Path) -> None:
    file = vocabulary(tmp_path, tokens)
    with pytest.raises(UsageError, match=message):
        encoder({"vocabulary": str(file)})


def test_broken_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UsageError, match=r"tokenizer\.json holds no tokenizer"):
        encoder(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UsageError, match="gives no tokenizer"):
        encoder(str(tmp_path))


def test_a_name_on_the_hub_is_loaded_at_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = pytest.importorskip("transformers")
    vocabulary(tmp_path)
    theirs = transformers.BertTokenizerFast(vocab_file=str(tmp_path / "vocab.txt"))
    asked: list[Any] = []

    def from_pretrained(name: str, **more: Any) -> Any:
        asked.append((name, more))
        return theirs

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", from_pretrained)
    commit = "0123456789" * 4
    found = encoder({"name": "some/model", "revision": commit})
    assert asked == [("some/model", {"use_fast": True, "revision": commit})]
    assert found.mask_id == 4
    source = {"table": {"path": str(saved(tmp_path)), "input": "a", "target": "b"}}
    text = {"tokenizer": {"name": "some/model", "revision": commit}}
    assert read_data_settings({"source": source, "text": text}).fingerprint()


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_a_token_may_hold_what_else_ends_lines(end: str, last: bool, tmp_path: Path) -> None:
    tokens = [*TOKENS, "\u2028", "\x85", "after"]
    (tmp_path / "vocab.txt").write_bytes((end.join(tokens) + (end if last else "")).encode())
    found = encoder({"vocabulary": str(tmp_path / "vocab.txt")}).tokenizer.get_vocab()
    assert sorted(found, key=found.__getitem__) == tokens
