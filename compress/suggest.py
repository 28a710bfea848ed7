"""What the user may have meant: the closest of the names that exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """`" (did you mean 'ratio'?)"` for the closest of `names`, or nothing if none is close."""
    by_lower = {name.lower(): name for name in sorted(names)}
    if word.lower() in by_lower:
        return f" (did you mean '{by_lower[word.lower()]}'?)"
    close = difflib.get_close_matches(word.lower().replace("-", "_"), by_lower, n=1, cutoff=0.6)
    close = close or difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f" (did you mean '{by_lower[close[0]]}'?)" if close else ""


def unknown(what: str, word: str, names: Iterable[str]) -> str:
    """`unknown model 'studnet' (did you mean 'student'?)`, or with the names that exist if none is close."""
    names = list(names)
    hint = did_you_mean(word, names)
    if not hint and names:
        hint = f"; there is {listed(names)}"
    return f"unknown {what} '{word}'{hint}"


def listed(names: Iterable[str], joint: str = ", ") -> str:
    """Names in a row, the first twelve of them."""
    names = list(names)
    return joint.join(names[:12]) + (f"{joint}... ({len(names)} in all)" if len(names) > 12 else "")
