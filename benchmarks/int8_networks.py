"""The networks of `int8_peers.py`: each one float ONNX file with samples to calibrate on and samples held out.

Six have seeded weights, whose batch norms see a few batches of images first; two are trained ones of COMPRESS_DATA.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import cifar10
from numpy.typing import NDArray
from torch import Tensor, nn

from compress.bundle import Deployment, TensorSpec
from compress.exporting.torch_onnx import example_inputs, to_onnx
from compress.exporting.tracing import dynamic_shapes
from compress.models.factory import Factory, build
from compress.models.weights import load_weights

Samples = dict[str, NDArray[Any]]
"""Input name -> examples, as a file takes them."""
CALIBRATION, HELD_OUT, CIFAR_HELD_OUT = 64, 64, 512
CLASSES, TOPICS, VOCABULARY, SEQUENCE = 1000, 77, 30522, 128
BERT = {
    "model_type": "bert", "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12,
    "intermediate_size": 1536, "vocab_size": VOCABULARY, "max_position_embeddings": 512, "num_labels": TOPICS,
    "initializer_range": 0.05,
}  # fmt: skip
"""Weights of 1 / sqrt(hidden size), here and in `vit_tiny`: with the usual 0.02 answers hardly depend on the input."""
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "resnet18": {
        "model_type": "resnet", "layer_type": "basic", "depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512],
    },
    "resnet50": {"model_type": "resnet"},
    "mobilenet_v2": {"model_type": "mobilenet_v2"},
    "efficientnet_b0": {
        "model_type": "efficientnet", "width_coefficient": 1.0, "depth_coefficient": 1.0, "image_size": 224,
        "hidden_dim": 1280,
    },
    "vit_tiny": {
        "model_type": "vit", "hidden_size": 192, "num_hidden_layers": 12, "num_attention_heads": 3,
        "intermediate_size": 768, "patch_size": 16, "image_size": 224, "initializer_range": 0.07,
    },
}  # fmt: skip
TRAINED = {"resnet20": "resnet20-12fca82f.th", "resnet56": "resnet56-4bfd9763.th"}
NETWORKS = (*CONFIGURATIONS, "bert", *TRAINED)
TRANSFORMERS = ("vit_tiny", "bert")


@dataclass(frozen=True)
class Case:
    """A network's float file, and its samples as `.npz` files."""

    name: str
    float_file: Path
    calibration_file: Path
    held_out_file: Path

    @property
    def kind(self) -> str:
        """`transformer` or `convolution`: some quantizers want to be told."""
        return "transformer" if self.name in TRANSFORMERS else "convolution"

    @property
    def sizes(self) -> Mapping[str, int]:
        """Sizes of dynamic axes but the batch."""
        return {"sequence": SEQUENCE} if self.name == "bert" else {}

    def calibration(self) -> Samples:
        """The samples that everybody may look at."""
        return dict(np.load(self.calibration_file))

    def held_out(self) -> Samples:
        """The samples that nobody has seen."""
        return dict(np.load(self.held_out_file))


def case(name: str, folder: Path) -> Case:
    """The case, made in `folder` unless it is there."""
    made = Case(name, folder / "float.onnx", folder / "calibration.npz", folder / "held_out.npz")
    if made.held_out_file.exists():
        return made
    folder.mkdir(parents=True, exist_ok=True)
    module = network(name)
    deployment = deployment_of(name)
    if deployment.inputs[0].dtype == "float32" and name not in TRAINED:
        settle(module)
    to_onnx(module, deployment, example_inputs(deployment), made.float_file)
    save_program(module, deployment, made.float_file.with_suffix(".pt2"))
    calibration, held_out = samples(name)
    _save(made.calibration_file, calibration)
    _save(made.held_out_file, held_out)  # the last file to be written
    return made


def _save(path: Path, arrays: Samples) -> None:
    np.savez(path, allow_pickle=False, **arrays)


def save_program(module: nn.Module, deployment: Deployment, path: Path) -> None:
    """The same network as torch's exported program, for peers that quantize those."""
    axes = tuple(
        {i: torch.export.Dim.DYNAMIC for i, size in enumerate(spec.shape) if isinstance(size, str)}
        for spec in deployment.inputs
    )
    program = torch.export.export(
        module, example_inputs(deployment), dynamic_shapes=dynamic_shapes(module, axes), strict=False
    )
    torch.export.save(program, path)


def network(name: str) -> nn.Module:
    """The network in evaluation mode, with published weights where there are such, else those of seed 0."""
    if name in TRAINED:
        arguments = {"num_classes": 10, "in_channels": 3, "width": 1.0, "shortcut": "A"}
        module = build(Factory("zoo", name, arguments), seed=0)
        load_weights(module, Path(os.environ["COMPRESS_DATA"]) / "models/resnet_cifar10" / TRAINED[name])
    elif name == "bert":
        names = ["input_ids", "attention_mask"]
        arguments = {"config": BERT, "head": "sequence-classification", "inputs": names}
        module = build(Factory("transformers", "bert", arguments), seed=0)
    else:
        config = {**CONFIGURATIONS[name], "num_labels": CLASSES}
        module = build(Factory("transformers", config["model_type"], {"config": config}), seed=0)
    return module.eval()


def deployment_of(name: str) -> Deployment:
    """What goes in and comes out."""
    if name == "bert":
        return Deployment(
            {"name": "text-classification", "arguments": {}},
            tuple(TensorSpec(key, "int64", ("batch", "sequence")) for key in ("input_ids", "attention_mask")),
            (TensorSpec("logits", "float32", ("batch", TOPICS)),),
            extra={"sizes": {"sequence": SEQUENCE}},
        )
    side, classes = (32, 10) if name in TRAINED else (224, CLASSES)
    return Deployment(
        {"name": "image-classification", "arguments": {}},
        (TensorSpec("input", "float32", ("batch", 3, side, side)),),
        (TensorSpec("logits", "float32", ("batch", classes)),),
    )


def samples(name: str) -> tuple[Samples, Samples]:
    """Calibration samples and held-out ones."""
    if name in TRAINED:
        data = cifar10(None)
        parts = ((data.train, CALIBRATION), (data.test, CIFAR_HELD_OUT))
        seen, unseen = (data.batch(split, np.arange(count)).inputs[0] for split, count in parts)
        return {"input": seen}, {"input": unseen}
    if name == "bert":
        return texts(CALIBRATION, 1), texts(HELD_OUT, 2)
    return {"input": images(CALIBRATION, 1).numpy()}, {"input": images(HELD_OUT, 2).numpy()}


def images(count: int, seed: int, side: int = 224) -> Tensor:
    """Smooth random images (N, 3, side, side), about normalized: noise at three scales, each with its own contrast."""
    draw = torch.Generator().manual_seed(seed)
    total = torch.zeros(count, 3, side, side)
    for cells in (4, 16, 64):
        noise = torch.randn(count, 3, cells, cells, generator=draw)
        contrast = torch.rand(count, 3, 1, 1, generator=draw)
        total += contrast * nn.functional.interpolate(noise, (side, side), mode="bilinear")
    return total + 0.5 * torch.randn(count, 3, 1, 1, generator=draw)


def texts(count: int, seed: int) -> Samples:
    """Random token ids of 16 to 128 tokens, between BERT's first and last one, padded to 128, with masks."""
    draw = np.random.default_rng(seed)
    ids, mask = np.zeros((count, SEQUENCE), np.int64), np.zeros((count, SEQUENCE), np.int64)
    for row, length in enumerate(draw.integers(16, SEQUENCE + 1, count)):
        ids[row, :length] = draw.integers(1000, VOCABULARY, length)
        ids[row, 0], ids[row, length - 1], mask[row, :length] = 101, 102, 1
    return {"input_ids": ids, "attention_mask": mask}


def settle(module: nn.Module, batches: int = 4, size: int = 16) -> None:
    """Give batch norms the mean and variance of what they see of random images, so that activations are in range.

    Scales become 1: with the small random ones that transformers gives EfficientNet's, activations fade to nothing.
    """
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.ones_(norm.weight)
        norm.momentum = None  # the mean over batches
        norm.reset_running_stats()
        norm.train()
    with torch.no_grad():
        for number in range(batches if norms else 0):
            module(images(size, 100 + number))
    module.eval()
