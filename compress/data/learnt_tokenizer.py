"""Tokenizers learnt from texts: the same texts give the same tokens, on every machine. Kept in the cache folder."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable
from itertools import chain
from typing import Any

from compress.data.digests import text_digest
from compress.data.drafts import write_whole
from compress.data.locations import cache_folder
from compress.data.text_settings import SPECIAL_TOKENS, Bpe, TokenizerSettings
from compress.optional import import_or_explain

FORMAT = 1
"""Raised when the same texts would give another tokenizer."""


def learnt(settings: TokenizerSettings, texts: Iterable[str]) -> Any:
    """The `tokenizers.Tokenizer` learnt from `texts`, or the one that was learnt from the same texts before.

    It puts [CLS] before and [SEP] after a text, as BERT's does, and [SEP] between the texts of a pair.
    """
    library = import_or_explain("tokenizers", "text")
    kept = list(texts)
    version = ".".join(library.__version__.split(".")[:2])
    target = cache_folder() / "tokenizers" / f"{_key(settings, kept, version)}.json"
    with contextlib.suppress(Exception):  # the library raises plain `Exception` where there is no file, or a broken one
        return library.Tokenizer.from_file(str(target))
    tokenizer = byte_pairs(settings.bpe, kept) if settings.bpe is not None else characters(kept)
    tokenizer.post_processor = _ends(tokenizer)
    with contextlib.suppress(OSError):  # a cache folder that cannot be written is no fault
        write_whole(target, tokenizer.to_str())
    return tokenizer


def characters(texts: Iterable[str]) -> Any:
    """A token for each character of `texts`, in the order of their code points; [UNK] for any other."""
    library = import_or_explain("tokenizers", "text")
    known = sorted(set(chain.from_iterable(texts)))
    vocabulary = {token: number for number, token in enumerate([*SPECIAL_TOKENS, *known])}
    # Byte-pair encoding without pairs: the fastest of the library's models that leaves characters alone.
    tokenizer = library.Tokenizer(library.models.BPE(vocabulary, [], unk_token="[UNK]"))
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.decoder = library.decoders.Fuse()
    return tokenizer


def byte_pairs(settings: Bpe, texts: Iterable[str]) -> Any:
    """Byte-level byte-pair encoding (Radford et al. 2019, section 2.2): any text is made of known tokens."""
    library = import_or_explain("tokenizers", "text")
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=settings.size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(library.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _ends(tokenizer: Any) -> Any:
    library = import_or_explain("tokenizers", "text")
    return library.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )


def _key(settings: TokenizerSettings, texts: list[str], version: str) -> str:
    digest = hashlib.sha256(text_digest([FORMAT, version, settings.identity()]).encode())
    for text in texts:
        encoded = text.encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()
