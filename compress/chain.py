"""Who reads what: the stages of a pipeline, linked to the models and stages whose output each goes on from.

A model's name means its latest state above the line, a stage's name its output; without a name, a stage goes on from
the stage above it (over those that only measure), the first one from the only model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from compress.bundle import Kind
from compress.stage import Stage
from compress.suggest import unknown

SOURCE = "source"
WORDS = {
    Kind.TORCH: "a float network",
    Kind.QUANTIZED: "a quantized network",
    Kind.ONNX: "an exported file",
    Kind.ENGINE: "an engine",
}


@dataclass(frozen=True)
class Origin:
    """What a stage reads: `model` in the state that the stage named `stage` gave it; None: as it is made or loaded."""

    model: str
    stage: str | None = None


@dataclass(frozen=True)
class Link:
    """One stage as far as it could be read: `stage` is None if its settings are wrong, which is told elsewhere."""

    name: str
    stage_type: type[Stage]
    stage: Stage | None
    source: str | None = None


Inputs = Mapping[str, Origin]
ChainFault = tuple[int, str, str]
"""Position of the stage, the key at fault (`from`, or one of the stage's own), message."""


@dataclass
class _State:
    """What exists above a line. A None for an origin or a kind: a stage above is wrong, so nothing is known."""

    outputs: dict[str, tuple[Origin | None, Kind | None]] = field(default_factory=dict)
    latest: dict[str, tuple[Origin | None, Kind | None]] = field(default_factory=dict)
    before: str | None = None


def linked(links: Sequence[Link], models: Mapping[str, bool]) -> tuple[list[Inputs], list[ChainFault]]:
    """For each stage what it reads by role, and what is wrong with that.

    `models` says of each model whether it is of use untrained (it has weights, or nobody can tell).
    """
    state = _State(latest={model: (Origin(model), Kind.TORCH) for model in models})
    inputs: list[Inputs] = []
    faults: list[ChainFault] = []
    for position, link in enumerate(links):
        found: dict[str, Origin] = {}
        lineage: Origin | None = None
        for role, key, name in _references(link):
            later = [other.name for other in links[position:]]
            origin, message = _resolved(name, link, role, state, later)
            if origin is not None and role != SOURCE and origin.stage is None and not models[origin.model]:
                message = (
                    message or f"the {role} '{origin.model}' is untrained here: train it above, or give it weights"
                )
            if message:
                faults.append((position, key, message))
            elif origin is not None:
                found[role] = origin
            lineage = origin if role == SOURCE else lineage
        inputs.append(found)
        _advance(state, link, lineage)
    return inputs, faults


def _references(link: Link) -> Iterator[tuple[str, str, str | None]]:
    """(role, key in the file, name or None) for each thing that a stage reads."""
    if link.stage is None:
        return
    fields = link.stage_type.model_fields
    for role, name in link.stage.references().items():
        if role != SOURCE:
            yield role, role if role in fields else "", name
        elif link.source is not None:
            yield role, "from", link.source
        else:
            yield role, "model" if "model" in fields else "", name


def _resolved(
    name: str | None, link: Link, role: str, state: _State, later: Sequence[str]
) -> tuple[Origin | None, str | None]:
    """The origin that `name` means, and what is wrong with it; neither if a wrong stage above hides it."""
    if name is None and state.before is None:
        return _only_model(state)
    name = name or str(state.before)
    if name not in state.outputs and name not in state.latest:
        return None, _not_above(name, link, state, later)
    origin, kind = state.outputs.get(name) or state.latest[name]
    if kind is None or origin is None:
        return None, None if origin is None else f"stage '{name}' gives no model"
    return origin, None if kind in link.stage_type.takes[role] else _wrong_kind(name, kind, link, role, state)


def _not_above(name: str, link: Link, state: _State, later: Sequence[str]) -> str:
    """Why there is nothing of that name above a stage."""
    if name == link.name:
        return f"'{name}' is this stage itself; name a model or a stage above"
    if name in later:
        return f"stage '{name}' comes later; only models and stages above can be read"
    return unknown("model or stage", name, [*state.latest, *state.outputs])


def _only_model(state: _State) -> tuple[Origin | None, str | None]:
    if len(state.latest) == 1:
        return Origin(next(iter(state.latest))), None
    if not state.latest:
        return None, None
    return None, f"no stage stands above; say which model: one of {', '.join(state.latest)}"


def _wrong_kind(name: str, kind: Kind, link: Link, role: str, state: _State) -> str:
    """Why two stages cannot follow each other, and what could be read in place of the first."""
    verb, wanted = link.stage_type.verb, link.stage_type.takes[role]
    text = (
        f"{verb} needs {' or '.join(WORDS[k] for k in wanted)}, but '{name}' gives {WORDS[kind]}: put {verb} above it"
    )
    origin, _ = state.outputs.get(name) or state.latest[name]
    for other, (earlier, earlier_kind) in reversed(state.outputs.items()):
        if earlier is not None and origin is not None and earlier.model == origin.model and earlier_kind in wanted:
            key = "from" if role == SOURCE else role
            return f"{text}, or say `{key}: {other}`"
    return text


def _advance(state: _State, link: Link, lineage: Origin | None) -> None:
    """What exists below a stage that went on from `lineage`."""
    gives = link.stage_type.gives
    if gives is None:
        state.outputs[link.name] = (lineage, None)
        return
    state.before = link.name
    output = None if lineage is None else Origin(lineage.model, link.name)
    state.outputs[link.name] = (output, gives)
    if gives in (Kind.TORCH, Kind.QUANTIZED):
        for model in [output.model] if output else list(state.latest):
            state.latest[model] = (output, gives)
