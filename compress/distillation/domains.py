"""The domain of a teacher: the labels that it knows best."""

from __future__ import annotations

from collections.abc import Sequence

from compress.errors import UsageError
from compress.suggest import unknown


def class_numbers_of(classes: Sequence[str | int] | None, labels: Sequence[str] | None) -> tuple[int, ...] | None:
    """Class numbers of names or numbers; None (all) stays None.

    Raises:
        UsageError: a name that no class has, or a number that is none's.
    """
    if classes is None:
        return None
    found = []
    for name in classes:
        if isinstance(name, str):
            if labels is None or name not in labels:
                raise UsageError(f"teacher.classes: {unknown('class', name, labels or ())}")
            found.append(labels.index(name))
        elif name < 0 or (labels is not None and name >= len(labels)):
            raise UsageError(f"teacher.classes: there is no class {name}")
        else:
            found.append(name)
    return tuple(found)
