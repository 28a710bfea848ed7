"""A data file: where examples come from, how they are cut into splits, prepared and augmented. Light at import."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from compress.data.digests import text_digest
from compress.data.locations import builtin_folder, find_path
from compress.data.source_settings import DataSource
from compress.data.step_settings import AugmentationStep, PreprocessingStep
from compress.data.text_settings import TextSettings
from compress.errors import UsageError
from compress.settings import Settings
from compress.suggest import did_you_mean, listed
from compress.validation import faults_of
from compress.yaml_source import Source, read_yaml

__all__ = ["DataSettings", "Limit", "SplitSettings", "builtin_folder", "read_data_settings"]

TEXT_SOURCES = ("table", "hub", "plain_text", "python")
"""Sources that may hold texts."""

FORMAT = 1
"""Raised when the same data file would give other examples."""


class SplitSettings(Settings):
    """How splits are cut that the source lacks: seeded, and stratified by class where targets are classes."""

    validation: float = Field(default=0.15, gt=0, lt=1)
    """Share of the training examples to choose by; used only where the source has no validation split."""
    test: float = Field(default=0.2, gt=0, lt=1)
    """Share of the training examples to report on; used only where the source has no test split."""
    unlabelled: float | None = Field(default=None, gt=0, lt=1)
    """Share of the remaining training examples whose targets are hidden: to learn from them without."""
    seed: int = 0
    """Which of the equally good cuts is taken; the pipeline's own seed does not change it."""

    @model_validator(mode="after")
    def _something_left(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError(f"validation {self.validation} and test {self.test} leave nothing to train on")
        return self


class Limit(Settings):
    """At most so many examples of each split, chosen as the cut is: seeded, stratified by class."""

    train: int | None = Field(default=None, ge=1)
    """Examples to train on."""
    validation: int | None = Field(default=None, ge=1)
    """Examples to choose by."""
    test: int | None = Field(default=None, ge=1)
    """Examples to report on."""


class DataSettings(Settings):
    """One data set, ready to train, calibrate and evaluate with."""

    source: DataSource
    """Where examples come from."""
    split: SplitSettings = SplitSettings()
    """How a validation or test split is cut where the source has none."""
    limit: Limit = Limit()
    """Fewer examples, for a quick try."""
    labels: tuple[str, ...] | None = None
    """Names of the classes in the order of their numbers; by default the source's own."""
    text: TextSettings | None = None
    """Says that inputs are texts, and how they become token ids."""
    preprocessing: tuple[PreprocessingStep, ...] = ()
    """What is done to every example, in order. Images come out as float32 with channels first."""
    augmentation: tuple[AugmentationStep, ...] = ()
    """What is done to training images at random, a function of seed, epoch and example."""

    @model_validator(mode="after")
    def _texts_or_not(self) -> Self:
        kind = self.source.kind
        if self.text is None:
            if kind == "plain_text":
                raise ValueError("source plain_text needs a tokenizer: add `text: {tokenizer: ...}`")
            if kind in ("table", "hub") and getattr(self.source, kind).target is None:
                raise ValueError(f"source.{kind}.target is missing: the column to learn")
            return self
        if self.preprocessing or self.augmentation:
            raise ValueError("texts have neither preprocessing nor augmentation: `text:` says what is done with them")
        if kind not in TEXT_SOURCES:
            raise ValueError(f"source {kind} has no texts: remove `text:`; {', '.join(TEXT_SOURCES)} may have such")
        return self

    def plain_preprocessing(self) -> tuple[dict[str, Any], ...]:
        """The steps of preprocessing as the plain data that `compress.data.preprocessing` reads."""
        return tuple(step.plain() for step in self.preprocessing)

    def plain_augmentation(self) -> tuple[dict[str, Any], ...]:
        """The steps of augmentation as the plain data that `compress.data.augmentation` reads."""
        return tuple(step.plain() for step in self.augmentation)

    def fingerprint(self) -> str:
        """SHA-256 over the settings and the content of what they name, whatever the folder it lies in.

        Raises:
            UsageError: a file is gone, cannot be read, or a hub revision cannot be resolved.
        """
        try:
            identity = self.source.identity()
            text = None if self.text is None else self.text.identity()
        except OSError as error:
            raise UsageError(f"data: cannot read {error.filename or self.source.kind}: {error.strerror}") from error
        rest = self.model_dump(mode="json", include={"split", "limit", "labels"})
        if self.split.unlabelled is None:
            del rest["split"]["unlabelled"]
        if text is not None:
            rest["text"] = text
        steps = {"preprocessing": self.plain_preprocessing(), "augmentation": self.plain_augmentation()}
        return text_digest({"format": FORMAT, "source": identity, **rest, **steps})


def read_data_settings(value: str | Path | Mapping[str, Any] | Source, base: Path | None = None) -> DataSettings:
    """The settings of a built-in data set (`digits`), of a data file, or of a mapping written in the pipeline itself.

    A `Source` is a data file that was read before.

    Relative paths are tried beside the file that names them (`base` for a name or mapping), then in the working folder.

    Raises:
        UsageError: every fault at once, each with its file, line and YAML path.
    """
    if isinstance(value, Mapping):
        return _validated(Source(dict(value)), base)
    source = value if isinstance(value, Source) else read_yaml(data_file(str(value), base))
    return _validated(source, Path(source.file).parent)


def data_file(name: str, base: Path | None) -> Path:
    """The file of a built-in data set, or that of a path, which is sought in `base`, then in the working folder.

    Raises:
        UsageError: there is none.
    """
    builtin = builtin_folder("data") / f"{name}.yaml"
    if "/" not in name and builtin.is_file():
        return builtin
    try:
        path = find_path(name, base)
    except ValueError as error:
        known = sorted(path.stem for path in builtin_folder("data").glob("*.yaml"))
        raise UsageError(f"{error}; built-in data sets are {listed(known)}{did_you_mean(name, known)}") from error
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name a data file (`source: {{images: {{path: ...}}}}` reads a folder)")
    return path


def _validated(source: Source, base: Path | None) -> DataSettings:
    try:
        settings = DataSettings.model_validate(source.data, context={"base": base})
    except ValidationError as error:
        faults = faults_of(error.errors(include_url=False), DataSettings, source.data, source, ())
        raise UsageError([*source.faults, *faults]) from error
    if source.faults:
        raise UsageError(source.faults)
    return settings
