"""Reads a target: by its built-in name, its address, the path of a file, or its settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compress.data.locations import builtin_folder, find_path
from compress.errors import Fault, UsageError
from compress.suggest import unknown
from compress.targets.settings import ADDRESS, TargetSettings
from compress.validation import validated
from compress.yaml_source import Source, read_yaml


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
