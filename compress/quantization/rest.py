"""A quantized network at rest: the float network's folder, how it was prepared, and the state; no pickle."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch.fx import GraphModule

from compress.bundle import BUNDLE_FILE, Deployment, read_bundle
from compress.errors import UsageError
from compress.exporting.torch_onnx import DEFAULT_OPSET, example_inputs, save
from compress.models import rest
from compress.quantization.convert import canonical
from compress.quantization.prepare import prepare
from compress.quantization.stage import Quantize
from compress.training.state import restore, tensors_of

FLOAT_FOLDER = "float"
SETTINGS_FILE = "quantization.json"
STATE_FILE = "quantized.safetensors"
CANONICAL_FILE = "canonical.onnx"


@dataclass(frozen=True)
class Preparation:
    """What `prepare` was told."""

    symmetric: bool = False
    weight_bits: int = 8
    ignore: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: Quantize, ignore: tuple[str, ...]) -> Preparation:
        """From a stage's settings, and what in the end stayed in float."""
        return cls(settings.symmetric, settings.bits, ignore)


def save_quantized(
    model: GraphModule, preparation: Preparation, float_folder: Path, deployment: Deployment, folder: Path
) -> None:
    """Write a prepared model, made from the float network in `float_folder`, and its canonical graph into `folder`.

    The caller writes `bundle.json`.

    Raises:
        StageError: The model cannot be exported to ONNX.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(float_folder, folder / FLOAT_FOLDER, ignore=shutil.ignore_patterns(BUNDLE_FILE), dirs_exist_ok=True)
    tensors = {name: tensor.cpu().clone().contiguous() for name, tensor in tensors_of(model).items()}
    save_file(tensors, folder / STATE_FILE)
    content = {"format": 1, **asdict(preparation), "state_sha256": rest.state_digest(model)}
    (folder / SETTINGS_FILE).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    save(canonical(model, deployment, example_inputs(deployment), DEFAULT_OPSET), folder / CANONICAL_FILE)


def load_quantized(folder: Path) -> GraphModule:
    """The prepared model that lies in `folder`, in evaluation mode, bit-equal to the one that was saved.

    Raises:
        UsageError: Its files are absent, changed, or torch now traces the network otherwise.
    """
    from safetensors.torch import load_file

    content = _read(folder)
    deployment = read_bundle(folder).deployment
    model = prepare(
        rest.load(folder / FLOAT_FOLDER),
        example_inputs(deployment, nominal=True),
        symmetric=content["symmetric"],
        weight_bits=content["weight_bits"],
        ignore=tuple(content["ignore"]),
    )
    try:
        restore(model, load_file(folder / STATE_FILE))
    except ValueError as error:
        raise UsageError(f"{folder}: this version of torch traces the network otherwise: {error}") from error
    if rest.state_digest(model) != content["state_sha256"]:
        raise UsageError(f"{folder / STATE_FILE}: the state is not the one that was written")
    return model


def _read(folder: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads((folder / SETTINGS_FILE).read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder}: holds no quantized network: {error}") from error
    return content
