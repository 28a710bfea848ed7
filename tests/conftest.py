"""For all tests: caches in a folder of their own, two threads at most, no network."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator

import pytest

LONGEST_FIRST = (
    "test_interruption.py",
    "test_own_network.py",
    "test_text_pipeline.py",
    "test_remote_pipeline.py",
    "test_ranks.py",
    "test_run.py",
    "test_launch.py",
    "test_architectures.py",
    "test_resume.py",
    "test_shipped_pipelines.py",
    "test_broken_pipelines.py",
    "test_library.py",
    "test_reach.py",
)
"""Files that take long begin first, so that several processes end at about the same time."""


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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files in front; all else stays as it is."""
    places = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))
