"""For all tests: caches in a folder of their own, two threads at most, no network."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _own_cache() -> Iterator[None]:
    """The user's cache is left alone, by child processes too."""
    with tempfile.TemporaryDirectory(prefix="compress-test-cache-") as folder:
        before = os.environ.get("COMPRESS_CACHE")
        os.environ["COMPRESS_CACHE"] = folder
        yield
        if before is None:
            del os.environ["COMPRESS_CACHE"]
        else:
            os.environ["COMPRESS_CACHE"] = before
