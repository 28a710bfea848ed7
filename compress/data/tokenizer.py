"""The tokenizer that settings name: opened from files, from a folder or the hub, or learnt from the training texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from compress.data.learnt_tokenizer import learnt
from compress.data.text import TextEncoder
from compress.data.text_settings import SPECIAL_TOKENS, TextSettings, TokenizerSettings
from compress.errors import UsageError
from compress.optional import import_or_explain

_WORDS = {
    "pad_id": ("[PAD]", "<pad>", "<|pad|>", "<|padding|>"),
    "mask_id": ("[MASK]", "<mask>"),
    "cls_id": ("[CLS]", "<cls>", "<s>"),
    "sep_id": ("[SEP]", "<sep>", "</s>"),
    "bos_id": ("[BOS]", "<s>", "<bos>", "<|startoftext|>", "<|begin_of_text|>", "<|endoftext|>"),
    "eos_id": ("[EOS]", "</s>", "<eos>", "<|endoftext|>", "<|end_of_text|>"),
}
"""What special tokens are called where only a `tokenizer.json` is given."""


def open_encoder(settings: TextSettings, texts: Iterable[str], *, pair: bool) -> TextEncoder:
    """How `settings` turn texts into token ids.

    Args:
        settings: the tokenizer and its limits.
        texts: of the training split; read only where the tokenizer is learnt.
        pair: whether each example is two texts.

    Raises:
        UsageError: a file or folder holds no tokenizer, or a package is missing.
    """
    tokenizer, special = _opened(settings.tokenizer, texts)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return TextEncoder(
        tokenizer,
        settings.max_length,
        **_completed(special),
        target_max_length=settings.target_max_length,
        pair=pair,
        answers=settings.targets == "text",
        prompt=settings.prompt,
        response=settings.response,
    )


def _opened(settings: TokenizerSettings, texts: Iterable[str]) -> tuple[Any, dict[str, int | None]]:
    """The tokenizer, and the ids of its special tokens under the names of `TextEncoder`'s fields."""
    if settings.vocabulary is not None:
        tokenizer = _word_pieces(settings.vocabulary, settings.lowercase)
    elif settings.name is not None:
        return _from_transformers(settings.name, settings.commit())
    elif settings.path is None:
        tokenizer = learnt(settings, texts)
    elif settings.path.is_dir() and not _only_tokenizer_json(settings.path):
        return _from_transformers(str(settings.path), None)
    else:
        tokenizer = _from_json(settings.path / "tokenizer.json" if settings.path.is_dir() else settings.path)
    return tokenizer, _by_words(tokenizer.get_vocab(with_added_tokens=True))


def _word_pieces(file: Path, lowercase: bool) -> Any:
    """BERT's WordPiece (Devlin et al. 2019) over the tokens in a file, set up as `transformers.BertTokenizerFast`."""
    library = import_or_explain("tokenizers", "text")
    try:
        # A token may hold what `splitlines` takes for the end of a line too, such as U+2028.
        lines = file.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"data: text.tokenizer: cannot read {file}: {error}") from error
    vocabulary = {token: number for number, token in enumerate(lines)}
    if missing := [token for token in SPECIAL_TOKENS[:4] if token not in vocabulary]:
        raise UsageError(f"data: text.tokenizer: {file} is no vocabulary of WordPiece: it has no {missing[0]}")
    tokenizer = library.Tokenizer(library.models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = library.normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = library.decoders.WordPiece()
    tokenizer.add_special_tokens([token for token in SPECIAL_TOKENS if token in vocabulary])
    ends = [(token, vocabulary[token]) for token in ("[SEP]", "[CLS]")]
    tokenizer.post_processor = library.processors.BertProcessing(*ends)
    return tokenizer


def _from_json(file: Path) -> Any:
    library = import_or_explain("tokenizers", "text")
    try:
        return library.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises plain `Exception`
        raise UsageError(f"data: text.tokenizer: {file} holds no tokenizer: {error}") from error


def _only_tokenizer_json(folder: Path) -> bool:
    """Whether a folder has the file alone, without what `transformers` needs beside it."""
    beside = ("tokenizer_config.json", "config.json")
    return (folder / "tokenizer.json").is_file() and not any((folder / name).is_file() for name in beside)


def _from_transformers(where: str, commit: str | None) -> tuple[Any, dict[str, int | None]]:
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise UsageError(
            "tokenizers by folder or hub name need the package `transformers`: pip install 'compress-toolkit[text]'"
        ) from error
    try:
        found = AutoTokenizer.from_pretrained(where, use_fast=True, **({"revision": commit} if commit else {}))
    except Exception as error:  # of hub, file system, and the many tokenizers' own code
        what = f"{type(error).__name__}: {error}"
        raise UsageError(f"data: text.tokenizer: {where} gives no tokenizer: {what}") from error
    if not found.is_fast:
        raise UsageError(f"data: text.tokenizer: {where} has no fast tokenizer, which a `tokenizer.json` would be")
    tokenizer = type(found.backend_tokenizer).from_str(found.backend_tokenizer.to_str())
    return tokenizer, {f"{name}_id": getattr(found, f"{name}_token_id") for name in
                       ("pad", "mask", "cls", "sep", "bos", "eos")}  # fmt: skip


def _by_words(vocabulary: Mapping[str, int]) -> dict[str, int | None]:
    """Special tokens by what they are usually called."""
    return {
        name: next((vocabulary[word] for word in words if word in vocabulary), None) for name, words in _WORDS.items()
    }


def _completed(special: Mapping[str, int | None]) -> dict[str, Any]:
    """`special` with what can stand for begin, end and padding where the tokenizer has no such token."""
    ids = dict(special)
    if ids["bos_id"] is None:
        ids["bos_id"] = ids["cls_id"]
    if ids["eos_id"] is None:
        ids["eos_id"] = ids["sep_id"]
    if ids["pad_id"] is None:
        ids["pad_id"] = ids["eos_id"] or 0
    return cast(dict[str, Any], ids)
