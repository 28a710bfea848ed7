"""Texts as a user writes them: which tokenizer, how long, what the targets are. Light at import."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, GetJsonSchemaHandler, ValidationInfo, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from compress.data.digests import file_digest, text_digest
from compress.data.locations import find_path
from compress.data.source_settings import FoundPath
from compress.settings import Settings

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_TOKENIZER_ENDINGS = {".json", ".txt", ".model", ".tiktoken", ".jinja"}
_ONE_OF_THESE = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
_KINDS = ("vocabulary", "path", "name", "characters", "bpe")
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""What learnt tokenizers begin with."""
BYTES = 256


class Characters(Settings):
    """Every character of the training texts is a token of its own; others are unknown."""


class Bpe(Settings):
    """Pairs of bytes that are frequent in the training texts become tokens (Sennrich et al. 2016, section 3.2)."""

    size: int = Field(default=4096, ge=BYTES + len(SPECIAL_TOKENS))
    """Tokens in the vocabulary: 256 bytes, 5 special tokens, and as many merged pairs as make up the rest."""


class TokenizerSettings(Settings):
    """Exactly one kind of tokenizer; plain text is a folder, a `tokenizer.json`, or a name on the Hugging Face hub."""

    vocabulary: FoundPath | None = None
    """BERT's WordPiece with the tokens of this file (`vocab.txt`), one a line."""
    lowercase: bool = True
    """With `vocabulary`: texts are made lower-case and lose their accents first, as for uncased models."""
    path: FoundPath | None = None
    """A `tokenizer.json`, or the folder of a model of `transformers`."""
    name: str | None = None
    """A model on the hub, such as `google-bert/bert-base-uncased`."""
    revision: str = "main"
    """With `name`: branch, tag or commit. It is resolved to a commit on first use and kept."""
    characters: Characters | None = None
    """Learnt from the training texts: a token for each character."""
    bpe: Bpe | None = None
    """Learnt from the training texts: byte-pair encoding."""

    @model_validator(mode="before")
    @classmethod
    def _plain_text(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, str | Path):
            return _named(str(value), (info.context or {}).get("base"))
        if isinstance(value, dict):
            return {key: {} if item is None and key in ("characters", "bpe") and len(value) == 1 else item
                    for key, item in value.items()}  # fmt: skip
        return value

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [kind for kind in _KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(
                f"give exactly one tokenizer, got {', '.join(given) or 'none'}; known: {', '.join(_KINDS)}"
            )
        if not self.lowercase and self.vocabulary is None:
            raise ValueError("lowercase is for `vocabulary`; other tokenizers know it themselves")
        if self.revision != "main" and self.name is None:
            raise ValueError("revision is for `name`")
        if self.path is not None:
            _require_tokenizer(self.path)
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        bare = [{"type": "string"}, {"enum": ["characters", "bpe"]}]
        return {"anyOf": [*bare, handler(core)], "title": cls.__name__, "description": cls.__doc__ or ""}

    def commit(self) -> str:
        """The commit that `revision` means."""
        from compress.data.sources.hub_revision import resolve

        return resolve(str(self.name), self.revision, "models")

    def identity(self) -> dict[str, Any]:
        """What tells the tokenizer from any other: digests of files, never paths."""
        if self.vocabulary is not None:
            return {"vocabulary": file_digest(self.vocabulary), "lowercase": self.lowercase}
        if self.path is not None:
            return {"content": _content(self.path)}
        if self.name is not None:
            return {"name": self.name, "commit": self.commit()}
        return self.model_dump(mode="json", include={"characters", "bpe"}, exclude_none=True)


class TextSettings(Settings):
    """What is done with inputs that are texts, and what their targets are."""

    tokenizer: TokenizerSettings
    """A folder, `tokenizer.json` or hub name; `{vocabulary: vocab.txt}`; learnt: `characters` or `{bpe: {size: N}}`."""
    max_length: int = Field(default=128, ge=3)
    """Tokens; longer texts are cut. The length of the blocks that a `plain_text` is cut into."""
    targets: Literal["classes", "text"] = "classes"
    """`classes`: numbers, class names or lists, as elsewhere; `text`: what a model must say."""
    target_max_length: int | None = Field(default=None, ge=2)
    """With `targets: text`: tokens that a decoder says; by default `max_length`."""
    rationale: str | None = None
    """With `targets: text`: a column with a further text to learn, the chain of thought behind the target."""
    prompt: str | None = None
    """With `targets: text`: the words around the input, `{input}` (and `{second}` where the input is two columns)."""
    response: str | None = None
    """With `targets: text`: the words around the target, `{target}`."""

    @model_validator(mode="after")
    def _fits_targets(self) -> Self:
        for key in ("target_max_length", "rationale", "prompt", "response"):
            if self.targets != "text" and getattr(self, key) is not None:
                raise ValueError(f"{key} is for `targets: text`")
        for key, place in (("prompt", "{input}"), ("response", "{target}")):
            words = getattr(self, key)
            if words is not None and place not in words:
                raise ValueError(f"{key} must say where the text stands: {place}")
        return self

    def identity(self) -> dict[str, Any]:
        """Every setting, with the tokenizer's content in the place of its files."""
        return {**self.model_dump(mode="json", exclude={"tokenizer"}), "tokenizer": self.tokenizer.identity()}


def _named(text: str, base: Path | None) -> dict[str, Any]:
    """Which kind of tokenizer a bare name means."""
    if text in ("characters", "bpe"):
        return {text: {}}
    try:
        return {"path": str(find_path(text, base))}
    except ValueError:
        if Path(text).suffix in (".json", ".txt") or not _HUB_NAME.fullmatch(text):
            raise
    return {"name": text}


def _require_tokenizer(path: Path) -> None:
    if path.is_dir():
        if not any((path / name).is_file() for name in _ONE_OF_THESE):
            raise ValueError(f"the folder {path} holds no tokenizer: none of {', '.join(_ONE_OF_THESE)}")
    elif path.suffix == ".txt":
        raise ValueError(f"a list of tokens is named `tokenizer: {{vocabulary: {path.name}}}`")
    elif path.suffix != ".json":
        raise ValueError(f"{path} is no tokenizer: name a tokenizer.json, or a folder that holds one")


def _content(path: Path) -> str:
    """The digest of a file, or of the files right in a folder that may say what a tokenizer does."""
    if path.is_file():
        return file_digest(path)
    files = sorted(file for file in path.iterdir() if file.suffix in _TOKENIZER_ENDINGS and file.is_file())
    return text_digest([[file.name, file_digest(file)] for file in files if not file.name.endswith(".index.json")])
