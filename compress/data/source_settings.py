"""Where examples come from, as a user writes it. Each source tells its `identity`: digests of content, never paths."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler, ValidationInfo, WithJsonSchema, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from compress.data.digests import file_digest, folder_digest, path_digest
from compress.data.locations import find_path, find_paths
from compress.data.split_names import UNLABELLED
from compress.data.step_settings import exactly_one, or_name
from compress.settings import Settings
from compress.user_code import absolute_spec, source_digest


def _base(info: ValidationInfo) -> Path | None:
    return (info.context or {}).get("base")


def _found(value: Any, info: ValidationInfo) -> Any:
    return str(find_path(str(value), _base(info))) if isinstance(value, str | Path) else value


def _all_found(value: Any, info: ValidationInfo) -> Any:
    names = [value] if isinstance(value, str | Path) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str | Path) for name in names):
        return value
    return [str(path) for name in names for path in find_paths(str(name), _base(info))]


def _found_function(value: Any, info: ValidationInfo) -> Any:
    return absolute_spec(value, _base(info)) if isinstance(value, str) else value


FoundPath = Annotated[Path, BeforeValidator(_found), WithJsonSchema({"type": "string"})]
FoundPaths = Annotated[
    tuple[Path, ...],
    Field(min_length=1),
    BeforeValidator(_all_found),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
FoundFunction = Annotated[str, BeforeValidator(_found_function)]
Columns = str | Annotated[tuple[str, ...], Field(min_length=1)]


def column_names(*parts: Columns | None) -> list[str]:
    """Every column that `parts` name, once."""
    lists = ([part] if isinstance(part, str) else part or () for part in parts)
    return list(dict.fromkeys(name for names in lists for name in names))


def _require_path_or_train(given: Images | _Files, what: str, place: str) -> None:
    """ValueError unless one place is given with all of `what`, or one for each split."""
    if (given.path is None) == (given.train is None):
        raise ValueError(f"give either path (a {place} with all {what}) or train (and validation, test)")
    if given.path is not None and (given.validation or given.test):
        raise ValueError(f"path holds all {what}; with validation or test name the training {place} train")


class Digits(Settings):
    """scikit-learn's digits: 1,797 grey images of 8x8 pixels with values from 0 to 16, ten classes."""

    def identity(self) -> dict[str, Any]:
        """The digest of the file inside scikit-learn, found without importing it."""
        from compress.data.sources.digits_file import digits_file

        return {"content": file_digest(digits_file())}


class Images(Settings):
    """A folder with one folder of images for each class, or with such folders in `train`, `validation`, `test`."""

    path: FoundPath | None = None
    """The folder. `val`, `valid` and `dev` are read as `validation`. Or give `train` and the others."""
    train: FoundPath | None = None
    """The folder of class folders to train on, wherever it lies and whatever it is called."""
    validation: FoundPath | None = None
    """The folder to choose by; cut from `train` where left out."""
    test: FoundPath | None = None
    """The folder to report on; cut from `train` where left out."""

    @model_validator(mode="after")
    def _path_or_splits(self) -> Self:
        _require_path_or_train(self, "images", "folder")
        return self

    def folders(self) -> dict[str, Path]:
        """The folder of each split that is named."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {split: folder for split, folder in named.items() if folder is not None}

    def identity(self) -> dict[str, Any]:
        """The digest of every file below the folders."""
        if self.path is not None:
            return {"content": folder_digest(self.path)}
        return {"content": {split: folder_digest(folder) for split, folder in self.folders().items()}}


class _Files(Settings):
    path: FoundPaths | None = None
    """One file, a glob pattern or a list of them, with all examples; or give `train` and the others."""
    train: FoundPaths | None = None
    """The file or files of the training split."""
    validation: FoundPaths | None = None
    """The file or files to choose by; cut from `train` where left out."""
    test: FoundPaths | None = None
    """The file or files to report on; cut from `train` where left out."""

    @model_validator(mode="after")
    def _path_or_splits(self) -> Self:
        _require_path_or_train(self, "examples", "file")
        return self

    def files(self) -> dict[str, tuple[Path, ...]]:
        """The files of each split that is given; a single `path` counts as training data to cut the others from."""
        named = {"train": self.path or self.train, "validation": self.validation, "test": self.test}
        return {split: paths for split, paths in named.items() if paths}

    def _content(self) -> dict[str, list[str]]:
        return {split: [file_digest(path) for path in paths] for split, paths in self.files().items()}


class Table(_Files):
    """Parquet, CSV, TSV, JSON Lines or Arrow files. Images are bytes, Hugging Face's {bytes, path}, or file names."""

    input: Columns
    """The column to read: images, texts, lists or numbers; or a list of number columns, which make a vector, or of
    two columns of texts, which make a pair."""
    target: Columns | None = None
    """The column to learn: class numbers or names, or numbers and lists for regression; or a list of number columns.
    Lists of names, or of numbers where `labels` names these, are several classes an example. Texts need none."""
    folder: FoundPath | None = None
    """Where the files lie that an input column of file names names."""
    unlabelled: FoundPaths | None = None
    """The file or files of further training examples, of which only the input is read."""

    def files(self) -> dict[str, tuple[Path, ...]]:
        """The files of each split that is given, those without targets last."""
        return {**super().files(), **({UNLABELLED: self.unlabelled} if self.unlabelled else {})}

    def identity(self) -> dict[str, Any]:
        """Digests of the files, and of the folder of images."""
        folder = None if self.folder is None else folder_digest(self.folder)
        return {"content": self._content(), "input": self.input, "target": self.target, "folder": folder}


class Hub(Settings):
    """A Hugging Face data set, by name on the hub or as a local folder (of `save_to_disk`, or of data files)."""

    name: str | None = None
    """The name on the hub, such as `uoft-cs/cifar10`."""
    path: FoundPath | None = None
    """A local folder instead of a name."""
    config: str | None = None
    """The configuration (subset), where the data set has several."""
    revision: str = "main"
    """Branch, tag or commit. A name is resolved to a commit on first use and kept, so that results stay comparable."""
    input: Columns
    """The column to read, or a list of number columns or of two columns of texts."""
    target: Columns | None = None
    """The column to learn, as of a `table`."""
    splits: dict[Annotated[str, Field(pattern="^(train|validation|test|unlabelled)$")], str] | None = None
    """Which of its splits is ours, such as {train: train, test: validation}; by default those of the same names.
    Of `unlabelled` only the input is read."""

    @model_validator(mode="after")
    def _name_or_path(self) -> Self:
        if (self.name is None) == (self.path is None):
            raise ValueError("give either name (on the hub) or path (a local folder)")
        if self.splits is not None and "train" not in self.splits:
            raise ValueError("splits must say which split is train")
        return self

    def commit(self) -> str:
        """The commit that `revision` means."""
        from compress.data.sources.hub_revision import resolve

        return resolve(str(self.name), self.revision)

    def identity(self) -> dict[str, Any]:
        """Name and commit, or the content of the local folder."""
        if self.path is not None:
            which = {"content": path_digest(self.path)}
        else:
            which = {"name": str(self.name), "commit": self.commit()}
        return {**which, **self.model_dump(mode="json", include={"config", "input", "target", "splits"})}


class PlainText(_Files):
    """Text files in UTF-8, for modelling language: one long text, cut into blocks of `text.max_length` tokens.

    A validation or test split that is not given is cut from the end of the text.
    """

    def identity(self) -> dict[str, Any]:
        """Digests of the files."""
        return {"content": self._content()}


class Npz(_Files):
    """NumPy archives of `numpy.savez`; those written without compression are memory-mapped in place."""

    input: str = "x"
    """The array of inputs, examples first; `x_{split}` finds x_train, x_validation (or x_val), x_test in one file."""
    target: str = "y"
    """The array of targets, examples first, each in the shape of the network's output; `{split}` as in `input`."""

    @model_validator(mode="after")
    def _pattern(self) -> Self:
        if ("{split}" in self.input) != ("{split}" in self.target):
            raise ValueError("input and target must both name the split ({split}), or neither")
        if "{split}" in self.input and self.path is None:
            raise ValueError("{split} is for one file with all splits: give path, not train")
        return self

    def identity(self) -> dict[str, Any]:
        """Digests of the files."""
        return {"content": self._content(), "input": self.input, "target": self.target}


class PythonFunction(Settings):
    """A function of your own that returns {"train": ..., "validation": ..., "test": ..., "labels": [...]}.

    Each split is a pair (inputs, targets) of arrays, or a sequence of (input, target); all but `train` may be left out.
    With `text: {rationale: why}` there is a third: (inputs, targets, rationales), or (input, target, rationale).
    """

    function: FoundFunction
    """`module:function` or `path/file.py:function`."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the function."""
    files: FoundPaths | None = None
    """Files and folders that the function reads: a change in them counts as a change of the data."""

    def identity(self) -> dict[str, Any]:
        """The function's name, the digest of its source and of the files, and the arguments."""
        return {
            "function": self.function.rpartition(":")[2],
            "source": source_digest(self.function),
            "arguments": self.arguments,
            "files": [path_digest(path) for path in self.files or ()],
        }


class DataSource(Settings):
    """Exactly one kind of source."""

    digits: Digits | None = None
    """scikit-learn's handwritten digits."""
    images: Images | None = None
    """A folder of images."""
    table: Table | None = None
    """Parquet, CSV, TSV, JSON Lines or Arrow."""
    plain_text: PlainText | None = None
    """Text files without columns."""
    hub: Hub | None = None
    """A Hugging Face data set."""
    npz: Npz | None = None
    """NumPy archives."""
    python: PythonFunction | None = None
    """A Python function."""

    @model_validator(mode="before")
    @classmethod
    def _exactly_one(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = {value: {}}
        return exactly_one(cls, value, "give exactly one kind of source") if isinstance(value, dict) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return or_name(cls, handler(core))

    @property
    def kind(self) -> str:
        """The name of the source that is given."""
        return next(name for name, settings in self if settings is not None)

    def identity(self) -> dict[str, Any]:
        """The kind, and what tells its content from any other."""
        return {self.kind: getattr(self, self.kind).identity()}
