"""What `generate` does: ask whoever it is, keep what was said, write it down in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from compress.bundle import Bundle, Kind, write_bundle
from compress.data.dataset import Data
from compress.data.digests import text_digest
from compress.data.open import open_data
from compress.errors import UsageError
from compress.generation.api import ServerWriter, read_key
from compress.generation.asks import Ask, Words, batches_of
from compress.generation.decode import Decoding, network_of
from compress.generation.draft import Draft, Entry
from compress.generation.responses import Response, prompts_of, read_responses, write_responses
from compress.generation.score import scores, told
from compress.generation.stage import Generate
from compress.generation.writer import NetworkWriter, check_lengths, ids_of
from compress.models import rest
from compress.optional import import_or_explain
from compress.stage import Context, Metrics
from compress.tasks.open import open_task
from compress.training.device import limited_threads, training_device

_REHEARSED = 2
_REHEARSED_TOKENS = 4


def generate(stage: Generate, teacher: Bundle | None, out: Path, context: Context) -> Metrics:
    """Write `responses.jsonl` into `out`; see `Generate`.

    Raises:
        UsageError: the data have no prompts, the teacher cannot write, a server refuses, or a file does not fit.
        StageError: a server fails or would cost too much.
    """
    if context.data is None:
        raise UsageError("`generate` answers the data's prompts, and the pipeline names no data: add `data:`")
    data = open_data(context.data)
    if stage.from_file is not None:
        found, more = read_responses(stage.from_file, prompts_of(data, split=stage.split)), dict[str, Any]()
    elif stage.address is not None:
        found, more = _from_server(stage, data, context)
    else:
        assert teacher is not None
        found, more = _from_network(stage, teacher, data, context)
    write_responses(found, out)
    write_bundle(out, Kind.RESPONSES)
    examples = len({response.id for response in found})
    empty = sum(not response.response.strip() for response in found)
    cut = more.get("cut", 0)
    notes = [f"{cut:,} of {len(found):,} texts were cut at {stage.max_new_tokens} tokens"] if cut else []
    notes += [f"{empty:,} of {len(found):,} texts are empty"] if empty else []
    score = scores(data, found, stage.split) if stage.score else {}
    notes += [told(score, len(found), stage.split)] if score else []
    return {"texts": len(found), "examples": examples, "empty": empty, **more, **score, "notes": notes}


def _from_network(
    stage: Generate, teacher: Bundle, data: Data, context: Context
) -> tuple[list[Response], dict[str, Any]]:
    data = open_task(context.task).prepare(data)
    prompts, ids, text = _prompts(stage, data, context), ids_of(data), data.text
    assert text is not None
    check_lengths(text, ids, stage.max_new_tokens)
    device = training_device(context)
    network = network_of(rest.load(teacher.path)).to(device).eval()
    writer = NetworkWriter(network, text, ids, _decoding(stage, context), _words(stage), context.seed, device)
    batches = batches_of(prompts, stage.samples, stage.batch_size)
    draft = _draft(stage, context, prompts, teacher.digest)

    def entries() -> Iterator[list[Entry]]:
        for batch in batches:
            if any(ask.key not in draft.entries for ask in batch):
                yield writer.answers(batch)

    with limited_threads(context.threads):
        return _collected(batches, entries(), writer.words, draft, context)


def _from_server(stage: Generate, data: Data, context: Context) -> tuple[list[Response], dict[str, Any]]:
    prompts = _prompts(stage, data, context)
    batches = batches_of(prompts, stage.samples, stage.batch_size)
    if context.rehearsal:  # asking would cost; the words stand in for the answers
        import_or_explain("openai", "api")
        read_key(stage.key_variable)
        why = "rehearsed" if stage.rationale else None
        return [Response(ask.id, ask.prompt, "rehearsed", ask.sample, why) for batch in batches for ask in batch], {}
    draft = _draft(stage, context, prompts, "")
    words = _words(stage)
    done = {key for key, entry in draft.entries.items() if words.finished(entry)}
    missing = [ask for batch in batches for ask in batch if ask.key not in done]
    server = ServerWriter(stage, words, context.seed, list(draft.entries.values()))
    try:
        found, more = _collected(batches, ([entry] for entry in server.answers(missing)), words, draft, context)
    finally:
        server.close()
    usage = {"input_tokens": server.budget.tokens[0], "output_tokens": server.budget.tokens[1]}
    return found, more | usage | ({} if stage.price is None else {"cost": round(server.budget.spent, 6)})


def _collected(
    batches: Sequence[Sequence[Ask]], entries: Iterator[list[Entry]], words: Words, draft: Draft, context: Context
) -> tuple[list[Response], dict[str, Any]]:
    """Everything that was asked, from the draft and from `entries`, which go into it as they come."""
    asks = [ask for batch in batches for ask in batch]
    with context.progress.task("writing texts", len(asks)) as advance:
        advance(sum(map(words.finished, draft.entries.values())))
        for more in entries:
            draft.append(more)
            advance(sum(map(words.finished, more)))
    found = [draft.entries[ask.key] for ask in asks]
    responses = [
        Response(ask.id, ask.prompt, entry["response"], ask.sample, entry.get("rationale"))
        for ask, entry in zip(asks, found, strict=True)
    ]
    return responses, {"cut": sum(bool(entry["cut"]) for entry in found)}


def _prompts(stage: Generate, data: Data, context: Context) -> list[str]:
    there = len(getattr(data, stage.split))
    return prompts_of(data, range(min(_REHEARSED, there)) if context.rehearsal else None, stage.split)


def _draft(stage: Generate, context: Context, prompts: Sequence[str], teacher: str) -> Draft:
    seed = context.seed if "seed" in stage.reads else None
    identity = text_digest([stage.asked(), seed, list(prompts), teacher])
    return Draft(None if context.rehearsal else context.checkpoints, identity)


def _words(stage: Generate) -> Words:
    return Words(stage.prompt, stage.rationale_prompt if stage.rationale else None)


def _decoding(stage: Generate, context: Context) -> Decoding:
    longest = min(stage.max_new_tokens, _REHEARSED_TOKENS) if context.rehearsal else stage.max_new_tokens
    return Decoding(stage.decode, stage.beams, stage.temperature, stage.top_p, longest)
