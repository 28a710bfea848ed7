"""What splits are called. Light at import."""

from __future__ import annotations

SPLIT_WORDS = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}
"""Our names of splits, and by which names each is found in folders, files and data sets."""
SPLITS = tuple(SPLIT_WORDS)
UNLABELLED = "unlabelled"
"""The split of training examples whose targets are not read."""
