"""A server that speaks OpenAI's protocol as the teacher that writes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from compress.errors import CompressError, StageError, UsageError
from compress.generation.asks import Ask, Words
from compress.generation.draft import Entry
from compress.generation.responses import clean
from compress.generation.settings import Price
from compress.generation.spending import Budget
from compress.generation.stage import Generate
from compress.optional import import_or_explain
from compress.training.randomness import derived_seed

_AROUND_A_MESSAGE = 64
"""Tokens, at most, that a server puts around a message: roles, marks, words of its own."""
_AGAIN = "what was received is kept, so that the same command goes on from there"
_BUSY = (408, 409, 429)


def read_key(variable: str | None) -> str:
    """The server's key, from the environment alone.

    Raises:
        UsageError: the variable is not set.
    """
    if variable is None:
        return "none"
    if not os.environ.get(variable):
        raise UsageError(f"key_variable: the environment variable {variable}, which holds the server's key, is not set")
    return os.environ[variable]


class ServerWriter:
    """Answers by chat completions, `settings.batch_size` requests at a time.

    Args:
        settings: address, model, decoding, retries, limits.
        words: what stands around prompts.
        seed: of sampling, for servers that heed it.
        before: entries of earlier runs, whose cost counts; one that lacks its rationale is not asked for its answer.

    Raises:
        UsageError: the client library or the key is missing.
    """

    def __init__(self, settings: Generate, words: Words, seed: int, before: Sequence[Entry] = ()) -> None:
        self.settings, self.words, self.seed = settings, words, seed
        self._library = import_or_explain("openai", "api")
        self._key = read_key(settings.key_variable)
        self._client = self._library.OpenAI(
            api_key=self._key,
            base_url=settings.address,
            max_retries=settings.retries,
            timeout=settings.timeout_seconds,
        )
        self.budget = Budget(settings.price or Price(), settings.max_cost)
        self._answered = {(entry["id"], entry["sample"]): entry for entry in before}
        for entry in before:
            self.budget.pay(entry["usage"])

    def answers(self, asks: Sequence[Ask]) -> Iterator[Entry]:
        """Entries as they arrive; where reasons are asked for, each first without its rationale, then with it.

        When something goes wrong, what is under way still comes, then the error.

        Raises:
            UsageError: the server refuses a request (its words are told).
            StageError: the server cannot be reached or fails again and again; or the next request could exceed
                `max_cost`.
        """
        failure: CompressError | None = None
        waiting: dict[Future[Entry], tuple[Ask, list[int]]] = {}
        todo = list(reversed(asks))
        with ThreadPoolExecutor(self.settings.batch_size, thread_name_prefix="compress-generate") as pool:
            while waiting or (todo and failure is None):
                while todo and failure is None and len(waiting) < self.settings.batch_size:
                    bound = self._bound(todo[-1])
                    if self.budget.reserve(bound):
                        ask = todo.pop()
                        waiting[pool.submit(self._next, ask)] = ask, bound
                    elif waiting:
                        break
                    else:
                        failure = self._too_dear(len(todo))
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    ask, bound = waiting.pop(future)
                    try:
                        entry = future.result()
                    except CompressError as error:
                        failure = failure or error
                        self.budget.release(bound)
                        continue
                    self._answered[ask.key] = entry
                    yield entry
                    if self.words.finished(entry) or failure is not None:
                        self.budget.release(bound)
                    else:
                        waiting[pool.submit(self._next, ask)] = ask, bound
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def _next(self, ask: Ask) -> Entry:
        """The answer, or its rationale beside it if the answer is there."""
        known = self._answered.get(ask.key)
        if known is None:
            text, cut, usage = self._asked(self.words.asking(ask), ask)
            return {"id": ask.id, "sample": ask.sample, "response": text, "cut": cut, "usage": usage}
        why, _, more = self._asked(self.words.asking_why(ask, known["response"]), ask)
        usage = [one + other for one, other in zip(known["usage"], more, strict=True)]
        return {**known, "rationale": why, "usage": usage}

    def _asked(self, content: str, ask: Ask) -> tuple[str, bool, list[int]]:
        """(what the server wrote, whether it was cut, tokens read and written) for one message."""
        settings, library = self.settings, self._library
        choice: dict[str, Any] = {"temperature": 0.0}
        if settings.decode == "sample":
            seed = derived_seed(self.seed, "generate", ask.id, ask.sample) % 2**31
            choice = {"temperature": settings.temperature, "top_p": settings.top_p, "seed": seed}
        try:
            found = self._client.chat.completions.create(
                model=settings.served_model,
                messages=[{"role": "user", "content": content}],
                **{settings.length_key: settings.max_new_tokens},
                **choice,
            )
            first = found.choices[0]
            text, cut = clean(first.message.content or ""), first.finish_reason == "length"
        except library.APIStatusError as error:
            raise self._refused(error, ask) from error
        except library.APIError as error:
            where = f"the server at {settings.address} cannot be reached ({self._told(error)})"
            raise StageError(f"{where}, after {settings.retries} retries; {_AGAIN}") from error
        except (AttributeError, IndexError, TypeError) as error:
            raise StageError(f"the server at {settings.address} gives no chat completions; {_AGAIN}") from error
        usage = self._usage(found, content)
        self.budget.pay(usage)
        return text, cut, usage

    def _usage(self, found: Any, content: str) -> list[int]:
        """The tokens that the server counted; the most that they can be of what it does not say."""
        most = [_most_tokens(content), self.settings.max_new_tokens]
        counted = [getattr(found.usage, name, None) for name in ("prompt_tokens", "completion_tokens")]
        return [bound if count is None else int(count) for count, bound in zip(counted, most, strict=True)]

    def _bound(self, ask: Ask) -> list[int]:
        """The most tokens that the requests for one ask can take, as far as they are still to be made."""
        longest = self.settings.max_new_tokens
        known = self._answered.get(ask.key)
        if known is not None:
            return [_most_tokens(self.words.asking_why(ask, known["response"])), longest]
        bound = [_most_tokens(self.words.asking(ask)), longest]
        if self.words.reason is not None:
            why = _most_tokens(self.words.asking_why(ask, "")) + _AROUND_A_MESSAGE + longest
            bound = [bound[0] + why, 2 * longest]
        return bound

    def _refused(self, error: Any, ask: Ask) -> CompressError:
        told = f"the server at {self.settings.address} answers example {ask.id} with status {error.status_code}: "
        told += self._told(error)
        if error.status_code >= 500 or error.status_code in _BUSY:
            return StageError(f"{told} (after {self.settings.retries} retries); {_AGAIN}")
        return UsageError(told)

    def _told(self, error: Exception) -> str:
        """The server's words, without the key if it repeats that."""
        said = " ".join(str(error).split()) or type(error).__name__
        return said if self.settings.key_variable is None else said.replace(self._key, "***")

    def _too_dear(self, left: int) -> StageError:
        return StageError(
            f"max_cost: the next request could exceed {self.settings.max_cost:g}: {self.budget.spent:.4g} is spent, "
            f"{left:,} texts are missing; raise max_cost to go on: {_AGAIN}"
        )


def _most_tokens(content: str) -> int:
    """More tokens than bytes no tokenizer makes of a text."""
    return len(content.encode()) + _AROUND_A_MESSAGE
