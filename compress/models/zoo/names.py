"""The names of the zoo's networks, without the networks: read to validate a pipeline, so nothing heavy is imported."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """One kind of network: its key in `compress.models.zoo.table`, how its names look, and what it can be asked.

    `shortcut` is the default of the option of that name, None where the family has no such option; `smallest` is the
    least height and width of its input in pixels.
    """

    key: str
    pattern: re.Pattern[str]
    shape: str
    examples: tuple[str, ...]
    shortcut: str | None
    smallest: int


FAMILIES: tuple[Family, ...] = (
    Family(
        "resnet",
        re.compile(r"resnet(\d+)"),
        "resnet<6n+2>",
        ("resnet8", "resnet14", "resnet20", "resnet32", "resnet44", "resnet56", "resnet110"),
        "A",
        1,
    ),
    Family("resnet_x4", re.compile(r"resnet(8|32)x4"), "resnet8x4, resnet32x4", ("resnet8x4", "resnet32x4"), "B", 1),
    Family(
        "wide_resnet",
        re.compile(r"wrn_(\d+)_(\d+)"),
        "wrn_<6n+4>_<k>",
        ("wrn_16_2", "wrn_40_1", "wrn_40_2", "wrn_16_8", "wrn_28_10"),
        None,
        1,
    ),
    Family(
        "vgg",
        re.compile(r"vgg(8|11|13|16|19)"),
        "vgg8, vgg11, vgg13, vgg16, vgg19",
        ("vgg8", "vgg11", "vgg13", "vgg16", "vgg19"),
        None,
        16,
    ),
    Family("mobilenet_v2", re.compile(r"mobilenet_v2"), "mobilenet_v2", ("mobilenet_v2",), None, 1),
)


def match(name: str) -> tuple[Family, tuple[int, ...]]:
    """The family of `name` and the numbers in it, such as (resnet, (20,)).

    Raises:
        ValueError: no network has this name; the text says what to write.
    """
    for family in FAMILIES:
        found = family.pattern.fullmatch(name)
        if found:
            numbers = tuple(int(group) for group in found.groups())
            _check_depth(family, name, numbers)
            return family, numbers
    close = difflib.get_close_matches(name, [example for family in FAMILIES for example in family.examples], n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    shapes = ", ".join(family.shape for family in FAMILIES)
    raise ValueError(f"the zoo has no network named {name!r}{hint}; it has {shapes}")


def _check_depth(family: Family, name: str, numbers: tuple[int, ...]) -> None:
    """Refuse depths that the papers' formulas do not give."""
    base = {"resnet": 2, "wide_resnet": 4}.get(family.key)
    if base is None:
        return
    depth = numbers[0]
    if depth <= base or (depth - base) % 6:
        lower = max(base + 6, depth - (depth - base) % 6)
        fixed = name.replace(str(depth), str(lower), 1)
        raise ValueError(f"{name!r} has an impossible depth: it is 6n+{base} (did you mean {fixed!r}?)")
    if family.key == "wide_resnet" and numbers[1] < 1:
        raise ValueError(f"{name!r} has an impossible widening factor: it is at least 1")
