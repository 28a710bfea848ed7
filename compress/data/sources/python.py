"""Examples from a function of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from compress.data.columns import Wanted, open_columns
from compress.data.source_settings import PythonFunction
from compress.data.split_names import SPLITS
from compress.data.splits import ArraySplit, Indices, Opened, Split, target_array
from compress.data.text_settings import TextSettings
from compress.errors import UsageError
from compress.user_code import call, load_function

Array = npt.NDArray[Any]

_PAIR = ("input", "target")


@dataclass(frozen=True)
class ItemSplit:
    """A sequence whose items are (input, target). Its attribute `targets`, if it has one, saves reading every item.

    `names` say what an item holds.
    """

    items: Any
    function: str
    names: tuple[str, ...] = _PAIR

    def __len__(self) -> int:
        return len(self.items)

    def raw(self, indices: Indices) -> list[Array]:
        """The inputs, as arrays."""
        return [np.asarray(self._item(int(index))[0]) for index in indices]

    def targets(self, indices: Indices) -> Array:
        """The targets, as an array."""
        return target_array(self._targets[np.asarray(indices, dtype=np.int64)])

    @cached_property
    def _targets(self) -> Array:
        known = getattr(self.items, "targets", None)
        if known is not None and not callable(known):
            targets = _targets_of(lambda: np.asarray(known), self.function)
        else:
            each = [self._item(index)[1] for index in range(len(self))]
            targets = _targets_of(lambda: np.stack([np.asarray(target) for target in each]), self.function)
        if len(targets) != len(self):
            raise UsageError(f"data: {self.function}: {len(self)} examples, but {len(targets)} in `targets`")
        return targets

    def _item(self, index: int) -> tuple[Any, ...]:
        item = call(self.function, self.items.__getitem__, index)
        if not isinstance(item, tuple | list) or len(item) != len(self.names):
            wanted = ", ".join(self.names)
            raise UsageError(f"data: {self.function}: item {index} must be ({wanted}), got {_brief(item)}")
        return tuple(item)


def open_python(settings: PythonFunction, labels: tuple[str, ...] | None, text: TextSettings | None = None) -> Opened:
    """What the function returns, as splits; with `text` inputs are strings, or tuples of two; rationales come third.

    Raises:
        UsageError: the function fails, or returns something else than its contract says.
    """
    spec = settings.function
    returned = call(spec, load_function(spec), **settings.arguments)
    if not isinstance(returned, Mapping) or "train" not in returned:
        raise UsageError(f"data: {spec} must return a mapping with the key 'train', got {_brief(returned)}")
    if unknown := set(returned) - {*SPLITS, "labels"}:
        raise UsageError(f"data: {spec} returned the key {sorted(unknown)[0]!r}; known: {', '.join(SPLITS)}, labels")
    found = {name: returned[name] for name in SPLITS if returned.get(name) is not None}
    names = None if returned.get("labels") is None else tuple(map(str, returned["labels"]))
    if text is not None:
        tables = {name: _text_table(value, f"{spec}, {name!r}", text.rationale) for name, value in found.items()}
        inputs = tuple(name for name in ("input", "second") if name in tables["train"].column_names)
        return open_columns(tables, Wanted(inputs, "target", labels or names, text=text), {})
    splits = {name: _split(value, f"{spec}, {name!r}") for name, value in found.items()}
    train = splits["train"]
    first = train._item(0)[0] if isinstance(train, ItemSplit) and len(train) else None
    image = type(first).__module__.startswith("PIL.")
    return Opened(splits, labels or names, images=image)


def _split(value: Any, what: str) -> Split:
    if isinstance(value, tuple) and len(value) == 2:
        inputs = value[0] if isinstance(value[0], Sequence) else np.asanyarray(value[0])
        targets = _targets_of(lambda: np.asanyarray(value[1]), what)
        if (isinstance(inputs, np.ndarray) and not inputs.ndim) or not targets.ndim:
            raise UsageError(f"data: {what}: inputs and targets must be arrays, got {_brief(value)}")
        if len(inputs) != len(targets):
            raise UsageError(f"data: {what}: {len(inputs)} inputs, but {len(targets)} targets")
        return ArraySplit(inputs, targets)
    return _sequence(value, what, _PAIR)


def _targets_of(read: Callable[[], Array], what: str) -> Array:
    """What `read` makes of targets, which is an array only if all have one shape."""
    try:
        return read()
    except (TypeError, ValueError) as error:
        raise UsageError(f"data: {what}: targets must all have one shape: {error}") from error


def _sequence(value: Any, what: str, names: tuple[str, ...]) -> ItemSplit:
    """A sequence of items that hold what `names` say."""
    if hasattr(value, "__len__") and hasattr(value, "__getitem__") and not isinstance(value, Mapping | str):
        return ItemSplit(value, what, names)
    several, one = ", ".join(f"{name}s" for name in names), ", ".join(names)
    raise UsageError(f"data: {what} must be ({several}) or a sequence of ({one}), got {_brief(value)}")


def _text_table(value: Any, what: str, rationale: str | None) -> pa.Table:
    """(texts, targets) or (texts, targets, rationales), or a sequence of such items, as columns.

    `rationale` names the column of the third; None: there is none.
    """
    names = _PAIR if rationale is None else (*_PAIR, "rationale")
    whole = isinstance(value, tuple) and len(value) == len(names)
    items = None if whole else _sequence(value, what, names)
    rows = [] if items is None else [items._item(index) for index in range(len(items))]
    try:
        columns = [list(column) for column in (value if whole else zip(*rows, strict=True))]
        inputs, *others = columns or [[] for _ in names]
        learnt = dict(zip(("target", rationale or ""), others, strict=False))
        return pa.table({**_text_columns(inputs), **learnt})
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise UsageError(f"data: {what} must give texts, or pairs of texts, and as many targets: {error}") from error


def _text_columns(inputs: list[Any]) -> dict[str, list[Any]]:
    """Texts as one column, pairs of texts as two; ValueError if they are neither."""
    if not inputs or not isinstance(inputs[0], tuple | list):
        return {"input": inputs}
    count = len(inputs[0])
    for number, item in enumerate(inputs):
        if not isinstance(item, tuple | list) or len(item) != count or count not in (1, 2):
            raise ValueError(f"input {number} is {_brief(item)}")
    return {name: list(column) for name, column in zip(("input", "second"), zip(*inputs, strict=True), strict=False)}


def _brief(value: Any) -> str:
    text = f"{type(value).__name__} {value!r}"
    return text if len(text) < 100 else f"{text[:97]}..."
