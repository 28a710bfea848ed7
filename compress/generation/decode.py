"""Networks that write: token ids in, the token ids that follow out, by the `generate` of `transformers`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from compress.errors import UsageError
from compress.models.transformers_library import open_library
from compress.training.randomness import preserved_randomness, seed_all

Rows = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Decoding:
    """How tokens are chosen."""

    decode: Literal["greedy", "beam", "sample"] = "greedy"
    beams: int = 4
    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 64


@dataclass(frozen=True)
class Ids:
    """Token ids with a meaning. `start` is what a decoder reads first; None for networks that go on from the prompt."""

    pad: int
    end: int
    start: int | None = None


def network_of(module: nn.Module) -> nn.Module:
    """The `transformers` network that a module is or holds.

    Raises:
        UsageError: it has none that writes.
    """
    found = getattr(module, "network", module)
    can = getattr(found, "can_generate", None)
    if isinstance(found, nn.Module) and can is not None and can():
        return found
    raise UsageError(
        f"{type(found).__name__} cannot write texts: only float networks of transformers with a head for language can "
        "(`transformers: ...` under `models:`, with the task causal-lm or sequence-to-sequence)"
    )


def continued(
    network: nn.Module, prompts: Rows, ids: Ids, how: Decoding, *, seed: int, device: torch.device
) -> list[list[int]]:
    """What `network` writes after each prompt: token ids, `ids.end` the last unless the longest text is reached.

    The random numbers of sampling are a function of `seed` alone, and the global generators are left as they were.
    What is written after one prompt depends on the others of the call only by rounding, and in sampling by its place.

    Args:
        network: of `network_of`, on `device`, in evaluation mode.
        prompts: token ids of each, at least one.
        ids: special tokens.
        how: how tokens are chosen.
        seed: of sampling.
        device: where the network is.
    """
    table, mask = _filled(prompts, ids.pad, left=ids.start is None)
    config = open_library().GenerationConfig(
        max_new_tokens=how.max_new_tokens,
        pad_token_id=ids.pad,
        eos_token_id=ids.end,
        decoder_start_token_id=ids.start,
        use_cache=True,
        **_choice(how),
    )
    writer: Any = network
    with preserved_randomness(), torch.no_grad(), _quiet():
        seed_all(seed, device)
        found = writer.generate(
            table.to(device), attention_mask=mask.to(device), generation_config=config, use_model_defaults=False
        )
    first = table.shape[1] if ids.start is None else 1
    return [_up_to_end(row, ids.end) for row in found[:, first:].tolist()]


def _choice(how: Decoding) -> dict[str, Any]:
    if how.decode == "beam":
        return {"num_beams": how.beams}
    if how.decode == "sample":
        return {"do_sample": True, "temperature": how.temperature, "top_p": how.top_p, "top_k": 0}
    return {}


def _filled(rows: Rows, pad: int, *, left: bool) -> tuple[Tensor, Tensor]:
    """Rows side by side, filled up on one side, and 1 where there is a token."""
    longest = max(len(row) for row in rows)
    table = np.full((len(rows), longest), pad, dtype=np.int64)
    mask = np.zeros_like(table)
    for number, row in enumerate(rows):
        place = slice(longest - len(row), None) if left else slice(len(row))
        table[number, place], mask[number, place] = row, 1
    return torch.from_numpy(table), torch.from_numpy(mask)


def _up_to_end(row: list[int], end: int) -> list[int]:
    return row[: row.index(end) + 1] if end in row else row


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's advice about settings, each of which is given."""
    logging = open_library().logging
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
