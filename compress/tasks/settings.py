"""What the model is for, as a user writes it: a built-in task or a `module:function` of the user's. Light at import."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, GetJsonSchemaHandler, ValidationError, ValidationInfo, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from compress.data.digests import text_digest
from compress.errors import UsageError
from compress.settings import Settings
from compress.suggest import unknown
from compress.user_code import absolute_spec, source_digest
from compress.validation import faults_of
from compress.yaml_source import Source

IMAGE_CLASSIFICATION = "image-classification"
REGRESSION = "regression"
TEXT_CLASSIFICATION = "text-classification"
MULTI_LABEL_CLASSIFICATION = "multi-label-classification"
CAUSAL_LM = "causal-lm"
MASKED_LM = "masked-lm"
SEQUENCE_TO_SEQUENCE = "sequence-to-sequence"


class ImageClassification(Settings):
    """One class of several; primary metric: accuracy (share of examples whose largest logit is the right class)."""


class Regression(Settings):
    """Values of any shape; primary metric: the mean error that the loss names."""

    loss: Literal["mse", "l1"] = "mse"
    """`mse`: mean squared error; `l1`: mean absolute error. It is the primary metric as well."""


class TextClassification(Settings):
    """Texts, or pairs of texts, of one class of several."""

    metric: Literal["accuracy", "f1", "matthews"] = "accuracy"
    """The primary metric; `f1` is that of class 1 of two, or the mean over more. The others are told beside it."""


class MultiLabelClassification(Settings):
    """Any number of labels for each example; primary metric: f1_micro, over all decisions."""


class CausalLM(Settings):
    """Each token from those before it; primary metric: perplexity. Prompts are read, only answers count."""


class MaskedLM(Settings):
    """Hidden tokens from those around them; primary metric: perplexity of the hidden tokens."""

    share: float = Field(0.15, gt=0, lt=1)
    """How many of a text's tokens are hidden: of these 80 % become the mask, 10 % another token, 10 % stay."""


class SequenceToSequence(Settings):
    """A text from another text; primary metric: perplexity of the target's tokens."""


BUILTIN: dict[str, type[Settings]] = {
    IMAGE_CLASSIFICATION: ImageClassification,
    REGRESSION: Regression,
    TEXT_CLASSIFICATION: TextClassification,
    MULTI_LABEL_CLASSIFICATION: MultiLabelClassification,
    CAUSAL_LM: CausalLM,
    MASKED_LM: MaskedLM,
    SEQUENCE_TO_SEQUENCE: SequenceToSequence,
}
PRIMARY = {
    IMAGE_CLASSIFICATION: "accuracy",
    REGRESSION: "mean error",
    MULTI_LABEL_CLASSIFICATION: "f1_micro",
    CAUSAL_LM: "perplexity",
    MASKED_LM: "perplexity",
    SEQUENCE_TO_SEQUENCE: "perplexity",
}
"""The primary metric of tasks that do not let it be chosen."""


def _arguments(task: str, given: dict[str, Any]) -> dict[str, Any]:
    try:
        return BUILTIN[task].model_validate(given).model_dump(mode="json")
    except ValidationError as error:
        faults = faults_of(error.errors(include_url=False), BUILTIN[task], given, Source(given), (task,))
        raise ValueError("; ".join(map(str, faults))) from error


class TaskSettings(Settings):
    """`image-classification`, `text-classification`, `{regression: {loss: l1}}`, ..., or `module:function` of yours."""

    name: str = IMAGE_CLASSIFICATION
    """A built-in task, or `module:function` or `path/file.py:function` that returns a task."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """The task's settings, or keyword arguments of the user's function."""

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, dict) and len(value) == 1 and not value.keys() & cls.model_fields.keys():
            [(name, arguments)] = value.items()
            return {"name": name, "arguments": {} if arguments is None else arguments}
        return value

    @model_validator(mode="after")
    def _known(self, info: ValidationInfo) -> Self:
        if self.name in BUILTIN:
            object.__setattr__(self, "arguments", _arguments(self.name, self.arguments))
        elif ":" in self.name:
            spec = absolute_spec(self.name, (info.context or {}).get("base"))
            object.__setattr__(self, "name", spec)
        else:
            raise ValueError(f"{unknown('task', self.name, BUILTIN)}; or name your own as module:function")
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        short = {name: handler(model.__pydantic_core_schema__) for name, model in BUILTIN.items()}
        keyed = {"type": "object", "properties": short, "additionalProperties": {"type": "object"}, "maxProperties": 1}
        return {"anyOf": [{"type": "string"}, keyed, handler(core)], "description": cls.__doc__ or ""}

    @property
    def is_builtin(self) -> bool:
        """Whether the task is one of ours."""
        return self.name in BUILTIN

    @property
    def primary_metric(self) -> str | None:
        """What models are judged by; None for a task of the user's own, which says so itself when it is loaded."""
        return self.arguments["metric"] if self.name == TEXT_CLASSIFICATION else PRIMARY.get(self.name)

    def plain(self) -> dict[str, Any]:
        """Name and arguments for a bundle or manifest; of a user's file only its name, so that no path leaves."""
        file, colon, function = self.name.rpartition(":")
        return {"name": f"{Path(file).name}{colon}{function}", "arguments": self.arguments}

    def fingerprint(self) -> str:
        """SHA-256 over name, arguments and, for a task of the user's own, the content of its source."""
        source = "" if self.is_builtin else source_digest(self.name)
        return text_digest({**self.plain(), "source": source})


def read_task_settings(value: str | Mapping[str, Any], base: Path | None = None) -> TaskSettings:
    """The settings of a task in any of its written forms; files are sought in `base`, then in the working folder.

    Raises:
        UsageError: an unknown task, setting or file.
    """
    try:
        return TaskSettings.model_validate(value, context={"base": base})
    except ValidationError as error:
        faults = faults_of(error.errors(include_url=False), TaskSettings, value, Source(value), ())
        raise UsageError(faults) from error
