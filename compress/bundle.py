"""A model at rest: the model's files and `bundle.json`, the deployer's half, which every stage passes on."""

from __future__ import annotations

import enum
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

BUNDLE_FILE = "bundle.json"


class Kind(enum.StrEnum):
    """What lies in a bundle.

    `TORCH` is a float PyTorch model (`compress.models.rest`), `QUANTIZED` a fake-quantized one with its canonical ONNX
    graph (`compress.quantization.rest`), `ONNX` and `ENGINE` files to deploy, `RESPONSES` no model but texts that a
    teacher has written (`compress.generation.responses`).
    """

    TORCH = "torch"
    QUANTIZED = "quantized"
    ONNX = "onnx"
    ENGINE = "engine"
    RESPONSES = "responses"


@dataclass(frozen=True)
class TensorSpec:
    """An input or output: its name, NumPy dtype name and shape, whose dynamic axes are names (`"batch"`)."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Deployment:
    """What a deployer must know about a model besides its weights. Plain data.

    `preprocessing` is the list that `compress.data.preprocessing` reads; `task` is the task's settings as plain data;
    `labels` are class names in the order of the logits; `extra` holds what a kind of model adds.
    """

    task: dict[str, Any]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    preprocessing: tuple[dict[str, Any], ...] = ()
    labels: tuple[str, ...] | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain data, for `bundle.json` and the manifest."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Deployment:
        """The inverse of `as_json`, after a trip through JSON (which turns tuples into lists)."""

        def specs(items: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
            return tuple(TensorSpec(i["name"], i["dtype"], tuple(i["shape"])) for i in items)

        labels = data.get("labels")
        return cls(
            task=data["task"],
            inputs=specs(data["inputs"]),
            outputs=specs(data["outputs"]),
            preprocessing=tuple(data["preprocessing"]),
            labels=None if labels is None else tuple(labels),
            extra=data.get("extra", {}),
        )

    def with_extra(self, **extra: Any) -> Deployment:
        """A copy with more in `extra`."""
        return replace(self, extra={**self.extra, **extra})


@dataclass(frozen=True)
class Bundle:
    """A folder at rest, its kind, and the digest of its content (empty while it is in scratch)."""

    kind: Kind
    path: Path
    digest: str = ""

    @property
    def deployment(self) -> Deployment:
        """The deployer's half, read from `bundle.json`."""
        return Deployment.from_json(json.loads((self.path / BUNDLE_FILE).read_text())["deployment"])

    @property
    def model_file(self) -> Path:
        """The ONNX or engine file of a bundle of that kind."""
        return self.path / ("model.onnx" if self.kind is Kind.ONNX else "engine.plan")


def write_bundle(folder: Path, kind: Kind, deployment: Deployment | None = None) -> Bundle:
    """Write `bundle.json` into `folder`, whose files the caller has written or will write; texts have no deployment."""
    deployed = {} if deployment is None else {"deployment": deployment.as_json()}
    text = json.dumps({"format": 1, "kind": kind.value, **deployed}, indent=1, sort_keys=True)
    (folder / BUNDLE_FILE).write_text(text + "\n")
    return Bundle(kind, folder)


def read_bundle(folder: Path) -> Bundle:
    """The bundle that lies in `folder`."""
    return Bundle(Kind(json.loads((folder / BUNDLE_FILE).read_text())["kind"]), folder)
