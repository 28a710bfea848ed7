"""`compress doctor --target T`: whether a target can be measured on, what int8 is worth there, and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from compress.targets import examine
from compress.targets.emissions import ARM, VNNI, X86
from compress.targets.execution import Execution
from compress.targets.kinds import run_program
from compress.targets.settings import TargetSettings
from compress.targets.target import describe_tensorrt, facts_of
from compress.targets.tensorrt_settings import MAJOR, RUNTIME

LEAST_DISK_BYTES, LEAST_MEMORY_BYTES = 500 * 10**6, 300 * 10**6
HOT_C = 75.0
"""From here on small boards are about to slow down (a Raspberry Pi does at 80 degrees Celsius)."""
HALF_LOAD = 0.5
"""Load over a minute for each core from which other work is said to disturb."""


@dataclass(frozen=True)
class Finding:
    """Something to know: `wrong` (nothing can be measured), `warning` (times suffer) or `good`; and what to do."""

    level: str
    says: str
    do: str = ""


def examine_target(target: TargetSettings) -> dict[str, Any]:
    """What a target is and what is to be done, as plain data: `target`, `machine`, `found`, `findings`.

    Raises:
        UsageError: It refuses us, or has no Python that will do.
        UnreachableError: It is away.
    """
    facts = facts_of(target.model_copy(update={"runtime": "onnxruntime"}))
    found = run_program(target, Execution(Path(examine.__file__), {"folder": target.folder}))
    machine = dict(facts.machine)
    findings = [
        *packages(target, found),
        gpu_there(target) if target.runtime == RUNTIME else int8_there(machine),
        *disturbances(found, int(machine.get("cores") or 1)),
        *room(found),
    ]
    if facts.emulated:
        findings.append(Finding("warning", "its processor is emulated: answers count, its times mean nothing"))
    return {
        "target": target.name,
        "kind": target.kind,
        "machine": machine,
        "usable_cores": list(facts.usable_cores),
        "emulated": facts.emulated,
        "found": found,
        "findings": [asdict(finding) for finding in findings],
    }


def packages(target: TargetSettings, found: Mapping[str, Any]) -> list[Finding]:
    """What is there of what measuring needs, and how to install what is not."""
    needed = ("numpy", "tensorrt") if target.runtime == RUNTIME else ("numpy", "onnxruntime")
    there = found["packages"]
    missing = [name for name in needed if there[name]["version"] is None]
    findings = [Finding("good", f"{name} {there[name]['version']}") for name in needed if name not in missing]
    if missing:
        says = "; ".join(f"{name} cannot be imported ({there[name]['error']})" for name in missing)
        findings.append(Finding("wrong", says, install(target, missing, found["python"])))
    providers = there["onnxruntime"].get("providers")
    if target.runtime != RUNTIME and providers is not None and target.execution_provider not in providers:
        do = install(target, ["onnxruntime-gpu"], found["python"])
        findings.append(Finding("wrong", f"its ONNX Runtime has no {target.execution_provider}", do))
    return findings


def gpu_there(target: TargetSettings) -> Finding:
    """What TensorRT's engines would be built for there, or what is missing."""
    told = describe_tensorrt(target)
    if "error" in told:
        return Finding("wrong", str(told["error"]["message"]))
    driver = f" and driver {told['driver']}" if told["driver"] else ""
    memory = f"{told['used_bytes'] / 2**30:.1f} of {told['memory_bytes'] / 2**30:.1f} GiB of its memory in use"
    says = f"engines for {told['gpu']} (compute capability {told['compute_capability']}), CUDA {told['cuda']}{driver}"
    return Finding("good", f"{says}; {memory}")


def install(target: TargetSettings, names: Sequence[str], python: Mapping[str, Any]) -> str:
    """The commands that install packages for a target's Python, to be run there."""
    names = [f"'tensorrt=={MAJOR}.*'" if name == "tensorrt" else name for name in names]
    command = str(python["path"]) if target.is_local else target.python
    if python["externally_managed"] and not python["environment"]:
        home = "~/compress-python"
        return (
            f"{command} -m venv {home} && {home}/bin/pip install {' '.join(names)}   (then `python: {home}/bin/python` "
            "in the target)"
        )
    return f"{command} -m pip install {' '.join(names)}"


def int8_there(machine: Mapping[str, Any]) -> Finding:
    """Which int8 instructions a processor has, and what they mean."""
    architecture, features = str(machine["architecture"]).lower(), set(machine["features"])
    if architecture in X86:
        if wide := sorted(VNNI & features):
            return Finding("good", f"int8 by {', '.join(wide)}: products are summed without saturation; emit ort-x86")
        says = "no VNNI: sums of two int8 products can saturate, and int8 gains less over float"
        return Finding("warning", says, "emit ort-x86-avx2, whose weights have 7 bits")
    if architecture in ARM:
        if fast := [name for name in ("i8mm", "dotprod") if name in features]:
            return Finding("good", f"int8 by {', '.join(fast)}; emit ort-arm")
        if not features:
            return Finding(
                "warning", "its int8 instructions cannot be told", "emit ort-arm and measure whether it pays"
            )
        says = "neither dotprod nor i8mm: int8 is widened before it is multiplied, and gains little over float"
        return Finding("warning", says, "emit fp32 and ort-arm, and measure whether int8 pays")
    return Finding("warning", f"nothing is known of int8 on {architecture}", "emit fp32 and measure")


def disturbances(found: Mapping[str, Any], cores: int) -> list[Finding]:
    """What makes times unsteady: clocks, heat, other work."""
    findings = []
    slow = [name for name in found["governors"] if name != "performance"]
    if slow:
        do = "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
        if found["jetson"]:
            do = "sudo nvpmodel -m 0 && sudo jetson_clocks"
        findings.append(Finding("warning", f"its clock follows the load (governor {', '.join(slow)})", do))
    elif found["governors"]:
        findings.append(Finding("good", "its clock stands still (governor performance)"))
    hottest = max(found["temperatures_c"].values(), default=None)
    if hottest is not None and hottest >= HOT_C:
        findings.append(Finding("warning", f"it is hot: {hottest:.0f} °C", "let it cool down, or give it a fan"))
    if flags := found["throttling"]:
        do = "give it a stronger supply (undervoltage) or a fan (temperature), and start it anew"
        findings.append(Finding("warning", f"its firmware reports: {', '.join(flags)}", do))
    load = found["load_1min"]
    if load is not None and load > HALF_LOAD * cores:
        findings.append(Finding("warning", f"it is busy: {load:g} processes want its {cores} cores", "end other work"))
    return findings


def room(found: Mapping[str, Any]) -> list[Finding]:
    """Whether disk and memory suffice for the files and the runtime."""
    findings = []
    if found["free_bytes"] < LEAST_DISK_BYTES:
        says = f"{found['free_bytes'] / 1e6:.0f} MB of its disk are free"
        findings.append(Finding("warning", says, "free some, or name a folder with room: `folder:`"))
    available = found["memory_bytes"].get("available")
    if available is not None and available < LEAST_MEMORY_BYTES:
        findings.append(Finding("warning", f"{available / 1e6:.0f} MB of memory are available", "end other programs"))
    return findings


def rows(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What `examine_target` found as lines of a table: name, text."""
    machine, found = told["machine"], told["found"]
    memory = found["memory_bytes"]
    gigabytes = {name: f"{count / 1e9:.1f} GB" for name, count in memory.items()}
    temperatures = ", ".join(f"{name} {degrees:.0f} °C" for name, degrees in found["temperatures_c"].items())
    lines = [
        ("target", f"{told['target']} ({told['kind']})"),
        ("system", found["system"]),
        ("board", found["board"]),
        ("processor", f"{machine['cpu'] or machine['architecture']}, {len(told['usable_cores'])} usable cores"),
        ("features", ", ".join(machine["features"])),
        ("GPU", "; ".join(", ".join(gpu.values()) for gpu in found["gpus"])),
        ("Python", f"{found['python']['version']} ({found['python']['path']})"),
        ("memory", f"{gigabytes['available']} of {gigabytes['total']} available" if len(memory) == 2 else ""),
        ("free disk", f"{found['free_bytes'] / 1e9:.1f} GB"),
        ("temperature", temperatures),
        ("power mode", found["power_mode"]),
    ]
    return [(name, text) for name, text in lines if text]
