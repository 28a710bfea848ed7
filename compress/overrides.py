"""`--set prune.keep.macs=0.4`: values from the command line, put into the pipeline before it is checked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from compress.data.settings import data_file
from compress.errors import Fault, UsageError
from compress.suggest import unknown
from compress.targets.reading import from_address, target_file
from compress.targets.settings import DEFAULT_TARGETS
from compress.yaml_source import Place, Source, as_mapping, parse_yaml, place_of, read_yaml

BESIDE = ("name", "from")
"""Keys that stand beside a stage's verb."""
_NAMES_FILES: Mapping[str, tuple[int, Callable[[str, Path | None], Path]]] = {
    "data": (1, data_file),
    "targets": (2, target_file),
}
"""Top-level keys that may name files: how deep the names stand, and how the file of a name is found."""


def apply_overrides(
    source: Source,
    overrides: Sequence[str],
    names: Sequence[str | None],
    keys: Collection[str],
    base: Path | None = None,
) -> None:
    """Put each `address=value` into `source`, whose stages are called `names`; the file's own top level has `keys`.

    An address starts with a top-level key (`budget.speedup`, `models.student.width`, `stages[2].epochs`), a stage's
    name, or a verb that one stage alone has. The value is YAML. What cannot be put is added to `source.faults`.
    An address inside of data or a target that the file only names (`data.limit.train`, `targets[0].rounds`) means the
    content of that file, sought in `base`; it goes into `source.files`, and the file stays as it is.
    """
    for override in overrides:
        address, equals, text = override.partition("=")
        where = f"--set {override}"
        if not equals:
            source.faults.append(Fault("give a value: address=value", where))
            continue
        try:
            place = _in_file(place_of(address.strip()), source.data, names, keys)
            _put(source, place, _value(text), base)
        except ValueError as error:
            source.faults.append(Fault(str(error), where))


def _put(source: Source, place: Place, value: Any, base: Path | None) -> None:
    """Put a value into the pipeline, or into the content of a file that the pipeline names at the place's beginning."""
    depth, found = _NAMES_FILES.get(str(place[0]), (len(place), data_file))
    if place[0] == "targets" and len(place) > depth and "targets" not in source.data:
        source.data["targets"] = list(DEFAULT_TARGETS)
    name = _at(source.data, place[:depth])
    if len(place) > depth and isinstance(name, str) and (settings := from_address(name)):
        source.set(place[:depth], settings)
        name = settings
    if len(place) <= depth or not isinstance(name, str):
        source.set(place, value)
        return
    try:
        inner = source.files.get(place[:depth]) or read_yaml(found(name, base))
    except UsageError:  # said again where the name itself is read
        return
    try:
        inner.set(place[depth:], value)
    except ValueError as error:
        raise ValueError(f"in {inner.file}: {error}") from None
    source.files[place[:depth]] = inner


def _at(data: Any, place: Place) -> Any:
    """What stands at a place; None if there is nothing."""
    for part in place:
        try:
            data = data[part]
        except (LookupError, TypeError):
            return None
    return data


def _value(text: str) -> Any:
    try:
        parsed = parse_yaml(text)
    except UsageError as error:
        raise ValueError(f"the value {error.faults[0].message}") from None
    if parsed.faults:
        raise ValueError("; ".join(fault.message for fault in parsed.faults))
    return parsed.data


def _in_file(place: Place, data: Any, names: Sequence[str | None], keys: Collection[str]) -> Place:
    """The place in the file that an address means; ValueError if there is none."""
    first, rest = place[0], place[1:]
    if first in keys:
        if first != "stages" or not rest or not isinstance(rest[0], int):
            return place
        if rest[0] >= len(names):
            raise ValueError(f"there are {len(names)} stages, counted from 0")
        return _in_stage(rest[0], rest[1:], data)
    verbs = [verb_of(item) for item in as_mapping(data).get("stages") or []]
    if first in names:
        return _in_stage(names.index(str(first)), rest, data)
    if verbs.count(str(first)) > 1:
        which = ", ".join(f"{name}" for name, verb in zip(names, verbs, strict=True) if verb == first)
        raise ValueError(f"several stages are called by the verb '{first}': use a name ({which})")
    if first in verbs:
        return _in_stage(verbs.index(str(first)), rest, data)
    known = dict.fromkeys([*(name for name in names if name), *(verb for verb in verbs if verb), *keys])
    raise ValueError(unknown("stage or key", str(first), known))


def _in_stage(position: int, rest: Place, data: Any) -> Place:
    """A place inside a stage, with the verb put in where the address left it out."""
    verb = verb_of(data["stages"][position])
    if not rest:
        raise ValueError(f"name a key of the stage, such as {verb}.epochs")
    if rest[0] in BESIDE or verb is None:
        return ("stages", position, *rest)
    if rest[0] == verb:
        rest = rest[1:]
    return ("stages", position, verb, *rest)


def verb_of(item: Any) -> str | None:
    """The verb of a stage as it stands in the file; None if that cannot be told."""
    verbs = [key for key in as_mapping(item) if key not in BESIDE]
    return verbs[0] if verbs else None
