"""What a report holds of examples that changed their class, as typed rows. The one place that knows `flips`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Interval = tuple[float, float]


@dataclass(frozen=True)
class Example:
    """One test example: its number, the classes by name, and a picture (data URI) or texts to look at, if there are."""

    index: int
    kind: str
    right: str
    before: str
    after: str
    picture: str | None
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Flips:
    """Examples whose class is another in `file` than in `reference`, by number in the test data.

    `rate` is the negative flip rate: those that became wrong, as a share of all. `p_value` is McNemar's.
    """

    file: str
    reference: str
    target: str
    examples: int
    became_wrong: tuple[int, ...]
    became_right: tuple[int, ...]
    stayed_wrong: tuple[int, ...]
    rate: float
    rate_ci95: Interval
    p_value: float
    shown: tuple[Example, ...]

    def of_kind(self, kind: str) -> tuple[Example, ...]:
        """The shown examples that `became_wrong`, `became_right` or `stayed_wrong`."""
        return tuple(example for example in self.shown if example.kind == kind)


def read_flips(row: Mapping[str, Any]) -> Flips:
    """The typed form of `flips`."""
    low, high = row["negative_flip_rate_ci95"]
    return Flips(
        file=row["file"],
        reference=row["reference"],
        target=row["target"],
        examples=row["examples"],
        became_wrong=tuple(row["became_wrong"]),
        became_right=tuple(row["became_right"]),
        stayed_wrong=tuple(row["stayed_wrong"]),
        rate=row["negative_flip_rate"],
        rate_ci95=(float(low), float(high)),
        p_value=row["mcnemar_p"],
        shown=tuple(_example(one) for one in row.get("shown") or ()),
    )


def _example(row: Mapping[str, Any]) -> Example:
    return Example(
        index=row["index"],
        kind=row["kind"],
        right=row["right"],
        before=row["before"],
        after=row["after"],
        picture=_picture(row.get("picture")),
        texts=tuple(row.get("texts") or ()),
    )


def _picture(uri: Any) -> str | None:
    """Only what lies in the report itself: a page must not ask the network for anything."""
    if uri is None:
        return None
    if not isinstance(uri, str) or not uri.startswith(("data:image/png;base64,", "data:image/jpeg;base64,")):
        raise ValueError("a picture of a flip is not a data URI")
    return uri
