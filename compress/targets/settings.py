"""Targets: the hardware that files will run on, and how they are measured there. Light: read to validate a pipeline."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from compress.settings import Settings
from compress.suggest import unknown
from compress.targets import tensorrt_settings
from compress.targets.emissions import EMISSIONS
from compress.targets.limits import Budget
from compress.targets.measuring.machine import available_cores

KINDS = ("local", "ssh", "adb")
RUNTIMES = ("onnxruntime", tensorrt_settings.RUNTIME)
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
"""Provider in YAML -> ONNX Runtime's name for it."""
DEFAULT_TARGETS = ("local",)
"""Where files are measured unless a pipeline says."""


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


Positive = Annotated[int, Field(ge=1)]
ADDRESS = {"ssh": "host", "adb": "serial"}
"""What says where a target of a kind is."""
ELSEWHERE = ("python", "folder", "emulated")
"""Settings that only targets on other machines have."""


class EvaluateSettings(Settings):
    """How much of the data accuracy is measured on here."""

    samples: int | None = Field(None, ge=1)
    """Examples of each split, the first ones, that are sent and answered; null: all. The report says so."""


class TargetSettings(Settings):
    """The hardware that a file will run on, how it runs there, and how long it is measured."""

    name: str = Field("local", min_length=1, pattern=r"^[\w.\-]+$")
    """Name of the target in reports; a file's name by default."""
    kind: Annotated[str, _one_of("kind of target", KINDS)] = "local"
    """Where files are run: `local` is this machine; `ssh` one behind OpenSSH; `adb` an Android device."""
    host: str | None = Field(None, pattern=r"^[^\s-]\S*$")
    """Of `ssh`: `user@host`, `user@host:port` or a name of your ssh configuration."""
    ssh_config: str | None = None
    """Of `ssh`: a configuration file to use in place of your own, such as ./ssh_config."""
    serial: str | None = Field(None, pattern=r"^[^\s-]\S*$")
    """Of `adb`: the device's serial number, as `adb devices` lists it."""
    perf_test: str | None = None
    """Of `adb`: a path of onnxruntime_perf_test on the device, used in place of Python: times, but no answers."""
    python: str = Field("python3", min_length=1)
    """Of `ssh` and `adb`: the device's Python (3.9 or later, with numpy and onnxruntime): a path, or a command."""
    folder: str | None = None
    """Of `ssh` and `adb`: a folder on the device for what is sent, removed at the end; null: a temporary one."""
    emulated: bool = False
    """Its processor is emulated: answers count, times mean nothing and are not compared. Found out where it can be."""
    runtime: Annotated[str, _one_of("runtime", RUNTIMES)] = "onnxruntime"
    """What runs the files: `onnxruntime`, or `tensorrt` (11), which builds an engine of each file on the target."""
    provider: Annotated[str, _one_of("provider", PROVIDERS)] = "cpu"
    """What ONNX Runtime computes with: `cpu`, or `cuda` with the package onnxruntime-gpu. TensorRT implies `cuda`."""
    workspace_mib: Positive | None = None
    """Of `runtime: tensorrt`: most memory of the GPU that one layer may work with, in MiB; null: all of it."""
    timing_cache: bool = True
    """Of `runtime: tensorrt`: keep how long kernels took: the next engine is built faster, of the same ones."""
    threads: int = Field(1, ge=1)
    """Threads that one call may use; the process is pinned to as many cores. 1 is what compares best."""
    also_threads: tuple[Positive, ...] = ()
    """Other numbers of threads at which files are timed too, such as [2, 4]; what is chosen is chosen at `threads`."""
    cores: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """The cores to pin to, by number; null means the last `threads` of those that this process may use."""
    emit: Annotated[Literal["auto"] | tuple[str, ...], BeforeValidator(_emissions)] = "auto"
    """The ONNX emissions worth trying here; `auto` means fp32 and the int8 one that suits the processor."""
    batches: tuple[Positive, ...] = Field((1,), min_length=1)
    """Batch sizes to time call by call, in examples; a file whose batch is fixed is timed at that one."""
    throughput_batch: Positive | Annotated[tuple[Positive, ...], Field(min_length=1)] = 32
    """Batch size, or a list of them, at which throughput is measured, in examples; the largest is that of answers."""
    shapes: dict[str, Positive] = Field(default_factory=dict)
    """Sizes of dynamic axes but the batch, such as {sequence: 64}; else that of the longest text, at most 128."""
    mode: Literal["quick", "full"] = "quick"
    """`quick`: p90 and p99 are of the calls made; `full`: MLPerf's early stopping, at 99 % confidence or not at all."""
    least_seconds: float = Field(60, ge=0)
    """In mode `full`: least time of each file and batch size, all rounds together, in seconds (MLPerf's: 600)."""
    rounds: int = Field(8, ge=2)
    """Fresh processes per file, interleaved between the files; intervals come from the spread between rounds."""
    warmup_seconds: float = Field(0.04, ge=0)
    """Least time spent on unmeasured calls at the start of each process, in seconds; at least 20 calls unless slow."""
    seconds: float = Field(0.15, gt=0)
    """Time spent on measured calls in each process for each batch size, in seconds; at least 5 calls."""
    throughput_seconds: float = Field(0.05, gt=0)
    """Time spent on throughput in each process, in seconds; at least 2 calls."""

    evaluate: EvaluateSettings = EvaluateSettings()
    """How much of the data accuracy is measured on here."""
    budget: Budget = Budget()
    """What a file to deploy here must keep to, besides or in place of the same limits of the pipeline."""

    @model_validator(mode="after")
    def _implied(self) -> Self:
        self.__dict__.update(tensorrt_settings.implied(self.runtime, self.model_fields_set))
        return self

    @property
    def is_local(self) -> bool:
        """Whether it is this machine."""
        return self.kind == "local"

    @property
    def execution_provider(self) -> str:
        """ONNX Runtime's own name for the provider."""
        return PROVIDERS[self.provider]

    @property
    def throughput_batches(self) -> tuple[int, ...]:
        """The batch sizes at which throughput is measured, in increasing order."""
        given = self.throughput_batch
        return (given,) if isinstance(given, int) else tuple(sorted(set(given)))

    @property
    def answers_batch(self) -> int:
        """The batch size at which answers are computed."""
        return self.throughput_batches[-1]

    def faults(self) -> list[tuple[str, str]]:
        """(field, message) for each thing that this machine cannot do. Imports no runtime."""
        found = self._address_faults()
        found += tensorrt_settings.faults(self.model_dump(mode="json"), self.also_threads, self.emit)
        most = max((self.threads, *self.also_threads))
        if self.cores is not None and len(set(self.cores)) < most:
            found.append(("cores", f"{most} threads need as many cores, but {list(self.cores)} were given"))
        return found + self._faults_here() if self.is_local else found

    def _address_faults(self) -> list[tuple[str, str]]:
        """What is missing of the address, or belongs to another kind of target."""
        found = []
        for kind, field in {**ADDRESS, "ssh_config": "ssh_config", "perf_test": "perf_test"}.items():
            given = getattr(self, field) is not None
            owner = {"ssh_config": "ssh", "perf_test": "adb"}.get(kind, kind)
            if owner == self.kind and field in ADDRESS.values() and not given:
                example = "user@raspberrypi.local" if field == "host" else "R58M123ABC, as `adb devices` lists it"
                found.append((field, f"is missing: where a target of kind `{kind}` is, such as {example}"))
            if owner != self.kind and given:
                found.append((field, f"belongs to a target of kind `{owner}`; this one is `{self.kind}`"))
        if self.is_local:
            defaults = {name: type(self).model_fields[name].default for name in ELSEWHERE}
            found += [
                (name, "belongs to a target on another machine; this one is `local`")
                for name, value in defaults.items()
                if getattr(self, name) != value
            ]
        return found

    def _faults_here(self) -> list[tuple[str, str]]:
        """What this machine cannot do."""
        usable, found = available_cores(), []
        for key, most in (("threads", self.threads), ("also_threads", max(self.also_threads, default=1))):
            if most > len(usable):
                found.append((key, f"{most} threads asked for, but only {len(usable)} cores may be used here"))
        if missing := sorted(set(self.cores or ()) - set(usable)):
            found.append(("cores", f"no core {missing} may be used here (usable: {usable})"))
        if self.runtime == "onnxruntime" and (problem := _provider_problem(self.provider)):
            found.append(("provider", problem))
        return found


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
