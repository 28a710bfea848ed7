"""The commit behind a branch or tag of a data set or model on the Hugging Face hub. Light: standard library only."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Literal

from compress.data.digests import text_digest
from compress.data.drafts import write_whole
from compress.data.locations import cache_folder
from compress.errors import UsageError

Kind = Literal["datasets", "models"]

_COMMIT = re.compile(r"[0-9a-f]{40}")
_TIMEOUT_SECONDS = 20


def resolve(name: str, revision: str, kind: Kind = "datasets") -> str:
    """The commit that `revision` of data set or model `name` meant when it was first asked for.

    Remembered, so that a run, its continuation and its repetition read the same examples; else read from the local
    hub cache, else asked of the hub. A commit is returned as it is.

    Raises:
        UsageError: the hub cannot be reached, or has no such data set, model or revision.
    """
    if _COMMIT.fullmatch(revision):
        return revision
    kept = cache_folder() / "revisions" / text_digest([kind, name, revision])
    commit = _read(kept)
    if commit is None:
        commit = _cached(name, revision, kind) or _asked(name, revision, kind)
        with contextlib.suppress(OSError):  # a cache folder that cannot be written is no fault
            write_whole(kept, commit)
    return commit


def _read(file: Path) -> str | None:
    """The commit in a file; None where there is none."""
    try:
        commit = file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    return commit if _COMMIT.fullmatch(commit) else None


def _cached(name: str, revision: str, kind: Kind) -> str | None:
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    hub = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    return _read(hub / f"{kind}--{name.replace('/', '--')}" / "refs" / revision)


def _asked(name: str, revision: str, kind: Kind) -> str:
    what = "data set" if kind == "datasets" else "model"
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    address = f"{endpoint}/api/{kind}/{urllib.parse.quote(name)}/revision/{urllib.parse.quote(revision, safe='')}"
    request = urllib.request.Request(address)
    if token := os.environ.get("HF_TOKEN"):
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:
            commit = str(json.load(answer).get("sha", ""))
    except urllib.error.HTTPError as error:
        raise UsageError(
            f"{what} {name!r}, revision {revision!r}: the hub answers {error.code} {error.reason}"
        ) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise UsageError(
            f"{what} {name!r}: cannot ask the hub what {revision!r} is ({error}); "
            "write its commit as `revision:`, or name a local folder instead"
        ) from error
    if not _COMMIT.fullmatch(commit):
        raise UsageError(f"{what} {name!r}: the hub names no commit for revision {revision!r}")
    return commit
