"""What a teacher has written, on disk and as a training split."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.data.blocks import blocks_of
from compress.data.dataset import Data
from compress.data.splits import Array, Indices, Split, no_classes
from compress.errors import Fault, UsageError
from compress.generation.settings import RESPONSES_FILE

_SHOWN = 10


@dataclass(frozen=True)
class Response:
    """One answer: to the prompt of example `id` of its split, the `sample`-th of several."""

    id: int
    prompt: str
    response: str
    sample: int = 0
    rationale: str | None = None

    @property
    def line(self) -> str:
        """As a line of JSON, without what ends it."""
        why = {} if self.rationale is None else {"rationale": self.rationale}
        content = {"id": self.id, "prompt": self.prompt, "response": self.response, **why, "sample": self.sample}
        return json.dumps(content, ensure_ascii=False)


@dataclass(frozen=True)
class Written:
    """A training split whose target texts, and rationales if there are some, a teacher has written."""

    whole: Split
    responses: tuple[Response, ...]

    def __len__(self) -> int:
        return len(self.responses)

    @cached_property
    def explained(self) -> bool:
        """Whether every answer has its rationale."""
        return all(response.rationale is not None for response in self.responses)

    def raw(self, indices: Indices) -> list[Any]:
        """The inputs of the examples that were answered."""
        return self.whole.raw(self._ids[np.asarray(indices, dtype=np.int64)])

    def targets(self, indices: Indices) -> Array:
        """Texts have no class."""
        return no_classes(len(indices))

    def target_texts(self, indices: Indices) -> list[str]:
        """What the teacher has written."""
        return [self.responses[int(index)].response for index in indices]

    def rationales(self, indices: Indices) -> list[str]:
        """Why, in the teacher's words."""
        return [self.responses[int(index)].rationale or "" for index in indices]

    @cached_property
    def _ids(self) -> npt.NDArray[np.int64]:
        return np.array([response.id for response in self.responses], dtype=np.int64)


def prompts_of(data: Data, indices: Indices | None = None, split: str = "train") -> list[str]:
    """The prompts of a split's examples, of all unless `indices` names some, in the words of the data's `text.prompt`.

    Raises:
        UsageError: the data have no prompts with answers.
    """
    if data.text is None or not data.text.answers or blocks_of(data.train) is not None:
        raise UsageError("data: there are no prompts to answer: name inputs and target texts (`text: {targets: text}`)")
    examples: Split = getattr(data, split)
    return data.text.prompts(examples.raw(np.arange(len(examples)) if indices is None else indices))


def with_responses(data: Data, responses: Sequence[Response]) -> Data:
    """The same data, with the pairs of prompt and response as its training split; validation and test stay.

    Raises:
        UsageError: there is nothing to learn, or the responses were written for other prompts.
    """
    if not responses:
        raise UsageError("there are no texts to learn: nothing was written")
    known = prompts_of(data)
    wrong = [answer.id for answer in responses if answer.id >= len(known) or known[answer.id] != answer.prompt]
    if wrong:
        raise UsageError(f"the texts were written for other data: example {wrong[0]} has another prompt here")
    digest = hashlib.sha256("\n".join(response.line for response in responses).encode()).hexdigest()
    return replace(
        data,
        train=Written(data.train, tuple(responses)),
        unlabelled=None,
        fingerprint=data.fingerprint and f"{data.fingerprint}-texts-{digest[:16]}",
        _prepared={},
        _encoded={},
    )


def write_responses(responses: Iterable[Response], folder: Path) -> None:
    """Write `responses.jsonl`, in the order of example and sample."""
    ordered = sorted(responses, key=lambda response: (response.id, response.sample))
    lines = "".join(f"{response.line}\n" for response in ordered)
    (folder / RESPONSES_FILE).write_bytes(lines.encode())


def read_responses(file: Path, prompts: Sequence[str] | None = None) -> list[Response]:
    """What lies in a file of JSON Lines; with `prompts`, those of the split, it is checked against them.

    A line needs `response`, and `id` or, for prompts that are there once, `prompt`. Unless `sample` is given, it counts
    the answers to one prompt.

    Raises:
        UsageError: every line that is no such answer (the first ten are told), or there is none.
    """
    faults: list[Fault] = []
    reading = _Reading(prompts)
    for number, line in enumerate(file.read_bytes().split(b"\n"), start=1):
        try:
            if line.strip():
                reading.add(line)
        except ValueError as error:
            faults.append(Fault(str(error), file=str(file), line=number))
    if len(faults) > _SHOWN:
        faults[_SHOWN:] = [Fault(f"and {len(faults) - _SHOWN} more lines", file=str(file))]
    if not faults and not reading.found:
        faults = [Fault("holds no answers", file=str(file))]
    if len({answer.rationale is None for answer in reading.found.values()}) > 1:
        faults.append(Fault("some answers have a rationale and some have none", file=str(file)))
    if faults:
        raise UsageError(faults)
    return list(reading.found.values())


def clean(text: str) -> str:
    """`text` without halves of characters, which no file of UTF-8 can hold."""
    return text.encode("utf-8", "replace").decode()


class _Reading:
    """Answers that were read so far, by example and sample."""

    def __init__(self, prompts: Sequence[str] | None) -> None:
        self.prompts = prompts
        self.found: dict[tuple[int, int], Response] = {}
        self._answers = Counter[int]()
        times = Counter(prompts or ())
        self._places = {prompt: number for number, prompt in enumerate(prompts or ()) if times[prompt] == 1}

    def add(self, line: bytes) -> None:
        """Read one line; ValueError says what is wrong with it."""
        try:
            given = json.loads(line)
        except ValueError as error:
            raise ValueError(f"is no JSON: {error}") from error
        if not isinstance(given, dict) or not isinstance(given.get("response"), str):
            raise ValueError('needs a text as its "response"')
        why = given.get("rationale")
        if why is not None and not isinstance(why, str):
            raise ValueError("has a rationale that is no text")
        number = self._example(given)
        sample = given.get("sample", self._answers[number])
        if not isinstance(sample, int) or (number, sample) in self.found:
            raise ValueError(f'answers example {number} again: give each answer a "sample" of its own')
        prompt = str(given.get("prompt", "")) if self.prompts is None else self.prompts[number]
        why = None if why is None else clean(why)
        self.found[number, sample] = Response(number, prompt, clean(given["response"]), sample, why)
        self._answers[number] += 1

    def _example(self, given: Mapping[str, Any]) -> int:
        """The number of the example that is answered."""
        number, prompt = given.get("id"), given.get("prompt")
        if number is None and isinstance(prompt, str):
            number = self._places.get(prompt)
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise ValueError('needs the number of an example as its "id", or that example\'s "prompt"')
        if self.prompts is not None:
            if number >= len(self.prompts):
                raise ValueError(f"answers example {number}, and there are {len(self.prompts)}")
            if prompt is not None and prompt != self.prompts[number]:
                raise ValueError(f"answers another prompt than that of example {number}: {self.prompts[number][:60]!r}")
        return number
