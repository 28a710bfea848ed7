from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is written outside the test's own folders."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("COMPRESS_CACHE", str(folder))
    return folder
