"""Who reads what: the stages of a pipeline, linked to the models and stages whose output each goes on from.

A model's name means its latest state above the line that the stage can read (quantizing a network does not hide the
float one from a teacher's name), a stage's name its output; without a name, a stage goes on from the stage above it
(over those that only measure), the first one from the only model.
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
    Kind.RESPONSES: "texts",
}


@dataclass(frozen=True)
class Origin:
    """What a stage reads: `model` in the state that the stage named `stage` gave it; None: as it is made or loaded.

    Texts that no model of the pipeline has written come from the model `""`.
    """

    model: str
    stage: str | None = None


@dataclass(frozen=True)
class Link:
    """One stage as far as it could be read, its own faults being told elsewhere.

    `stage` is None if not even its verb is known; of a `partial` one only the names that it gives can be trusted.
    """

    name: str
    stage: Stage | None
    source: str | None = None
    partial: bool = False


Inputs = Mapping[str, Origin]
ChainFault = tuple[int, str, str]
"""Position of the stage, the key at fault (`from`, or one of the stage's own), message."""


@dataclass(frozen=True)
class _Reference:
    """One thing that a stage reads: its role, the key that names it, the name (None: the model before), its kinds."""

    role: str
    key: str
    name: str | None
    kinds: tuple[Kind, ...]
    verb: str


@dataclass
class _State:
    """What exists above a line. A None for an origin or a kind: a stage above is wrong, so nothing is known."""

    outputs: dict[str, tuple[Origin | None, Kind | None]] = field(default_factory=dict)
    history: dict[str, list[tuple[Origin | None, Kind | None]]] = field(default_factory=dict)
    before: str | None = None


def linked(links: Sequence[Link], models: Mapping[str, bool]) -> tuple[list[Inputs], list[ChainFault]]:
    """For each stage what it reads by role, and what is wrong with that.

    `models` says of each model whether it is of use untrained (it has weights, or nobody can tell).
    """
    state = _State(history={model: [(Origin(model), Kind.TORCH)] for model in models})
    inputs: list[Inputs] = []
    faults: list[ChainFault] = []
    for position, link in enumerate(links):
        found: dict[str, Origin] = {}
        below = [other.name for other in links[position + 1 :]]
        for reference in _references(link):
            origin, message = _resolved(reference, state)
            if origin is None and message and reference.name is not None:
                message = _not_above(reference.name, link.name, below) or message
            elif origin is not None and not message and _must_be_trained(reference, link) and origin.stage is None:
                role = "model" if reference.role == SOURCE else reference.role
                hint = "is untrained here: train it above, or give it weights"
                message = None if models[origin.model] else f"the {role} '{origin.model}' {hint}"
            if message:
                faults.append((position, reference.key, message))
            if origin is not None:
                found[reference.role] = origin
        if link.source is not None and link.stage is not None and SOURCE not in link.stage.references():
            faults.append((position, "from", f"has no effect: this {link.stage.verb} reads no model"))
        inputs.append(found)
        _advance(state, link, found.get(SOURCE))
    return inputs, faults


def _must_be_trained(reference: _Reference, link: Link) -> bool:
    """Models that teach must know something: those beside the one that a stage works on, and those that write."""
    return reference.role != SOURCE or (link.stage is not None and link.stage.gives is Kind.RESPONSES)


def _references(link: Link) -> Iterator[_Reference]:
    if link.stage is None:
        return
    fields = type(link.stage).model_fields
    for role, name in link.stage.references().items():
        key = "model" if role == SOURCE else role.partition("-")[0]
        key = key if key in fields else ""
        if role == SOURCE and link.source is not None:
            name, key = link.source, "from"  # noqa: PLW2901 - `from:` stands for the first thing read
        if name is not None or not link.partial:
            yield _Reference(role, key, name, tuple(link.stage.accepts(role)), link.stage.verb)


def _resolved(reference: _Reference, state: _State) -> tuple[Origin | None, str | None]:
    """The origin that a name means, and what is wrong with it; neither if a wrong stage above hides it."""
    if reference.name is None and state.before is None:
        if len(state.history) == 1:
            return Origin(next(iter(state.history))), None
        return None, f"no stage stands above; say which model: one of {', '.join(state.history)}"
    name = reference.name or str(state.before)
    if name not in state.outputs and name not in state.history:
        return None, unknown("model or stage", name, [*state.history, *state.outputs])
    origin, kind = state.outputs.get(name) or _latest(state.history[name], reference.kinds)
    if origin is not None and kind is None:
        return None, f"stage '{name}' gives no model"
    if origin is None or kind in reference.kinds:
        return origin, None
    return origin, _wrong_kind(reference, name, state)


def _latest(
    states: Sequence[tuple[Origin | None, Kind | None]], kinds: Sequence[Kind]
) -> tuple[Origin | None, Kind | None]:
    """The last state that is of one of `kinds`, or unknown; the last of all if none is."""
    return next((state for state in reversed(states) if state[1] is None or state[1] in kinds), states[-1])


def _not_above(name: str, own: str, below: Sequence[str]) -> str | None:
    """Why a stage is not above that exists all the same."""
    if name == own:
        return f"'{name}' is this stage itself; name a model or a stage above"
    return f"stage '{name}' comes later; only models and stages above can be read" if name in below else None


def _wrong_kind(reference: _Reference, name: str, state: _State) -> str:
    """Why two stages cannot follow each other, and what could be read in place of the first."""
    origin, kind = state.outputs.get(name) or state.history[name][-1]
    needs = " or ".join(WORDS[accepted] for accepted in reference.kinds)
    gives = WORDS[kind] if kind else "nothing"
    if kind is Kind.RESPONSES:
        told = f"'{name}' gives texts, which train and distill learn as `on: {name}`"
        return f"{reference.verb} needs {needs}, but {told}"
    if Kind.RESPONSES in reference.kinds:
        return f"'{name}' gives {gives}, not texts: name a `generate` stage"
    text = f"{reference.verb} needs {needs}, but '{name}' gives {gives}: put {reference.verb} above it"
    for other, (earlier, earlier_kind) in reversed(state.outputs.items()):
        same = earlier is not None and origin is not None and earlier.model == origin.model
        if same and earlier_kind in reference.kinds:
            return f"{text}, or say `{'from' if reference.role == SOURCE else reference.role}: {other}`"
    return text


def _advance(state: _State, link: Link, lineage: Origin | None) -> None:
    """What exists below a stage that went on from `lineage`."""
    gives = link.stage.gives if link.stage is not None else None
    if link.stage is not None and gives is None:
        state.outputs[link.name] = (lineage, None)
        return
    if link.stage is not None and gives is Kind.RESPONSES:  # beside the models: what follows goes on from those
        own = SOURCE not in link.stage.references()
        origin = Origin("", link.name) if own else None if lineage is None else Origin(lineage.model, link.name)
        state.outputs[link.name] = (origin, gives)
        return
    output = None if lineage is None else Origin(lineage.model, link.name)
    state.before = link.name
    state.outputs[link.name] = (output, gives)
    if gives in (None, Kind.TORCH, Kind.QUANTIZED):
        for model in [output.model] if output else state.history:
            state.history[model].append((output, gives if output else None))
