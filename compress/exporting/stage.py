"""The `export` stage: from a torch model to ONNX files, one for each kind of hardware."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from compress.bundle import Bundle, Kind
from compress.errors import UsageError
from compress.stage import Context, Metrics, Stage

Emission = Literal[
    "fp32", "fp16", "bf16", "ort-x86", "ort-x86-avx2", "ort-arm", "tensorrt", "ort-dynamic", "ort-weights8",
    "ort-weights4",
]  # fmt: skip


class Export(Stage):
    """Write ONNX files and check that each gives the torch model's answers on real examples."""

    verb: ClassVar[str] = "export"
    version: ClassVar[int] = 3
    takes: ClassVar[Mapping[str, tuple[Kind, ...]]] = {"source": (Kind.TORCH, Kind.QUANTIZED)}
    gives: ClassVar[Kind | None] = Kind.ONNX
    reads: ClassVar[frozenset[str]] = frozenset({"data"})

    model: str | None = None
    """Name of the model or stage to export; by default the model before this stage."""
    emit: Literal["auto"] | tuple[Emission, ...] = "auto"
    """Which files: float ones (`fp32`, `fp16`, `bf16`); int8 ones of a quantized network: `ort-x86` for processors with
    VNNI, `ort-x86-avx2` for those without (needs `weight_bits: 7`), `ort-arm`, `tensorrt` (needs `grid: symmetric`); of
    a float network whose linear layers do the work, without calibration: `ort-dynamic` (int8, scales as inputs come),
    `ort-weights8` and `ort-weights4` (a scale for each block of 32 weights). `auto` takes what the targets need."""
    batch: int | None = Field(None, ge=1)
    """A fixed batch size; by default the file takes any."""
    axes: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """Sizes of other dynamic axes to fix, such as {sequence: 128}; texts are filled up to them."""
    mobile: bool = False
    """Also write `model.ort`, ONNX Runtime's format for phones, and `required_operators.config` for builds of it."""
    opset: int = Field(18, ge=18, le=23)
    """Version of ONNX's operator set; 18 is what every runtime of the last years reads."""
    parity_examples: int = Field(64, ge=1)
    """Validation examples on which a file must give the torch model's answers."""

    @property
    def sizes(self) -> dict[str, int]:
        """Axes that are fixed, by name."""
        return {**({} if self.batch is None else {"batch": self.batch}), **self.axes}

    def references(self) -> dict[str, str | None]:
        """The model to export."""
        return {"source": self.model}

    def faults(self) -> list[tuple[str, str]]:
        """An empty or repeating list of files, or files that the runtime has no kernels for."""
        if "batch" in self.axes:
            return [("axes", "the batch is fixed by `batch`, the other axes here")]
        if self.mobile and "bf16" in self.emit:
            return [("mobile", "ONNX Runtime's CPU provider cannot run `bf16`: leave it out of `emit`")]
        if self.emit != "auto" and (not self.emit or len(set(self.emit)) != len(self.emit)):
            return [("emit", "name each file once, and at least one; or write `auto`")]
        return []

    def run(self, inputs: Mapping[str, Bundle], out: Path, context: Context) -> Metrics:
        """Write the one file that `emit` names; a plan has one such step per file."""
        from compress.exporting.run import export_emission

        if self.emit == "auto" or len(self.emit) != 1:
            raise UsageError("export writes one file per step: give `emit` one name, such as [fp32]")
        return export_emission(inputs["source"], self.emit[0], out, self, context)
