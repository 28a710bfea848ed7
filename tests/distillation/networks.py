"""Real networks with random weights, small enough for a test to take a second."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from compress.distillation.terms.site import Side, Site
from compress.models.transformers_text import build
from compress.models.zoo.table import build_zoo
from compress.tasks.open import open_task
from compress.tasks.settings import TaskSettings
from compress.tasks.task import Task

VOCABULARY = 40
PAD = 0
_NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
_BERT = {
    "hidden_size": "width",
    "intermediate_size": "inner",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
}
FAMILIES: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "bert": (_BERT, {**_NO_DROPOUT, "pad_token_id": PAD, "max_position_embeddings": 32}),
    "roberta": (_BERT, {**_NO_DROPOUT, "pad_token_id": PAD, "max_position_embeddings": 32}),
    "distilbert": (
        {"dim": "width", "hidden_dim": "inner", "n_layers": "layers", "n_heads": "heads"},
        {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0, "max_position_embeddings": 32},
    ),
    "gpt2": (
        {"n_embd": "width", "n_inner": "inner", "n_layer": "layers", "n_head": "heads"},
        {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "pad_token_id": PAD, "n_positions": 32,
         "use_cache": False},
    ),
    "llama": (_BERT, {"num_key_value_heads": 2, "pad_token_id": PAD, "use_cache": False}),
    "gpt_neox": (_BERT, {"use_cache": False, "pad_token_id": PAD}),
    "t5": (
        {"d_model": "width", "d_ff": "inner", "num_layers": "layers", "num_heads": "heads"},
        {"d_kv": 4, "pad_token_id": PAD, "decoder_start_token_id": PAD, "use_cache": False},
    ),
}  # fmt: skip
"""Model type -> (the family's name of each size -> ours, its other settings)."""


def convolution(name: str = "resnet8", *, seed: int = 0, width: float = 0.25, classes: int = 10) -> nn.Module:
    """A network of the zoo for images of three channels."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build_zoo(name, num_classes=classes, in_channels=3, width=width)


def text(
    family: str, head: str = "sequence-classification", *, seed: int = 0, layers: int = 2, width: int = 16,
    heads: int = 4, **changes: Any,
) -> nn.Module:  # fmt: skip
    """A language network of `transformers`: (token ids, mask) -> logits."""
    sizes = {"width": width, "inner": 2 * width, "layers": layers, "heads": heads}
    names, others = FAMILIES[family]
    config = {"model_type": family, "vocab_size": VOCABULARY, **others, **{k: sizes[v] for k, v in names.items()}}
    inputs = ("input_ids", "attention_mask", "decoder_input_ids")[: 3 if family == "t5" else 2]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build({**config, **changes}, head, inputs)


def sentences(examples: int = 4, tokens: int = 7, padding: int = 0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Token ids and masks; the last example is two tokens shorter, and `padding` columns of nothing follow."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, VOCABULARY, (examples, tokens), generator=generator)
    mask = torch.ones_like(ids)
    mask[-1, -2:] = 0
    ids = ids * mask
    return nn.functional.pad(ids, (0, padding), value=PAD), nn.functional.pad(mask, (0, padding))


def images(examples: int = 8, size: int = 32, seed: int = 0) -> Tensor:
    """Random images of three channels."""
    return torch.randn(examples, 3, size, size, generator=torch.Generator().manual_seed(seed))


def task_of(name: str = "image-classification") -> Task:
    return open_task(TaskSettings(name=name))


def site(student: nn.Module, teacher: nn.Module, inputs: tuple[Tensor, ...], task: Task, examples: int = 8) -> Site:
    """Both networks, tried on `inputs`."""
    sides = Side("student", student, inputs), Side("teacher", teacher, inputs)
    return Site(*sides, task, examples, None, seed=0)
