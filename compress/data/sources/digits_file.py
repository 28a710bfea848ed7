"""Where scikit-learn keeps its digits, found without importing it (which takes a second)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from compress.errors import UsageError


def digits_file() -> Path:
    """The compressed table inside the installed scikit-learn: 64 pixels and the class, a line an image.

    Raises:
        UsageError: scikit-learn is not installed, or keeps the file elsewhere.
    """
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise UsageError("data source digits: scikit-learn is not installed; pip install scikit-learn")
    file = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if not file.is_file():
        raise UsageError("data source digits: this version of scikit-learn has no datasets/data/digits.csv.gz")
    return file
