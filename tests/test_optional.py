from __future__ import annotations

import sys
from pathlib import Path

import pytest

from compress.errors import UsageError
from compress.optional import import_or_explain


def test_what_can_be_imported_is() -> None:
    import json

    assert import_or_explain("json", "vision") is json


def test_an_absent_library_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UsageError, match=r"^timm cannot be imported: timm is not installed; pip install.*\[vision\]'$"):
        import_or_explain("timm", "vision")


def test_a_broken_library_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As torchvision fails when it was made for another torch."""
    (tmp_path / "broken_vision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist\\nmore')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        UsageError,
        match=r"RuntimeError: operator torchvision::nms does not exist\): install a version that fits torch \d",
    ):
        import_or_explain("broken_vision", "vision")
