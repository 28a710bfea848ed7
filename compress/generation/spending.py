"""What a server's answers cost, and how much may be spent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock

from compress.generation.settings import Price

_MILLION = 1_000_000


@dataclass
class Budget:
    """Money in the currency of the price. Threads share it."""

    price: Price
    limit: float | None
    spent: float = 0.0
    tokens: list[int] = field(default_factory=lambda: [0, 0])
    reserved: float = 0.0
    _lock: Lock = field(default_factory=Lock, repr=False)

    def cost(self, usage: Sequence[int]) -> float:
        """Of (prompt, written) tokens."""
        return (usage[0] * self.price.input + usage[1] * self.price.output) / _MILLION

    def reserve(self, bound: Sequence[int]) -> bool:
        """Set aside what a request costs at most; False if that could exceed the limit."""
        with self._lock:
            cost = self.cost(bound)
            if self.limit is not None and self.spent + self.reserved + cost > self.limit:
                return False
            self.reserved += cost
            return True

    def release(self, bound: Sequence[int]) -> None:
        """What was set aside is settled."""
        with self._lock:
            self.reserved -= self.cost(bound)

    def pay(self, usage: Sequence[int]) -> None:
        """Count what was used."""
        with self._lock:
            self.spent += self.cost(usage)
            self.tokens = [had + more for had, more in zip(self.tokens, usage, strict=True)]
