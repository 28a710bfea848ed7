"""`generate`: a teacher writes an answer to each prompt of a split."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from compress.bundle import Bundle, Kind
from compress.data.digests import file_digest
from compress.data.source_settings import FoundPath
from compress.generation.settings import Price
from compress.stage import Context, Metrics, Stage

_OF_WRITING = {
    "decode", "beams", "temperature", "top_p", "samples", "max_new_tokens", "rationale", "prompt", "rationale_prompt",
}  # fmt: skip
"""Settings that decide what is written."""
_OF_SERVERS = {
    "served_model", "key_variable", "retries", "timeout_seconds", "max_cost", "price", "length_key",
}  # fmt: skip


class Generate(Stage):
    """A teacher writes answers: a model of the pipeline, a server that speaks OpenAI's protocol, or a finished file."""

    verb: ClassVar[str] = "generate"
    gives: ClassVar[Kind | None] = Kind.RESPONSES
    resumes: ClassVar[bool] = True

    model: str | None = None
    """The teacher: a name from `models:` or a stage; unset: the model before this stage, unless a server or file is
    named."""
    from_file: FoundPath | None = None
    """JSON Lines written before, `{"id": 0, "response": "..."}`: the `id` is the example's number in the
    split; without it `prompt` must be the example's."""
    split: Literal["train", "validation", "test"] = "train"
    """Whose prompts are answered. What `on:` learns are answers to `train`."""
    score: bool = False
    """Whether the answers are held against the data's own target texts: exact match, final answer, BLEU, ROUGE. If it
    is set after the texts were written, they are written (and paid for) again; a second `generate` with the
    `responses.jsonl` of the first as its `from_file` judges them as they are."""
    address: str | None = Field(None, pattern=r"^https?://\S+$")
    """Of a server with chat completions, such as `https://api.openai.com/v1` or `http://localhost:8000/v1`."""
    served_model: str | None = None
    """What the server calls the model."""
    key_variable: str | None = Field(None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """The environment variable with the server's key; unset: the server wants none."""
    prompt: str | None = None
    """Words around the data's prompt, `{text}`, that only the teacher reads: instructions, examples."""
    decode: Literal["greedy", "beam", "sample"] = "greedy"
    """`greedy`: the likeliest token each time; `beam`: a search for the likeliest text; `sample`: at random."""
    beams: int = Field(4, ge=2)
    """Of `decode: beam`."""
    temperature: float = Field(0.7, gt=0)
    """Of `decode: sample`."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Of `decode: sample`: only the likeliest tokens that have this much probability together."""
    samples: int = Field(1, ge=1)
    """Texts for each prompt, with `decode: sample`."""
    max_new_tokens: int = Field(64, ge=1)
    """Longest text, in tokens."""
    batch_size: int = Field(16, ge=1)
    """Prompts at a time: in one batch of a model, in concurrent requests to a server."""
    rationale: bool = False
    """Whether the teacher is also asked why, by `rationale_prompt`."""
    rationale_prompt: str = "explain: {text}"
    """The words that ask why: `{text}` is the data's prompt, `{response}` the teacher's answer."""
    retries: int = Field(5, ge=0)
    """Of a request that the network or a busy server let fail, with growing pauses."""
    timeout_seconds: float = Field(120.0, gt=0)
    """Longest wait for one answer of a server."""
    max_cost: float | None = Field(None, gt=0)
    """Most to spend; what would exceed it is not asked, and what was received is kept."""
    price: Price | None = None
    """Of a million tokens."""
    length_key: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What the server calls `max_new_tokens`."""

    @property
    def reads(self) -> frozenset[str]:  # type: ignore[override]
        """What comes from elsewhere depends on the data alone, so that it is not paid for again."""
        random = {"seed"} if self.decode == "sample" and self.from_file is None else set()
        local = {"threads"} if self.from_file is None and self.address is None else set()
        return frozenset({"data", *random, *local})

    def references(self) -> dict[str, str | None]:
        """The teacher, if it is a model of the pipeline."""
        return {"source": self.model} if self.from_file is None and self.address is None else {}

    def asked(self) -> dict[str, Any]:
        """What decides the texts: of a server not what it costs, of a file its content."""
        more = self.model_dump(mode="json", include={"split", "score"}, exclude_defaults=True)
        if self.from_file is not None:
            return {"content": file_digest(self.from_file), **more}
        where = {"batch_size"} if self.address is None else {"address", "served_model"}
        return {**self.model_dump(mode="json", include=_OF_WRITING | where), **more}

    def faults(self) -> list[tuple[str, str]]:
        """Combinations that make no sense."""
        places = [key for key in ("model", "from_file", "address") if getattr(self, key) is not None]
        found = [(places[1], f"names another teacher than `{places[0]}`: give one of them")] if len(places) > 1 else []
        given = self.model_fields_set
        idle = {key: "belongs to a server: give its `address`" for key in _OF_SERVERS if self.address is None}
        if self.decode != "beam":
            idle["beams"] = "has no effect: set `decode: beam`"
        if self.decode != "sample":
            idle |= dict.fromkeys(("temperature", "top_p", "samples"), "has no effect: set `decode: sample`")
        if not self.rationale:
            idle["rationale_prompt"] = "has no effect: set `rationale: true`"
        if self.from_file is not None:
            idle |= dict.fromkeys([*_OF_WRITING, "batch_size"], "has no effect: the file is read as it is")
        if self.from_file is not None and not self.from_file.is_file():
            found.append(("from_file", "is a folder: name a file of JSON Lines"))
        found += [(key, idle[key]) for key in type(self).model_fields if key in given and key in idle]
        return found + self._server_faults() + self._prompt_faults()

    def _server_faults(self) -> list[tuple[str, str]]:
        if self.address is None:
            return []
        found = []
        if self.served_model is None:
            found.append(("served_model", "say which of the server's models is asked"))
        if self.decode == "beam":
            found.append(("decode", "a server cannot be asked for a beam search: `greedy` or `sample`"))
        if self.max_cost is not None and self.price is None:
            found.append(("max_cost", "needs `price: {input: ..., output: ...}`, per million tokens"))
        return found

    def _prompt_faults(self) -> list[tuple[str, str]]:
        templates = {"prompt": self.prompt, "rationale_prompt": self.rationale_prompt}
        return [
            (key, "must say where the data's prompt stands: {text}")
            for key, words in templates.items()
            if words is not None and "{text}" not in words
        ]

    def run(self, inputs: Mapping[str, Bundle], out: Path, context: Context) -> Metrics:
        """Write `responses.jsonl` into `out`."""
        from compress.generation.run import generate

        return generate(self, inputs.get("source"), out, context)
