"""Tiny networks of every shape that reads texts, and inputs for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from compress.models.factory import Factory, build, factory_for
from compress.models.need import Need, TextNeed
from compress.models.settings import ModelSettings

VOCABULARY = 80
TEXT = TextNeed(VOCABULARY, max_length=24, pad_id=0, bos_id=1, eos_id=2, start_id=1)
NAMES = ("input_ids", "attention_mask")
_ENCODER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "bert": {"model_type": "bert", **_ENCODER},
    "distilbert": {"model_type": "distilbert", "dim": 16, "hidden_dim": 32, "n_layers": 2, "n_heads": 2},
    "roberta": {"model_type": "roberta", **_ENCODER},
    "gpt2": {"model_type": "gpt2", "n_embd": 16, "n_layer": 2, "n_head": 2},
    "llama": {"model_type": "llama", **_ENCODER, "num_key_value_heads": 1},
    "t5": {"model_type": "t5", "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2},
    "bart": {
        "model_type": "bart", "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
    },
}  # fmt: skip
NETWORKS = [
    ("bert", "text-classification"),
    ("bert", "masked-lm"),
    ("distilbert", "text-classification"),
    ("distilbert", "masked-lm"),
    ("roberta", "text-classification"),
    ("gpt2", "causal-lm"),
    ("gpt2", "text-classification"),
    ("llama", "causal-lm"),
    ("t5", "sequence-to-sequence"),
    ("bart", "sequence-to-sequence"),
]


def need(task: str, classes: int = 3, text: TextNeed = TEXT) -> Need:
    """What data with three classes, or of that vocabulary, ask of a network."""
    decodes = task == "sequence-to-sequence"
    size = text.vocabulary_size if decodes or task in ("causal-lm", "masked-lm") else classes
    return Need((), size, task, (*NAMES, *(("decoder_input_ids",) if decodes else ())), text)


def made(name: str, task: str, seed: int = 1, **more: Any) -> tuple[Factory, nn.Module]:
    """A network with random weights, in evaluation mode; larger ones than usual, so that attention is uneven."""
    factory = factory_for(ModelSettings(transformers={**CONFIGURATIONS[name], **more}), need(task))
    module = build(factory, seed).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1:
                parameter.mul_(1 if name == "t5" else 10)
    return factory, module


def inputs(task: str, lengths: list[int], decoded: int = 5, seed: int = 0) -> tuple[npt.NDArray[np.int64], ...]:
    """Texts of those lengths, padded on the right to the longest."""
    generator = np.random.default_rng(seed)
    mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64)
    ids = generator.integers(3, VOCABULARY, mask.shape) * mask
    said = generator.integers(3, VOCABULARY, (len(lengths), decoded))
    return (ids, mask, said) if task == "sequence-to-sequence" else (ids, mask)


def answer(module: nn.Module, arrays: tuple[npt.NDArray[np.int64], ...]) -> npt.NDArray[np.float32]:
    """The logits."""
    with torch.no_grad():
        return np.asarray(module(*(torch.from_numpy(array) for array in arrays)).numpy())
