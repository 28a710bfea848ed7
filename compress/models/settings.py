"""A network as a pipeline names it. Light: read to validate a pipeline, so no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, PrivateAttr, ValidationError, field_validator, model_validator

from compress.data.digests import file_digest, text_digest
from compress.data.locations import candidates, find_path
from compress.errors import Fault, UsageError
from compress.models.zoo.names import match
from compress.settings import Settings
from compress.user_code import absolute_spec, source_digest

SOURCES = ("zoo", "transformers", "timm", "torchvision", "python", "origin")
"""The keys that say where a network comes from; `origin` is written `from`."""
PRETRAINED_FILES = ("config.json", "*.safetensors", "*.safetensors.index.json", "pytorch_model*")


class ModelSettings(Settings):
    """One network: one of `zoo`, `transformers`, `timm`, `torchvision`, `python`, `from`, and how to fill it."""

    model_config = ConfigDict(serialize_by_alias=True)

    zoo: str | None = None
    """A reference network: resnet<6n+2>, resnet8x4, resnet32x4, wrn_<6n+4>_<k>, vgg8/11/13/16/19, mobilenet_v2."""
    transformers: str | dict[str, Any] | None = None
    """A local folder or hub name with weights, or a configuration such as {model_type: vit, hidden_size: 64}."""
    timm: str | None = None
    """A name that `timm.create_model` knows; `arguments: {pretrained: true}` loads its published weights."""
    torchvision: str | None = None
    """A name that `torchvision.models.get_model` knows; `arguments: {weights: DEFAULT}` loads published weights."""
    python: str | None = None
    """Your own function that returns an `nn.Module`: `module:function` or `path/file.py:function`."""
    origin: str | None = Field(default=None, alias="from", min_length=1)
    """A smaller one of another model: with `layers` some of its layers, as trained; with `width`, `depth` a new one."""
    layers: Annotated[int, Field(ge=1)] | Literal["every-other"] | tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """With `from`: which layers of the transformer are copied, all else with them: `every-other` (the first, the third,
    ...), how many (spread evenly), or their numbers from 0 on."""
    width: float | None = Field(default=None, gt=0, le=64)
    """Factor on all channel counts (zoo), or with `from` on the width; 1 unless given."""
    depth: float | None = Field(default=None, gt=0, le=1)
    """With `from`: factor on the number of layers of a new network."""
    shortcut: Literal["A", "B"] | None = None
    """How a zoo ResNet changes size in a shortcut: A has no parameters, B a 1x1 convolution; its paper's by default."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Passed on to the function, class or hub that makes the network."""
    head: Literal["keep", "new"] = "keep"
    """Whether published weights keep their classifier, which must then fit the data, or get a new, untrained one."""
    weights: str | None = None
    """A file of weights (safetensors, or one that `torch.load(weights_only=True)` reads); random if not given."""

    _base: Path | None = PrivateAttr(None)

    @field_validator("zoo")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        if name is not None:
            match(name)
        return name

    @model_validator(mode="after")
    def _fits_together(self) -> ModelSettings:
        faults = _combination_faults(self)
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @property
    def source(self) -> str:
        """Which of the sources is given."""
        return next(name for name in SOURCES if getattr(self, name) is not None)

    @property
    def has_weights(self) -> bool:
        """Whether the network comes with trained weights, so that it need not be trained to be of use."""
        published = (
            isinstance(self.transformers, str)
            or (self.timm is not None and bool(self.arguments.get("pretrained")))
            or (self.torchvision is not None and self.arguments.get("weights") is not None)
        )
        return self.weights is not None or published

    @property
    def base(self) -> Path | None:
        """The folder of the file that names the network, beside which a Python module may be."""
        return self._base

    def resolved(self, base: Path) -> ModelSettings:
        """A copy whose paths are absolute: tried beside `base`, then in the working folder; `$NAME` is expanded.

        Raises:
            UsageError: a file is missing or an environment variable is not set; lists all of them.
        """
        faults: list[Fault] = []
        changes: dict[str, Any] = {}
        if self.weights is not None:
            changes["weights"] = _existing(self.weights, base, "weights", faults)
            if Path(changes["weights"]).is_dir():
                faults.append(Fault(f"{self.weights!r} is a folder; name the file of weights in it", where="weights"))
        if isinstance(self.transformers, str):
            changes["transformers"] = _folder_or_hub_name(self.transformers, base, faults)
        if self.python is not None:
            try:
                changes["python"] = absolute_spec(self.python, base)
            except ValueError as error:
                faults.append(Fault(str(error), where="python"))
        if faults:
            raise UsageError(faults)
        copy = self.model_copy(update=changes)
        copy._base = base
        return copy

    def fingerprint(self) -> str:
        """sha256 over the settings and the content of the files and code that they name, whatever their paths."""
        plain = self.model_dump(mode="json", exclude_none=True)
        if self.weights is not None:
            plain["weights"] = file_digest(Path(self.weights))
        if isinstance(self.transformers, str) and Path(self.transformers).is_dir():
            folder = Path(self.transformers)
            files = sorted({file for pattern in PRETRAINED_FILES for file in folder.glob(pattern)})
            plain["transformers"] = [[file.name, file_digest(file)] for file in files]
        if self.python is not None:
            place, _, function = self.python.rpartition(":")
            plain["python"] = [Path(place).name, function, source_digest(self.python, self._base)]
        return text_digest(plain)


def read_model_settings(given: Mapping[str, Any], base: Path) -> ModelSettings:
    """Settings from plain data, with absolute paths.

    Raises:
        UsageError: the data is no description of a network, or a file that it names is missing.
    """
    try:
        settings = ModelSettings.model_validate(given)
    except ValidationError as error:
        faults = [Fault(str(e["msg"]), where=".".join(map(str, e["loc"]))) for e in error.errors()]
        raise UsageError(faults) from error
    return settings.resolved(base)


def _combination_faults(settings: ModelSettings) -> list[str]:
    given = ["from" if name == "origin" else name for name in SOURCES if getattr(settings, name) is not None]
    if len(given) != 1:
        found = " and ".join(given) if given else "none"
        return [f"a model has exactly one of {', '.join(SOURCES[:-1])}, from; found {found}"]
    faults = []
    if settings.origin is not None:
        return _derivation_faults(settings)
    faults += [f"{key}: belongs to `from`" for key in ("layers", "depth") if getattr(settings, key) is not None]
    if settings.zoo is None and settings.width is not None:
        faults.append(f"width: belongs to zoo networks; give the size of a {given[0]} network in its arguments")
    if settings.zoo is not None and settings.arguments:
        faults.append("arguments: zoo networks take width and shortcut only")
    if settings.shortcut is not None and (settings.zoo is None or match(settings.zoo)[0].shortcut is None):
        faults.append(f"shortcut: {settings.zoo or given[0]} has no such choice; ResNets of the zoo have")
    if settings.head == "new" and settings.source not in ("transformers", "timm", "torchvision"):
        faults.append("head: belongs to published weights of transformers, timm or torchvision networks")
    return faults


def _derivation_faults(settings: ModelSettings) -> list[str]:
    """What is wrong with a model that is made `from` another."""
    faults = [
        f"{key}: a model made `from` another takes layers, width and depth only"
        for key in ("shortcut", "weights", "arguments")
        if getattr(settings, key)
    ]
    if settings.head == "new":
        faults.append("head: a model made `from` another has that one's head")
    shrinks = settings.width is not None or settings.depth is not None
    if (settings.layers is not None) == shrinks:
        faults.append("from: say either `layers` (copied with their weights), or `width` and `depth` (a new network)")
    if settings.width is not None and settings.width > 1:
        faults.append(f"width: {settings.width:g} would be wider than the model that it is from; at most 1")
    if isinstance(settings.layers, tuple) and (
        not settings.layers or list(settings.layers) != sorted(set(settings.layers))
    ):
        faults.append("layers: must be numbers that rise from one to the next")
    return faults


def _existing(text: str, base: Path, where: str, faults: list[Fault]) -> str:
    """The absolute path that `text` means, or `text` itself and one more fault."""
    try:
        return str(find_path(text, base))
    except ValueError as error:
        faults.append(Fault(str(error), where=where))
        return text


def _folder_or_hub_name(text: str, base: Path, faults: list[Fault]) -> str:
    """A folder's absolute path, or the hub name as it is: `name` or `owner/name` that is no folder here."""
    if text.startswith((".", "/", "~", "$")) or text.count("/") > 1:
        return _existing(text, base, "transformers", faults)
    return next((str(path) for path in candidates(text, base) if path.is_dir()), text)
