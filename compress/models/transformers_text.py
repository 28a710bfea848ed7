"""Networks of the `transformers` library that read texts: encoders, decoders, and encoders with decoders.

Which head such a network gets follows from the task. It is made from a configuration, a local folder or a hub name.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from compress.errors import UsageError
from compress.models.need import Need, TextNeed
from compress.models.transformers_library import at_rest, fit_classes, is_given, make_network, opened

HEADS = {
    "causal-lm": "AutoModelForCausalLM",
    "masked-lm": "AutoModelForMaskedLM",
    "sequence-to-sequence": "AutoModelForSeq2SeqLM",
    "sequence-classification": "AutoModelForSequenceClassification",
}
"""Kind of head -> the library's class."""
_AFTER_PADDING = frozenset({
    "camembert", "data2vec-text", "esm", "ibert", "longformer", "mpnet", "roberta", "roberta-prelayernorm",
    "xlm-roberta", "xlm-roberta-xl", "xmod",
})  # fmt: skip
"""Families that number positions from that of the padding token's id on, so that they need as many more."""


class Answer(nn.Module):
    """A `transformers` network, in `network`, that takes its inputs by position and gives its logits alone.

    `names` are what the inputs are called, in their order; those in `unread` the network has no use for.
    """

    def __init__(self, network: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.network = network
        self.names = tuple(names)
        self.unread = tuple(name for name in names if not _reads(network, name))

    def forward(self, *inputs: Tensor) -> Tensor:
        """Token ids and masks (N, T) each -> logits (N, classes), or (N, T, vocabulary) where tokens have answers."""
        given = {name: x for name, x in zip(self.names, inputs, strict=True) if name not in self.unread}
        return self.network(**given).logits  # type: ignore[no-any-return]


def head_for(task: str) -> str:
    """The kind of head that a task needs: its own, or else one vector for each text."""
    return task if task in HEADS else "sequence-classification"


def configuration(
    given: str | Mapping[str, Any], arguments: Mapping[str, Any], need: Need, new_head: bool
) -> dict[str, Any]:
    """The complete configuration of the network that `given` (folder, hub name or a configuration) means.

    What a configuration leaves open is taken from data and tokenizer: the vocabulary's size, the ids of special tokens,
    how many positions there are, the number of classes. `arguments` of a folder or hub name go to `AutoConfig`.

    Raises:
        UsageError: there is no such network, or it does not fit the data.
    """
    assert need.text is not None
    config, given_keys = opened(given, arguments)
    head = head_for(need.task)
    if head == "sequence-classification":
        fit_classes(config, given_keys, need.vector("a transformers network"), given, new_head)
    if head == "causal-lm" and not config.is_decoder:
        config.is_decoder = True  # or an encoder such as BERT would see the token that it is to foretell
    config.use_cache = False  # no keys and values of earlier calls: answers for all tokens at once
    _fit_vocabulary(config, given_keys, need.text)
    _fit_positions(config, given_keys, need.text)
    _fit_special_tokens(config, given_keys, need.text)
    if not is_given(config, "type_vocab_size", given_keys) and hasattr(config, "type_vocab_size"):
        config.type_vocab_size = max(2, config.type_vocab_size)
    return at_rest(config)


def build(config: Mapping[str, Any], head: str, inputs: Sequence[str]) -> Answer:
    """The network of a complete configuration with a kind of head, with new weights."""
    return Answer(make_network(HEADS[head], config), inputs)


def _fit_vocabulary(config: Any, given_keys: set[str], text: TextNeed) -> None:
    if not is_given(config, "vocab_size", given_keys):
        config.vocab_size = text.vocabulary_size
    if config.vocab_size < text.vocabulary_size:
        raise UsageError(
            f"transformers: the network knows {config.vocab_size:,} tokens and the tokenizer has "
            f"{text.vocabulary_size:,}; leave vocab_size out, or use the network's own tokenizer"
        )


def _fit_positions(config: Any, given_keys: set[str], text: TextNeed) -> None:
    if not hasattr(config, "max_position_embeddings"):
        return
    wanted = text.max_length
    if config.model_type in _AFTER_PADDING:
        wanted += 1 + max(text.pad_id or 0, 0)
    if not is_given(config, "max_position_embeddings", given_keys):
        config.max_position_embeddings = wanted
    if config.max_position_embeddings < wanted:
        raise UsageError(
            f"transformers: the network has {config.max_position_embeddings} positions and texts of {text.max_length} "
            f"tokens need {wanted}; lower `max_length` in the data's `text`, or give the network more"
        )


def _fit_special_tokens(config: Any, given_keys: set[str], text: TextNeed) -> None:
    """Fill in ids that nobody gave; padding must be what the tokenizer says, because networks look for it."""
    known = getattr(config, "pad_token_id", None)
    if text.pad_id is not None and (not is_given(config, "pad_token_id", given_keys) or known is None or known < 0):
        config.pad_token_id = known = text.pad_id
    if text.pad_id is not None and known != text.pad_id:
        raise UsageError(
            f"transformers: the network pads with token {known} and the tokenizer with token {text.pad_id}; leave "
            "pad_token_id out, or use the network's own tokenizer"
        )
    ids = {"bos_token_id": text.bos_id, "eos_token_id": text.eos_id, "decoder_start_token_id": text.start_id}
    for key, value in ids.items():
        if value is not None and (not is_given(config, key, given_keys) or getattr(config, key, None) is None):
            setattr(config, key, value)


def _reads(network: nn.Module, name: str) -> bool:
    """Whether a network takes an input of that name; segments only where it has embeddings for two of them."""
    if name == "token_type_ids" and getattr(network.config, "type_vocab_size", 0) < 2:
        return False
    parameters = inspect.signature(network.forward).parameters
    if name not in parameters and name != "token_type_ids":
        raise UsageError(
            f"transformers: {type(network).__name__} takes no {name}, which the data and the task give; it takes "
            f"{', '.join(parameters)}"
        )
    return name in parameters
