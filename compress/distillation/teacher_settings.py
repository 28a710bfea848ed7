"""Who teaches, as YAML says it: one model, several, or the student's own past. Light at import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from compress.settings import Settings


class OneTeacher(Settings):
    """One of several teachers."""

    model: str
    """A name from `models:` (its latest state above this line) or a stage."""
    weight: float = Field(1.0, gt=0)
    """Its share among the teachers of an example."""
    classes: tuple[str | int, ...] | None = Field(None, min_length=1)
    """Its domain: it teaches only examples with these labels (names or numbers); unset: all."""


class OwnPast(Settings):
    """The student as it was: exactly one of `ema` and `past`."""

    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """An exponential moving average of the student's weights with this decay (Tarvainen and Valpola 2017)."""
    past: Annotated[int, Field(ge=1)] | None = None
    """The student of so many epochs ago; before that it learns from the labels alone."""

    @model_validator(mode="after")
    def _one(self) -> OwnPast:
        if (self.ema is None) == (self.past is None):
            raise ValueError("give exactly one of ema (a decay such as 0.999) and past (epochs)")
        return self


class Cache(Settings):
    """Whether the teacher's answers are kept on disk, so that it runs once for all epochs and runs."""

    views: int | None = Field(None, ge=1)
    """Augmented versions of each example to keep answers for; epoch e trains on view e mod views. Unset: as `auto`."""
    top: int = Field(32, ge=1)
    """Language: tokens of each position whose probabilities are kept; the rest share one number."""
    max_bytes: int = Field(8 * 2**30, ge=1)
    """Most bytes on disk for all kept answers together; the longest unused go first."""


CacheChoice = Literal["auto", "off"] | Cache
Average = Literal["probabilities", "logits"]
"""What is averaged of several teachers."""


def _form(teacher: Any) -> str:
    """Which of the forms is meant, so that messages speak of that one alone."""
    if isinstance(teacher, list | tuple):
        return "several"
    if isinstance(teacher, OwnPast) or (isinstance(teacher, Mapping) and {"ema", "past"} & teacher.keys()):
        return "own past"
    return "one" if isinstance(teacher, OneTeacher | Mapping) else "name"


TeacherSettings = Annotated[
    Annotated[str, Tag("name")]
    | Annotated[OwnPast, Tag("own past")]
    | Annotated[OneTeacher, Tag("one")]
    | Annotated[tuple[str | OneTeacher, ...], Tag("several"), Field(min_length=1)],
    Discriminator(_form),
]


class PseudoLabels(Settings):
    """Labels for unlabelled examples, from a teacher that is sure of them (Lee 2013; Xie et al. 2020)."""

    threshold: float = Field(0.8, ge=0, lt=1)
    """Least probability of the teacher's class."""
    balance: bool = True
    """Whether classes get equally many: the surest of large ones, some twice of small ones."""
