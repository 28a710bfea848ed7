"""Targets: the hardware that files will run on, and how they are measured there. Light: read to validate a pipeline."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from compress.data.locations import builtin_folder, find_path
from compress.errors import Fault, UsageError
from compress.settings import Settings
from compress.suggest import unknown
from compress.targets import tensorrt_settings
from compress.targets.limits import Budget
from compress.targets.measuring.machine import available_cores
from compress.validation import validated
from compress.yaml_source import Source, read_yaml

KINDS = ("local", "ssh", "adb")
RUNTIMES = ("onnxruntime", tensorrt_settings.RUNTIME)
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


def read_target(target: str | Path | Mapping[str, Any] | Source, base: Path | None = None) -> TargetSettings:
    """A target by its built-in name, its address, the path of a file, or its settings.

    An address is `ssh://user@host:port` or `adb://serial`; a path is tried in `base`, then in the working folder; a
    `Source` is a target file that was read before.

    Raises:
        UsageError: It cannot be found or read, its settings are wrong, or this machine cannot do what it asks.
    """
    if isinstance(target, str) and (settings := from_address(target)):
        target = settings
    if isinstance(target, Mapping):
        return _read(Source(dict(target)), {"name": _name(target)}, base)
    source = target if isinstance(target, Source) else read_yaml(target_file(str(target), base))
    return _read(source, {"name": Path(source.file).stem}, Path(source.file).parent)


def from_address(text: str) -> dict[str, Any] | None:
    """The settings of the target at `ssh://user@host:port` or `adb://serial`; None for any other text."""
    found = re.fullmatch(r"(ssh|adb)://(.+)", text)
    return {"kind": found[1], ADDRESS[found[1]]: found[2].rstrip("/")} if found else None


def _name(settings: Mapping[str, Any]) -> str:
    """How a target without a name is called: for where it is, without the user and the port."""
    place = settings.get("host") or settings.get("serial") or "local"
    return re.sub(r"[^\w.\-]+", "-", re.sub(r":\d+$", "", str(place).rpartition("@")[2])).strip("-") or "local"


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


def _read(source: Source, defaults: dict[str, Any], base: Path | None) -> TargetSettings:
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
        if settings.ssh_config is not None:
            try:
                found = str(find_path(settings.ssh_config, base))
                settings = settings.model_copy(update={"ssh_config": found})
            except ValueError as error:
                faults.append(source.fault(("ssh_config",), str(error)))
    if faults or settings is None:
        raise UsageError(faults)
    return settings
