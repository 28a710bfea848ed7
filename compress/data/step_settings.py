"""Steps of preprocessing and augmentation as a user writes them: `scale: 0.5`, `pad_crop: {padding: 4}`, `flip`."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from compress.settings import Settings

Size = Annotated[int, Field(ge=1)] | tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]


class Step(Settings):
    """The settings of one step; `short` names the field that a bare value stands for: `scale: 0.5`."""

    short: ClassVar[str] = ""

    @model_validator(mode="before")
    @classmethod
    def _bare_value(cls, value: Any) -> Any:
        if value is None:
            return {}
        return {cls.short: value} if cls.short and not isinstance(value, dict | Settings) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core)
        if not cls.short:
            return schema
        bare = handler.resolve_ref_schema(schema)["properties"][cls.short]
        return {"anyOf": [bare, schema], "title": cls.__name__, "description": schema.get("description", "")}


class Image(Step):
    """Says that examples are images, and how their axes lie; other steps take this for granted with `hwc`."""

    short: ClassVar[str] = "layout"
    layout: Literal["hwc", "chw"] = "hwc"
    """Axes of a stored example: height, width, channels (`hwc`; a grey image may lack the last), or channels first."""


class Color(Step):
    """Makes every image grey (one channel, ITU-R 601 luma) or red, green and blue."""

    short: ClassVar[str] = "mode"
    mode: Literal["grey", "rgb"]
    """`grey`: one channel; `rgb`: three, a grey image repeated; an alpha channel is dropped."""


class Resize(Step):
    """Bilinear resizing with antialiasing (the triangle filter, as Pillow's)."""

    short: ClassVar[str] = "size"
    size: Size
    """Pixels: one number for both sides (or for the shorter side, see `keep`), or [height, width]."""
    keep: Literal["shortest"] | None = None
    """`shortest`: scale the shorter side to `size` and keep the proportions; by default the image is stretched."""

    @model_validator(mode="after")
    def _one_number(self) -> Self:
        if self.keep and not isinstance(self.size, int):
            raise ValueError("keep: shortest needs one number as size, the pixels of the shorter side")
        return self


class CenterCrop(Step):
    """Cuts the middle out of an image, which must be at least as large."""

    short: ClassVar[str] = "size"
    size: Size
    """Pixels: one number for both sides, or [height, width]."""


class Scale(Step):
    """Multiplies every value."""

    short: ClassVar[str] = "factor"
    factor: float = Field(allow_inf_nan=False)
    """What values are multiplied by: 0.00392156862745098 (1/255) brings bytes into [0, 1]."""


class Normalize(Step):
    """Subtracts a mean and divides by a deviation, per channel (per feature where examples are vectors)."""

    mean: tuple[float, ...] = Field(min_length=1)
    """What is subtracted, one number a channel, in the values that the steps above give."""
    std: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1)
    """What the difference is divided by, one number a channel."""

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean has {len(self.mean)} numbers and std {len(self.std)}: one of each a channel")
        return self


class PadCrop(Step):
    """Pads every side, then cuts the old size out at a random place (He et al. 2015, section 4.2)."""

    short: ClassVar[str] = "padding"
    padding: int = Field(ge=1)
    """Pixels added to each side: the image moves by at most this much."""
    fill: Literal["zero", "edge", "reflect"] = "zero"
    """What the border holds: 0 (after normalisation the mean colour), the outermost pixel, or the mirrored image."""


class Flip(Step):
    """Mirrors left and right at random."""

    short: ClassVar[str] = "probability"
    probability: float = Field(default=0.5, gt=0, le=1)
    """How often an example is mirrored."""


class Mixing(Step):
    """Of two training images one is made. What the right answer to it is, the teacher says: its label is hidden.

    So only stages with a teacher mix (Beyer et al. 2022, section 3.1); others say that they leave it out.
    """

    short: ClassVar[str] = "probability"
    probability: float = Field(default=1.0, gt=0, le=1)
    """How often an example is mixed; the others keep their labels."""
    alpha: float = Field(default=1.0, gt=0, le=1000)
    """Shares are drawn from Beta(alpha, alpha): 1 is even, less is nearer to one of both, more to half of each."""


class Mixup(Mixing):
    """The weighted mean of two images (Zhang et al. 2018, equation 1); the teacher answers, the label is hidden."""


class Cutmix(Mixing):
    """A rectangle of another image (Yun et al. 2019, equation 2); the teacher answers, the label is hidden."""


def exactly_one(model: type[Settings], value: dict[str, Any], what: str) -> dict[str, Any]:
    """`value` with its one key, an empty setting for none; keys without a value beside it (a dump's) are dropped.

    Raises:
        ValueError: no key or several.
    """
    given = {key: item for key, item in value.items() if item is not None} if len(value) > 1 else value
    if len(given) != 1:
        got = ", ".join(map(str, given)) or "none"
        raise ValueError(f"{what}, got {got}; known: {', '.join(model.model_fields)}")
    return {key: {} if item is None else item for key, item in given.items()}


def or_name(model: type[Settings], schema: JsonSchemaValue) -> JsonSchemaValue:
    """The schema of `exactly_one`: a field's bare name, or a mapping with one key."""
    return {"anyOf": [{"enum": list(model.model_fields)}, {**schema, "minProperties": 1, "maxProperties": 1}]}


class OneStep(Settings):
    """Exactly one of the fields, written `- flip`, `- scale: 0.5` or `- pad_crop: {padding: 4}`."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = {value: {}}
        return exactly_one(cls, value, "one step a line") if isinstance(value, dict) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return or_name(cls, handler(core))

    def plain(self) -> dict[str, Any]:
        """The step as plain data with every default written out: {"resize": {"size": 32, "keep": None}}."""
        return self.model_dump(mode="json", exclude={name for name, step in self if step is None})


class PreprocessingStep(OneStep):
    """One step of preprocessing, the same for training, calibration, evaluation and the deployed model."""

    image: Image | None = None
    """How the axes of a stored example lie."""
    color: Color | None = None
    """Grey or rgb."""
    resize: Resize | None = None
    """Bilinear, antialiased."""
    center_crop: CenterCrop | None = None
    """The middle."""
    scale: Scale | None = None
    """Times a factor."""
    normalize: Normalize | None = None
    """Minus mean, over deviation."""


class AugmentationStep(OneStep):
    """One random change of preprocessed training images."""

    pad_crop: PadCrop | None = None
    """Shift by padding and cropping."""
    flip: Flip | None = None
    """Mirror left and right."""
    mixup: Mixup | None = None
    """Fade another image in; for stages that learn from a teacher."""
    cutmix: Cutmix | None = None
    """Lay a part of another image over; for stages that learn from a teacher."""
