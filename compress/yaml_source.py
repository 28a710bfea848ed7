"""YAML with a memory: plain data, and for each place in it the line that it was written on.

Reads the core schema of YAML 1.2 (PyYAML alone reads 1.1, in which `1e-3` is text and `no` is a boolean), refuses
duplicate keys, tags and aliases that contain themselves, and changes values at addresses (`--set`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from compress.errors import Fault, UsageError

SET = "--set"
"""Stands in the place of a file's name for what the command line has put there."""
Place = tuple[str | int, ...]
"""Where a value stands: mapping keys and list positions, from the top."""

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOLEAN = re.compile(r"true|True|TRUE|false|False|FALSE")
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"([-+]?)\.(inf|Inf|INF|nan|NaN|NAN)")
_LONGEST_NUMBER = 400


class _Loader(yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader):  # type: ignore[misc]
    """Composes nodes only: every plain scalar stays text, which `scalar` reads."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012


@dataclass
class Source:
    """What a file says: `data`, the line of each place in it, and what was wrong with the YAML itself."""

    data: Any
    file: str = ""
    lines: dict[Place, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    overridden: set[Place] = field(default_factory=set)
    files: dict[Place, Source] = field(default_factory=dict)
    """What lies in files that `data` names, by the place of the name: those that were changed on the way."""

    def fault(self, place: Place, message: str) -> Fault:
        """A fault at `place`, with its YAML path and the line of the closest place that was written in the file."""
        for length in range(len(place), 0, -1):
            if place[:length] in self.overridden:
                return Fault(message, path_of(place), SET)
            if place[:length] in self.lines:
                return Fault(message, path_of(place), self.file, self.lines[place[:length]])
        return Fault(message, path_of(place), self.file)

    def set(self, place: Place, value: Any) -> None:
        """Put `value` at `place`, making mappings on the way; a message in ValueError if that cannot be done."""
        at = self.data
        for depth, part in enumerate(place[:-1]):
            if _child(at, part, path_of(place[:depth])) is None:
                at[part] = {}
                self.overridden.add(place[: depth + 1])
            at = at[part]
        _child(at, place[-1], path_of(place[:-1]))
        at[place[-1]] = value
        inside: list[dict[Place, Any]] = [self.lines, self.files]
        for known in inside:
            for below in [below for below in known if below[: len(place)] == place]:
                del known[below]
        self.overridden.add(place)


def _child(parent: Any, part: str | int, where: str) -> Any:
    if isinstance(parent, dict) and isinstance(part, str):
        return parent.get(part)
    if isinstance(parent, list) and isinstance(part, int):
        if part < len(parent):
            return parent[part]
        raise ValueError(f"{where} has {len(parent)} items, counted from 0")
    wanted = "a list" if isinstance(part, int) else "a mapping"
    raise ValueError(f"{where or 'the file'} is not {wanted}, so that nothing inside it can be set")


def path_of(place: Place) -> str:
    """`("stages", 1, "prune")` as `stages[1].prune`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")


def place_of(text: str) -> Place:
    """The inverse of `path_of`; ValueError with a message if `text` is no address."""
    if not re.fullmatch(r"[^.\[\]]+(\.[^.\[\]]+|\[[0-9]+\])*", text):
        raise ValueError(f"'{text}' is no address; write one like prune.keep.macs or stages[1].epochs")
    parts = re.findall(r"\[([0-9]+)\]|([^.\[\]]+)", text)
    return tuple(int(index) if index else name for index, name in parts)


def read_yaml(path: Path) -> Source:
    """The data in a YAML file. Raises UsageError if it cannot be read at all; lesser faults are in the result."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(Fault("no such file", file=str(path))) from None
    except IsADirectoryError:
        raise UsageError(Fault("is a folder, not a file", file=str(path))) from None
    except UnicodeDecodeError as error:
        raise UsageError(Fault(f"is not UTF-8 text ({error.reason} at byte {error.start})", file=str(path))) from None
    except OSError as error:
        raise UsageError(Fault(f"cannot be read: {error.strerror}", file=str(path))) from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, file: str = "") -> Source:
    """The data in `text`. Raises UsageError at the first place where it is not YAML at all."""
    source = Source(None, file)
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        said = [getattr(error, "context", None), getattr(error, "problem", None)]
        problem = ", ".join(part for part in said if part) or str(error).splitlines()[0]
        line = mark.line + 1 if mark is not None else None
        raise UsageError(Fault(f"is not valid YAML: {problem}", file=file, line=line)) from None
    if node is not None:
        source.data = _Reader(source).read(node, ())
    return source


PLAIN_TAGS = frozenset({"", "!", *(f"tag:yaml.org,2002:{name}" for name in ("str", "seq", "map"))})


class _Reader:
    """Turns nodes into plain data, filling a source's lines and faults."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.open: list[yaml.Node] = []

    def fault(self, node: yaml.Node, place: Place, message: str) -> None:
        self.source.faults.append(Fault(message, path_of(place), self.source.file, node.start_mark.line + 1))

    def read(self, node: yaml.Node, place: Place) -> Any:
        """The value of `node`, which stands at `place`."""
        self.source.lines.setdefault(place, node.start_mark.line + 1)
        if any(node is parent for parent in self.open):
            self.fault(node, place, "an alias may not contain itself")
            return None
        if node.tag not in PLAIN_TAGS:
            self.fault(node, place, f"the tag {node.tag} is not understood; write plain values")
            return None
        if isinstance(node, yaml.ScalarNode):
            return node.value if node.style else scalar(node.value)
        self.open.append(node)
        is_list = isinstance(node, yaml.SequenceNode)
        value = self.sequence(node, place) if is_list else self.mapping(node, place)
        self.open.pop()
        return value

    def sequence(self, node: yaml.Node, place: Place) -> list[Any]:
        """The items, each with its line."""
        return [self.read(item, (*place, index)) for index, item in enumerate(node.value)]

    def mapping(self, node: yaml.Node, place: Place) -> dict[str, Any]:
        """The entries, each with the line of its key; `<<` brings in entries that the mapping itself lacks."""
        result: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.fault(key, place, "a key must be a plain name")
            elif key.value == "<<" and not key.style:
                content = self.read(value, place)
                for part in content if isinstance(content, list) else [content]:
                    if isinstance(part, dict):
                        merged = {**part, **merged}
                    else:
                        self.fault(key, place, "`<<` must be given a mapping or a list of mappings")
            elif key.value in result:
                here = (*place, key.value)
                self.fault(key, here, f"this key was already given on line {self.source.lines[here]}")
            else:
                self.source.lines[(*place, key.value)] = key.start_mark.line + 1
                result[key.value] = self.read(value, (*place, key.value))
        return {**merged, **result}


def scalar(text: str) -> Any:
    """The value of a plain scalar by the core schema of YAML 1.2 (section 10.3.2)."""
    if _NULL.fullmatch(text):
        return None
    if _BOOLEAN.fullmatch(text):
        return text.lower() == "true"
    if _INTEGER.fullmatch(text) and len(text) < _LONGEST_NUMBER:
        return int(text) if not text.startswith(("0o", "0x")) else int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    if special := _SPECIAL.fullmatch(text):
        return float(special[1] + special[2].lower())
    return text


def as_mapping(value: Any) -> Mapping[str, Any]:
    """`value` if it is a mapping, else an empty one: for looking further after a fault was noted."""
    return value if isinstance(value, Mapping) else {}
