from __future__ import annotations

from pathlib import Path

import pytest

from compress.errors import Fault, StageError, UsageError
from compress.training.failures import read_failure, write_failure


def test_nothing_failed(tmp_path: Path) -> None:
    assert read_failure(tmp_path) is None


def test_kind_and_text_survive(tmp_path: Path) -> None:
    faults = [Fault("no such file", where="models.teacher.weights", file="a.yaml", line=3), Fault("second")]
    write_failure(tmp_path, 1, UsageError(faults))
    found = read_failure(tmp_path)
    assert isinstance(found, UsageError)
    assert list(found.faults) == faults


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_what_a_user_can_mend_comes_before_lost_connections(tmp_path: Path, order: tuple[int, int]) -> None:
    errors = {0: RuntimeError("connection closed by peer"), 1: StageError("training diverged")}
    for rank in order:
        write_failure(tmp_path, rank, errors[rank])
    found = read_failure(tmp_path)
    assert isinstance(found, StageError)
    assert str(found) == "training diverged"


def test_of_our_own_bugs_the_first_is_shown_with_its_trace(tmp_path: Path) -> None:
    for rank, message in ((1, "the cause"), (0, "connection closed by peer")):
        try:
            raise ValueError(message)
        except ValueError as error:
            write_failure(tmp_path, rank, error)
    found = read_failure(tmp_path)
    assert isinstance(found, RuntimeError)
    assert "process 1" in str(found)
    assert "ValueError: the cause" in str(found)
    assert "test_failures.py" in str(found)
