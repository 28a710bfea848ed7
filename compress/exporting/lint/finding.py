"""What a linter says, and what a rule is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal

from compress.exporting.lint.view import View

Severity = Literal["error", "warning"]
"""`error`: the runtime refuses the file, gives other answers than meant, or the file is not of the kind that was asked
for. `warning`: it runs, but slower or larger than it could."""
Check = Callable[[View], Iterator[tuple[str, str]]]
"""A pure function of a graph: (operator or tensor, what is wrong with it) for each fault."""


@dataclass(frozen=True)
class Finding:
    """One fault: the rule that it breaks, where, what is wrong, and what to do."""

    rule: str
    severity: Severity
    node: str
    message: str
    advice: str

    def __str__(self) -> str:
        return f"{self.severity} {self.rule}: {self.node}: {self.message}; {self.advice}"

    def as_json(self) -> dict[str, str]:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Rule:
    """A check with its name, how bad its faults are, and what to do about them."""

    name: str
    severity: Severity
    check: Check
    advice: str

    def findings(self, view: View) -> Iterator[Finding]:
        """The faults of a graph."""
        for node, message in self.check(view):
            yield Finding(self.name, self.severity, node, message, self.advice)
