"""The contracts between the machine (plan, run, store) and the stages.

A stage class is its settings and nothing else: its fields are its YAML keys. Modules that define stages import no
torch, onnxruntime, scikit-learn or datasets at their top: they are read to validate a pipeline in milliseconds, and
heavy imports happen inside `run`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from compress.bundle import Bundle, Kind
from compress.data.settings import DataSettings
from compress.settings import Settings
from compress.targets.settings import TargetSettings
from compress.tasks.settings import TaskSettings

Metrics = dict[str, Any]


class Progress(Protocol):
    """Where long work says how far it is. The command line draws bars; the library is silent by default."""

    def task(self, description: str, total: int | None) -> Any:
        """A context manager giving a function `advance(steps=1, note="")`."""

    def say(self, message: str) -> None:
        """One line for the user."""


class Silent:
    """Says nothing."""

    @contextmanager
    def task(self, description: str, total: int | None) -> Iterator[Any]:
        """Counts nothing."""
        yield lambda steps=1, note="": None

    def say(self, message: str) -> None:
        """Says nothing."""


@dataclass(frozen=True)
class Context:
    """All that a stage may ask of the world.

    `threads` is the CPU threads for training and evaluation in this process; `checkpoints` is a folder that belongs to
    this step alone and survives a kill (None: keep no checkpoints); `rehearsal` asks for two batches of everything;
    `rank` and `world_size` are those of the training processes, and only rank 0 writes into `out`.
    """

    seed: int = 0
    device: str = "auto"
    threads: int = 1
    data: DataSettings | None = None
    task: TaskSettings = field(default_factory=TaskSettings)
    target: TargetSettings | None = None
    checkpoints: Path | None = None
    rehearsal: bool = False
    progress: Progress = field(default_factory=Silent)
    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0


class Stage(Settings):
    """One verb of a pipeline.

    `takes` maps each role that the stage reads to the kinds it accepts; `gives` is what it makes; `reads` names what
    of the world it uses (`data`, `seed`, `threads`, `processes`, `target`), which its cache key covers, and no more;
    `version` is raised when the same settings would give other bytes; `trains` says that it runs `fit`, so that
    several processes may join it; `resumes` that it goes on from what it has left in the context's checkpoints.
    """

    verb: ClassVar[str]
    version: ClassVar[int] = 1
    takes: ClassVar[Mapping[str, tuple[Kind, ...]]] = {"source": (Kind.TORCH,)}
    gives: ClassVar[Kind | None] = None
    reads: ClassVar[frozenset[str]] = frozenset()
    trains: ClassVar[bool] = False
    resumes: ClassVar[bool] = False

    def references(self) -> dict[str, str | None]:
        """For each role the name of the model or stage to read, or None for the model before this stage."""
        return dict.fromkeys(self.takes)

    def accepts(self, role: str) -> tuple[Kind, ...]:
        """The kinds that are accepted for a role of `references`; `teacher-2` is one more `teacher`."""
        return self.takes[role.partition("-")[0]]

    def on_target(self, names: Sequence[str]) -> str | None:
        """Of the pipeline's targets, by name, the one that the work depends on; None: on none."""
        return None

    def decided(self) -> str:
        """What `auto` has come to in the plan, for the user; empty if there is nothing to say."""
        return ""

    def asked(self) -> dict[str, Any]:
        """The settings that its key covers, as plain data: all but the names of models and stages."""
        return self.model_dump(mode="json", exclude={"model", *self.takes})

    def faults(self) -> list[tuple[str, str]]:
        """(path inside the stage, message) for each combination that types alone cannot refuse. Before any work."""
        return []

    @abstractmethod
    def run(self, inputs: Mapping[str, Bundle], out: Path, context: Context) -> Metrics:
        """Do the work: read `inputs` by role, write a bundle into `out`, return what the record should hold."""
