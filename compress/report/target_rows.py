"""What a report holds of its targets, as typed rows. The one place that knows `targets`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Target:
    """A place where files were measured, and what to deploy there (None: nothing, for the `reason`).

    `fingerprint` is that of the machine with its runtime, `session` names the one measurement that all its files had
    their turns in. `met` is None where nothing was decided, as of an `emulated` machine, whose times say nothing.
    """

    name: str
    runtime: str | None
    emulated: bool
    machine: Mapping[str, Any]
    fingerprint: str | None
    session: str | None
    deploy: str | None
    judged: str | None
    met: bool | None
    reason: str

    @property
    def processor(self) -> str:
        """What it computes with, in words; empty where nobody knows."""
        gpu = self.machine.get("gpu")
        return str(gpu if isinstance(gpu, str) else self.machine.get("cpu") or self.machine.get("architecture") or "")


def read_target_row(row: Mapping[str, Any]) -> Target:
    """The typed form of an entry of `targets`."""
    return Target(
        name=row["name"],
        runtime=row.get("runtime"),
        emulated=bool(row.get("emulated")),
        machine=dict(row.get("machine") or {}),
        fingerprint=row.get("fingerprint"),
        session=row.get("session"),
        deploy=row.get("deploy"),
        judged=row.get("judged"),
        met=row.get("met"),
        reason=row.get("reason") or "",
    )
