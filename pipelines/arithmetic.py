"""Small word problems, each with its answer and the chain of thought that leads there."""

from __future__ import annotations

import hashlib

NAMES = ("Ann", "Ben", "Eva", "Tom")
THINGS = ("eggs", "nuts", "pens")
Columns = tuple[list[str], list[str], list[str]]
Triple = tuple[int, int, int]


def problems(seed: int = 0, train: int = 2000, validation: int = 200, test: int = 200) -> dict[str, Columns]:
    """Problems, answers and chains of thought: Ann has 3 nuts, gets 4, gets 9. -> #### 16; 3+4=7, 7+9=16.

    The same arguments always give the same problems. Each of the 512 triples of numbers from 2 to 9 belongs to one
    split alone (eight of ten to training), so that what is reported was not seen.
    """
    triples = [(a, b, c) for a in range(2, 10) for b in range(2, 10) for c in range(2, 10)]
    triples.sort(key=lambda triple: _number(seed, *triple))
    first, second = 8 * len(triples) // 10, 9 * len(triples) // 10
    return {
        "train": _split(triples[:first], train, seed),
        "validation": _split(triples[first:second], validation, seed),
        "test": _split(triples[second:], test, seed),
    }


def _split(triples: list[Triple], count: int, seed: int) -> Columns:
    """`count` problems with these numbers; each triple is told anew with other names and things."""
    told = [_told(triples[i % len(triples)], _number(seed, i)) for i in range(count)]
    questions, answers, reasons = zip(*told, strict=True)
    return list(questions), list(answers), list(reasons)


def _told(triple: Triple, choice: int) -> tuple[str, str, str]:
    """(question, answer, chain of thought)."""
    a, b, c = triple
    name, thing = NAMES[choice % len(NAMES)], THINGS[choice // len(NAMES) % len(THINGS)]
    question = f"{name} has {a} {thing}, gets {b}, gets {c}. "
    return question, f"#### {a + b + c}", f"{a}+{b}={a + b}, {a + b}+{c}={a + b + c}"


def _number(*parts: int) -> int:
    """A number that looks random and depends on nothing but `parts`."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big")
