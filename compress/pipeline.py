"""A pipeline as it was read: plain, frozen data that plan, run and report work from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, WithJsonSchema

from compress.chain import Inputs, Link, linked
from compress.data.settings import DataSettings
from compress.models.settings import ModelSettings
from compress.settings import Settings
from compress.stage import Stage
from compress.targets.limits import Budget
from compress.targets.settings import TargetSettings
from compress.tasks.settings import TaskSettings

_RUN_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
_DEVICE = r"^(auto|cpu|cuda(:[0-9]+)?|mps)$"


def _like(pattern: str, expected: str) -> AfterValidator:
    """Text of a form that `expected` puts into words."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"must be {expected}, not '{text}'")
        return text

    return AfterValidator(check)


RunName = Annotated[
    str,
    _like(_RUN_NAME, "letters, digits, '.', '_' and '-', a letter or digit first"),
    WithJsonSchema({"type": "string", "pattern": _RUN_NAME}),
]
Device = Annotated[
    str, _like(_DEVICE, "auto, cpu, cuda, cuda:N or mps"), WithJsonSchema({"type": "string", "pattern": _DEVICE})
]


Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]


class Card(Settings):
    """What the model card says of a model beyond what was measured; what is left out is said to be not told."""

    licence: Words | None = None
    """Under which licence the model may be used, such as Apache-2.0."""
    intended_use: Words | None = None
    """What it is for, and by whom it is meant to be used."""
    out_of_scope: Words | None = None
    """What it must not be used for."""
    made_by: Words | None = None
    """Who made it, and whom to ask."""
    risks: Words | None = None
    """Risks and harms, and what was done about them."""


class Header(Settings):
    """The plain values at the top of a pipeline."""

    name: RunName = "pipeline"
    """Name of the run and of its folder in `runs/`; the file's name unless given."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of all that is random: weights, order, augmentation, splits that the data do not fix."""
    device: Device = "auto"
    """Where training runs: auto (a GPU if there is one), cpu, cuda, cuda:N or mps."""
    processes: int = Field(1, ge=1, le=4096)
    """Training processes; the global batch does not change with their number."""
    threads: int | None = Field(None, ge=1, le=4096)
    """CPU threads for training; one for each core that the process may use, or `OMP_NUM_THREADS`, unless given. Part of
    what a trained model is keyed by."""
    budget: Budget = Budget()
    """What a file to deploy must keep to."""
    tracking: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ()
    """Trackers that are told settings, curves and results, through Accelerate; each needs its package."""
    card: Card = Card()
    """What the model card says beyond what was measured: licence, intended use and the like."""


class Placed(Settings):
    """A stage in its place: its name, its verb and settings, and what `from:` said."""

    name: str
    """How other stages, `--set` and reports call it; the verb unless given, made unique."""
    verb: str
    """The kind of stage."""
    stage: Stage
    """Its settings."""
    source: str | None = None
    """The model or stage that `from:` names."""


class Pipeline(Header):
    """A whole pipeline, checked: every name is known, every file is there, every stage can follow what it reads."""

    folder: Path
    """Where the file lies: paths in it are relative to this folder."""
    data: DataSettings
    """The data set: a built-in name, the path of a file like configs/data/digits.yaml, or the content of one."""
    task: TaskSettings = TaskSettings()
    """What the network is for: image-classification, regression, or a function of your own."""
    models: dict[str, ModelSettings]
    """Networks by name; the first is the reference that accuracy and speed are compared with."""
    stages: list[Placed]
    """What to do, in order; each stage goes on from the one above it unless it names another."""
    targets: list[TargetSettings]
    """Where every exported file is evaluated and timed: built-in names, paths of files, or the content of one."""

    @property
    def reference(self) -> str:
        """The model that all others are compared with."""
        return next(iter(self.models))

    def inputs(self, placed: Placed) -> Inputs:
        """What a stage reads, by role: a model as it is made or loaded, or the output of an earlier stage."""
        links = [Link(p.name, p.stage, p.source) for p in self.stages]
        everything, _ = linked(links, dict.fromkeys(self.models, True))
        return everything[self.stages.index(placed)]


KEYS = tuple(name for name in Pipeline.model_fields if name != "folder")
"""The top-level keys of a pipeline file."""
