"""Answers requests for as long as the connection is open."""

from __future__ import annotations

import contextlib
import errno
import shutil
import signal
import time
from typing import Any

from compress.targets.far_end.channel import Channel, ClosedError, RefusedError
from compress.targets.far_end.facts import facts
from compress.targets.far_end.files import fetch, forget, push
from compress.targets.far_end.folder import base_folder, open_folder
from compress.targets.far_end.processes import run

VERBS = {"push": push, "fetch": fetch, "forget": forget, "run": run}


def serve(hello: dict[str, Any]) -> int:
    """Answer requests until `bye` or the end of the connection. `hello` holds `run`, `folder` and `grace_seconds`."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    channel = Channel()
    try:
        folder, _ = open_folder(base_folder(hello["folder"]), hello["run"])
    except RefusedError as error:
        channel.answer({"error": error.told})
        return 1
    except OSError as error:
        kind = "disk" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "folder"
        channel.answer({"error": {"kind": kind, "message": f"{error.filename}: {error.strerror}"}})
        return 1
    have = [str(path.relative_to(folder)) for path in folder.glob("files/*/*") if path.suffix != ".part"]
    grace = float(hello["grace_seconds"])
    try:
        channel.answer({"ok": True, "folder": str(folder), "have": have, "facts": facts(folder)})
        while True:
            asked = channel.request()
            if asked["do"] == "bye":
                grace = 0.0
                break
            try:
                channel.answer({"ok": True, **VERBS[asked["do"]](channel, folder, asked)})
            except RefusedError as error:
                channel.answer({"error": error.told})
    except ClosedError:
        time.sleep(grace)
    shutil.rmtree(str(folder), ignore_errors=True)
    if grace == 0.0:
        with contextlib.suppress(ClosedError):
            channel.answer({"ok": True})
    return 0
