"""For all tests: caches in a folder of their own, the longest files first."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import pytest

LONGEST_FIRST = (
    "test_interruption.py",
    "test_own_network.py",
    "test_launch.py",
    "test_page_in_browser.py",
    "test_remote_pipeline.py",
    "test_ranks.py",
    "test_run.py",
    "test_text_pipeline.py",
    "test_library_folder.py",
    "test_uncalibrated_pipeline.py",
    "test_architectures.py",
    "test_shipped_pipelines.py",
    "test_divergence_torch.py",
    "test_exchange.py",
    "test_climb.py",
    "test_texts.py",
    "test_resume.py",
    "test_broken_pipelines.py",
    "test_library.py",
    "test_reach.py",
)
"""Files that take long begin first, so that several processes end at about the same time."""


@pytest.fixture(scope="session", autouse=True)
def _own_cache() -> Iterator[None]:
    """The user's cache is left alone, by child processes too.

    These keep the bytecode of what they import, even where the environment forbids it: a process that compiles all of
    torch's and onnxscript's modules takes a third longer to start.
    """
    with (
        tempfile.TemporaryDirectory(prefix="compress-test-cache-") as folder,
        tempfile.TemporaryDirectory(prefix="compress-test-bytecode-", ignore_cleanup_errors=True) as bytecode,
        pytest.MonkeyPatch.context() as environment,
    ):
        environment.setenv("COMPRESS_CACHE", folder)
        environment.setenv("PYTHONPYCACHEPREFIX", bytecode)
        environment.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files in front; all else stays as it is."""
    places = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))
