"""A stage's run as plain data, so that other processes can join it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compress.bundle import Bundle, read_bundle
from compress.data.settings import DataSettings
from compress.stage import Context, Progress, Silent, Stage
from compress.targets.settings import TargetSettings
from compress.tasks.settings import TaskSettings

_DIGEST = "digest"


@dataclass(frozen=True)
class Job:
    """What `stage.run` needs. Every process gets the same; `from_json` adds which it is."""

    stage: Stage
    inputs: Mapping[str, Bundle]
    out: Path
    context: Context

    def as_json(self) -> dict[str, Any]:
        """Plain data; progress, rank and number of processes are left out."""
        context = self.context
        return {
            "verb": self.stage.verb,
            "settings": self.stage.model_dump(mode="json"),
            "inputs": {role: {"path": str(b.path), _DIGEST: b.digest} for role, b in self.inputs.items()},
            "out": str(self.out),
            "context": {
                "seed": context.seed,
                "device": context.device,
                "threads": context.threads,
                "data": None if context.data is None else context.data.model_dump(mode="json"),
                "task": context.task.model_dump(mode="json"),
                "target": None if context.target is None else context.target.model_dump(mode="json"),
                "checkpoints": None if context.checkpoints is None else str(context.checkpoints),
                "rehearsal": context.rehearsal,
            },
        }

    @classmethod
    def from_json(
        cls, plain: Mapping[str, Any], *, rank: int = 0, world_size: int = 1, progress: Progress | None = None
    ) -> Job:
        """The inverse of `as_json`, for the process `rank` of `world_size`."""
        from compress.stages import STAGES

        context = plain["context"]
        inputs = {
            role: Bundle(read_bundle(Path(bundle["path"])).kind, Path(bundle["path"]), bundle[_DIGEST])
            for role, bundle in plain["inputs"].items()
        }
        return cls(
            stage=STAGES[plain["verb"]].model_validate(plain["settings"]),
            inputs=inputs,
            out=Path(plain["out"]),
            context=Context(
                seed=context["seed"],
                device=context["device"],
                threads=context["threads"],
                data=None if context["data"] is None else DataSettings.model_validate(context["data"]),
                task=TaskSettings.model_validate(context["task"]),
                target=None if context["target"] is None else TargetSettings.model_validate(context["target"]),
                checkpoints=None if context["checkpoints"] is None else Path(context["checkpoints"]),
                rehearsal=context["rehearsal"],
                progress=progress or Silent(),
                rank=rank,
                world_size=world_size,
            ),
        )
