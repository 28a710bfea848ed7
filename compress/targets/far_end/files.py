"""The files that a device keeps: taken from the connection, given back, forgotten."""

from __future__ import annotations

import errno
import hashlib
import shutil
import struct
from pathlib import Path
from typing import Any

from compress.targets.far_end.channel import Channel, RefusedError

CHUNK_BYTES = 2**18
SPARE_BYTES = 2**20
"""Space that is left free on the device's disk."""


def push(channel: Channel, folder: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """Keep one file under `path`, whole or not at all; its size and sha256 must be those that were told."""
    path, size = folder / asked["path"], asked["size"]
    free = shutil.disk_usage(str(folder)).free
    if free < size + SPARE_BYTES:
        raise RefusedError("disk", f"{free / 1e6:.1f} MB are free where {size / 1e6:.1f} MB are needed")
    channel.answer({"ok": True})
    digest, received, trouble = hashlib.sha256(), 0, None
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as stream:
            for chunk in channel.chunks():
                digest.update(chunk)
                received += len(chunk)
                if trouble is None:
                    try:
                        stream.write(chunk)
                        stream.flush()
                    except OSError as error:  # the rest of the file must still be taken from the connection
                        trouble = error
        if trouble is not None:
            raise trouble
        if (received, digest.hexdigest()) != (size, asked["sha256"]):
            raise RefusedError("file", f"{path.name} did not arrive as it was sent")
        part.replace(path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RefusedError("disk", f"no space is left for {path.name} ({size / 1e6:.1f} MB)") from error
        raise
    finally:
        if part.exists():
            part.unlink()
    return {}


def fetch(channel: Channel, folder: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """Send one file, with its sha256 at the end."""
    path = folder / asked["path"]
    if not path.is_file():
        raise RefusedError("file", f"{path.name} was not written")
    channel.answer({"ok": True, "size": path.stat().st_size})
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
            channel.write(struct.pack(">I", len(chunk)) + chunk)
    channel.write(struct.pack(">I", 0))
    return {"sha256": digest.hexdigest()}


def forget(channel: Channel, folder: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """Remove files that are no longer needed."""
    for name in asked["paths"]:
        if (folder / name).exists():
            (folder / name).unlink()
    return {}
