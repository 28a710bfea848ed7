"""Who teaches, as YAML says it: one model, several, or the student's own past. Light at import."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

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
    """Augmented versions of each example whose answers are kept: epoch e trains on view e mod views. Unset: see auto."""
    top: int = Field(32, ge=1)
    """Language: tokens of each position whose probabilities are kept; the rest share one number."""
    max_bytes: int = Field(8 * 2**30, ge=1)
    """Most bytes on disk for all kept answers together; the longest unused go first."""


CacheChoice = Literal["auto", "off"] | Cache
TeacherSettings = str | OwnPast | OneTeacher | tuple[str | OneTeacher, ...]
