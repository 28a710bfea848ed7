"""Targets: the hardware that files will run on, and how they are measured there. Light: read to validate a pipeline."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from compress.data.locations import builtin_folder, find_path
from compress.errors import Fault, UsageError
from compress.settings import Settings
from compress.suggest import unknown
from compress.targets.measure import available_cores, machine
from compress.validation import validated
from compress.yaml_source import Source, read_yaml

KINDS = ("local",)
RUNTIMES = ("onnxruntime",)
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
"""Provider in YAML -> ONNX Runtime's name for it."""
DEFAULT_TARGETS = ("local",)
"""Where files are measured unless a pipeline says."""
FLOAT_EMISSIONS = ("fp32", "fp16", "bf16")
"""Those that compute in float."""
CALIBRATED_EMISSIONS = ("ort-x86", "ort-x86-avx2", "ort-arm", "tensorrt")
"""Those made of quantized networks, whose activations have ranges."""
UNCALIBRATED_EMISSIONS = ("ort-dynamic", "ort-weights8", "ort-weights4")
"""Those that round a float network as it is."""
EMISSIONS = (*FLOAT_EMISSIONS, *CALIBRATED_EMISSIONS, *UNCALIBRATED_EMISSIONS)
INTEGER_PRECISIONS = ("int8", "int4")
"""What a file is called that computes with integers."""
VNNI = frozenset({"avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8"})
"""Processors' features with which products of uint8 and int8 are added without saturation."""
X86, ARM = frozenset({"x86_64", "amd64", "i386", "i686"}), frozenset({"aarch64", "arm64", "armv8l", "armv7l"})


def _one_of(what: str, known: Iterable[str]) -> AfterValidator:
    def check(name: str) -> str:
        if name not in known:
            raise _refused(unknown(what, name, known))
        return name

    return AfterValidator(check)


def _refused(message: str) -> PydanticCustomError:
    return PydanticCustomError("refused", "{message}", {"message": message})


def _emissions(value: Any) -> Any:
    """`auto` or a list of known emissions, checked here so that a fault is one sentence."""
    if isinstance(value, str) and value != "auto":
        raise _refused(f"give `auto` or a list such as [{', '.join(EMISSIONS)}]")
    if isinstance(value, list | tuple) and (wrong := [name for name in value if name not in EMISSIONS]):
        raise _refused(unknown("emission", str(wrong[0]), EMISSIONS))
    return value


def precision_of(emission: str) -> str:
    """What the weights of a file are stored in: `fp32`, `fp16`, `bf16`, `int8` or `int4`."""
    if emission in FLOAT_EMISSIONS:
        return emission
    return "int4" if emission == "ort-weights4" else "int8"


Positive = Annotated[int, Field(ge=1)]


class TargetSettings(Settings):
    """The hardware that a file will run on, how it runs there, and how long it is measured."""

    name: str = Field("local", min_length=1, pattern=r"^[\w.\-]+$")
    """Name of the target in reports; a file's name by default."""
    kind: Annotated[str, _one_of("kind of target", KINDS)] = "local"
    """Where files are run: `local` is this machine."""
    runtime: Annotated[str, _one_of("runtime", RUNTIMES)] = "onnxruntime"
    """What runs the files: `onnxruntime`."""
    provider: Annotated[str, _one_of("provider", PROVIDERS)] = "cpu"
    """What ONNX Runtime computes with: `cpu`, or `cuda` with the package onnxruntime-gpu."""
    threads: int = Field(1, ge=1)
    """Threads that one call may use; the process is pinned to as many cores. 1 is what compares best."""
    cores: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """The cores to pin to, by number; null means the last `threads` of those that this process may use."""
    emit: Annotated[Literal["auto"] | tuple[str, ...], BeforeValidator(_emissions)] = "auto"
    """The ONNX emissions worth trying here; `auto` means fp32 and the int8 one that suits the processor."""
    batches: tuple[Positive, ...] = Field((1,), min_length=1)
    """Batch sizes to time call by call, in examples; a file whose batch is fixed is timed at that one."""
    throughput_batch: int = Field(32, ge=1)
    """Batch size at which throughput is measured and answers are computed, in examples."""
    shapes: dict[str, Positive] = Field(default_factory=dict)
    """Sizes of dynamic axes but the batch, such as {sequence: 64}; else that of the longest text, at most 128."""
    rounds: int = Field(8, ge=2)
    """Fresh processes per file, interleaved between the files; intervals come from the spread between rounds."""
    warmup_seconds: float = Field(0.04, ge=0)
    """Least time spent on unmeasured calls at the start of each process, in seconds; at least 20 calls unless slow."""
    seconds: float = Field(0.15, gt=0)
    """Time spent on measured calls in each process for each batch size, in seconds; at least 5 calls."""
    throughput_seconds: float = Field(0.05, gt=0)
    """Time spent on throughput in each process, in seconds; at least 2 calls."""

    @property
    def execution_provider(self) -> str:
        """ONNX Runtime's own name for the provider."""
        return PROVIDERS[self.provider]

    def faults(self) -> list[tuple[str, str]]:
        """(field, message) for each thing that this machine cannot do. Imports no runtime."""
        usable = available_cores()
        found = []
        if self.threads > len(usable):
            found.append(
                ("threads", f"{self.threads} threads asked for, but only {len(usable)} cores may be used here")
            )
        if missing := sorted(set(self.cores or ()) - set(usable)):
            found.append(("cores", f"no core {missing} may be used here (usable: {usable})"))
        elif self.cores is not None and len(set(self.cores)) < self.threads:
            found.append(("cores", f"{self.threads} threads need as many cores, but {list(self.cores)} were given"))
        if problem := _provider_problem(self.provider):
            found.append(("provider", problem))
        return found

    def fingerprint(self) -> str:
        """A digest of this machine's processor and the runtime's version: what results depend on besides settings."""
        facts = {"machine": machine(), "runtime": runtime_version()}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def runtime_version() -> str | None:
    """The installed ONNX Runtime as `distribution version`, found without importing it; None if there is none."""
    for distribution in ("onnxruntime-gpu", "onnxruntime"):
        try:
            return f"{distribution} {importlib.metadata.version(distribution)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _provider_problem(provider: str) -> str | None:
    """Why ONNX Runtime cannot use a provider here, or None; judged by what is installed, without importing it."""
    installed = runtime_version()
    if installed is None:
        return "ONNX Runtime is not installed: pip install onnxruntime"
    if provider == "cuda" and not installed.startswith("onnxruntime-gpu"):
        return f"provider 'cuda' needs the package onnxruntime-gpu, but {installed} is installed (or use provider: cpu)"
    if provider == "cuda" and shutil.which("nvidia-smi") is None:
        return "provider 'cuda' needs an NVIDIA GPU, but nvidia-smi is not found here (or use provider: cpu)"
    return None


def emissions(target: TargetSettings) -> list[str]:
    """The ONNX emissions worth making for a target, the float one first."""
    if target.emit != "auto":
        return list(target.emit)
    if target.provider != "cpu":
        return ["fp32"]
    found = machine()
    architecture = found["architecture"].lower()
    if architecture in X86:
        return ["fp32", "ort-x86" if VNNI.intersection(found["features"]) else "ort-x86-avx2"]
    return ["fp32", "ort-arm"] if architecture in ARM else ["fp32"]


def read_target(target: str | Path | Mapping[str, Any] | Source, base: Path | None = None) -> TargetSettings:
    """A target by its built-in name, the path of a file (tried in `base`, then in the working folder), or its settings.

    A `Source` is a target file that was read before.

    Raises:
        UsageError: It cannot be found or read, its settings are wrong, or this machine cannot do what it asks.
    """
    if isinstance(target, Mapping):
        return _read(Source(dict(target)), {})
    source = target if isinstance(target, Source) else read_yaml(target_file(str(target), base))
    return _read(source, {"name": Path(source.file).stem})


def target_file(name: str, base: Path | None) -> Path:
    """The file of a built-in target, or that of a path, which is sought in `base`, then in the working folder.

    Raises:
        UsageError: there is none.
    """
    if not name.endswith((".yaml", ".yml")) and "/" not in name and "\\" not in name:
        known = {path.stem: path for path in builtin_folder("targets").glob("*.yaml")}
        if name not in known:
            raise UsageError(f"{unknown('target', name, known)}; or give the path of a .yaml file")
        return known[name]
    try:
        return find_path(name, base)
    except ValueError as error:
        raise UsageError(Fault(f"target: {error}")) from None


def _read(source: Source, defaults: dict[str, Any]) -> TargetSettings:
    """Settings from plain data; every fault at once, each with its line."""
    faults = list(source.faults)
    settings = None
    if isinstance(source.data, dict):
        settings, more = validated(TargetSettings, {**defaults, **source.data}, source)
        faults += more
    else:
        faults.append(source.fault((), "a target is a mapping of settings, such as {runtime: onnxruntime, threads: 1}"))
    if settings is not None:
        faults += [source.fault((field,), message) for field, message in settings.faults()]
    if faults or settings is None:
        raise UsageError(faults)
    return settings
