from __future__ import annotations

import pytest

from compress.distillation.domains import class_numbers_of
from compress.errors import UsageError

LABELS = ("cat", "dog", "bird")


def test_classes_are_named_or_numbered() -> None:
    assert class_numbers_of(["dog", 0], LABELS) == (1, 0)
    assert class_numbers_of([7], None) == (7,)
    assert class_numbers_of(None, LABELS) is None


@pytest.mark.parametrize(
    ("classes", "labels", "message"),
    [
        (["dgo"], LABELS, r"teacher.classes: unknown class 'dgo' \(did you mean 'dog'\?\)"),
        (["dog"], None, "unknown class 'dog'"),
        ([3], LABELS, "there is no class 3"),
        ([-1], None, "there is no class -1"),
    ],
)
def test_classes_that_are_not_there_are_refused(
    classes: list[str | int], labels: tuple[str, ...] | None, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        class_numbers_of(classes, labels)
