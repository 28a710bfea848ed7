"""Every architecture by name: the factory that makes it, in the product's own way, and inputs for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compress.bundle import Deployment, TensorSpec
from compress.models.factory import Factory, build, factory_for
from compress.models.need import Need, TextNeed
from compress.models.settings import ModelSettings

CLASSES, VOCABULARY, TOKENS = 5, 96, 16
IMAGE = (3, 32, 32)
TEXT = TextNeed(VOCABULARY, max_length=TOKENS, pad_id=0, bos_id=1, eos_id=2, start_id=1)
TEXT_INPUTS = ("input_ids", "attention_mask")
_ENCODER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
_SWIN = {"embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4, "patch_size": 2}


@dataclass(frozen=True)
class Architecture:
    """How a network is made, what it reads, and whether it answers each token."""

    make: Callable[[], Factory]
    task: str = "image-classification"

    @property
    def reads_text(self) -> bool:
        """Whether its inputs are tokens."""
        return self.task != "image-classification"


def _own(file: str, function: str) -> Architecture:
    folder = Path(__file__).parent
    arguments = {"num_classes": CLASSES, "in_channels": IMAGE[0]}
    return Architecture(lambda: Factory("python", f"{file}.py:{function}", arguments, folder))


def _zoo(name: str, width: float) -> Architecture:
    settings = ModelSettings(zoo=name, width=width)
    return Architecture(lambda: factory_for(settings, Need((IMAGE,), CLASSES)))


def _images(model_type: str, **configuration: Any) -> Architecture:
    settings = ModelSettings(transformers={"model_type": model_type, **configuration})
    return Architecture(lambda: factory_for(settings, Need((IMAGE,), CLASSES)))


def _texts(model_type: str, task: str, **configuration: Any) -> Architecture:
    settings = ModelSettings(transformers={"model_type": model_type, **configuration})
    size = VOCABULARY if task in ("causal-lm", "masked-lm") else CLASSES
    return Architecture(lambda: factory_for(settings, Need((), size, task, TEXT_INPUTS, TEXT)), task)


ARCHITECTURES: dict[str, Architecture] = {
    "resnet18": _own("residual", "resnet18"),
    "resnet50": _own("residual", "resnet50"),
    "resnext": _own("residual", "resnext"),
    "resnet20": _zoo("resnet20", 1.0),
    "vgg8": _zoo("vgg8", 0.25),
    "mobilenet_v2": _zoo("mobilenet_v2", 0.25),
    "mobilenet_v3": _own("mobile", "mobilenet_v3"),
    "efficientnet": _own("mobile", "efficientnet"),
    "shufflenet_v2": _own("mobile", "shufflenet_v2"),
    "densenet": _own("concatenating", "densenet"),
    "unet": _own("concatenating", "unet"),
    "convnext": _images(
        "convnext", hidden_sizes=[16, 32], depths=[2, 2], num_stages=2, patch_size=2, layer_scale_init_value=0.5
    ),
    "vit": _images("vit", patch_size=8, **_ENCODER),
    "deit": _images("deit", patch_size=8, architectures=["DeiTForImageClassification"], **_ENCODER),
    "swin": _images("swin", **_SWIN),
    "bert": _texts("bert", "text-classification", **_ENCODER),
    "bert_masked": _texts("bert", "masked-lm", **_ENCODER),
    "distilbert": _texts("distilbert", "text-classification", dim=32, hidden_dim=64, n_layers=2, n_heads=4),
    "gpt2": _texts("gpt2", "causal-lm", n_embd=32, n_layer=2, n_head=4),
    "llama": _texts("llama", "causal-lm", **_ENCODER, num_key_value_heads=2),
}


def made(name: str, seed: int = 0) -> tuple[Factory, nn.Module]:
    """A network with random weights, large enough to tell its channels apart, and used batch norms; evaluating."""
    factory = ARCHITECTURES[name].make()
    module = build(factory, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d) and part.running_mean is not None and part.running_var is not None:
                part.running_mean.normal_(0, 0.1, generator=generator)
                part.running_var.uniform_(0.5, 1.5, generator=generator)
    return factory, module.eval()


def inputs(name: str, batch: int, tokens: int = TOKENS, seed: int = 1) -> tuple[Tensor, ...]:
    """Images, or token ids with masks that hide the end of the last text."""
    generator = torch.Generator().manual_seed(seed)
    if not ARCHITECTURES[name].reads_text:
        return (torch.randn(batch, *IMAGE, generator=generator),)
    ids = torch.randint(3, VOCABULARY, (batch, tokens), generator=generator)
    mask = torch.ones_like(ids)
    mask[-1, tokens - 3 :] = 0
    return (ids * mask, mask)


def deployment(name: str, output: Tensor) -> Deployment:
    """Names and axes of inputs and outputs, as `compress.models.deployment` gives them."""
    if not ARCHITECTURES[name].reads_text:
        specs: tuple[TensorSpec, ...] = (TensorSpec("input", "float32", ("batch", *IMAGE)),)
    else:
        specs = tuple(TensorSpec(key, "int64", ("batch", "sequence")) for key in TEXT_INPUTS)
    rest: tuple[int | str, ...] = tuple(output.shape[1:])
    if ARCHITECTURES[name].task in ("causal-lm", "masked-lm"):
        rest = ("sequence", *rest[1:])
    answer = TensorSpec("output", "float32", ("batch", *rest))
    return Deployment(task={}, inputs=specs, outputs=(answer,), extra={"sizes": {"sequence": TOKENS}})
