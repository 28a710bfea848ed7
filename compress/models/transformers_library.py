"""What networks of the `transformers` library have in common: configurations, published weights, errors in words.

At rest such a network is its complete configuration as plain data, so that reading it back needs no folder or hub.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from compress.errors import UsageError
from compress.optional import import_or_explain
from compress.suggest import did_you_mean, unknown

_NOT_AT_REST = ("_name_or_path", "transformers_version", "_commit_hash")
_OF_THE_BASE = ("num_labels", "id2label", "label2id", "attn_implementation", "dtype", "torch_dtype", "model_type")
HUB = ("revision", "subfolder", "variant")
"""Arguments of a hub name that say where on the hub, not what the network is like."""


def open_library() -> Any:
    """The library, or UsageError with what to install."""
    return import_or_explain("transformers", "text")


def read_configuration(given: str, arguments: Mapping[str, Any]) -> Any:
    """The configuration in a local folder or under a hub name; `arguments` go to `AutoConfig`.

    Raises:
        UsageError: there is none, or it cannot be read.
    """
    try:
        return open_library().AutoConfig.from_pretrained(given, **arguments)
    except Exception as error:  # the library raises whatever a broken file leads to
        raise UsageError(
            f"transformers: {given!r} is neither a folder with a network nor a name on the hub that can be reached: "
            f"{first_line(error)}"
        ) from error


def make_configuration(given: Mapping[str, Any]) -> Any:
    """A configuration from its plain data.

    Raises:
        UsageError: an unknown kind of network, or values that it cannot have.
    """
    kind, library = given.get("model_type"), open_library()
    if kind is None:
        raise UsageError("transformers: a configuration needs its model_type, such as {model_type: bert, ...}")
    try:
        return library.AutoConfig.for_model(**given)
    except Exception as error:  # the library raises whatever a wrong value leads to
        known = list(library.CONFIG_MAPPING)
        hint = "" if kind in known else did_you_mean(str(kind), known)
        raise UsageError(f"transformers: model_type {kind!r}{hint}: {first_line(error)}") from error


def written_configuration(given: Mapping[str, Any]) -> Any:
    """A configuration as a user wrote it, whose keys are checked: the library itself takes any.

    Raises:
        UsageError: a key that this kind of network does not have; and as `make_configuration`.
    """
    config = make_configuration(given)
    usual = type(config)().to_dict()
    known = {*usual, *type(config).attribute_map, *_OF_THE_BASE}
    wrong = [key for key in given if key not in known]
    if wrong:
        names = sorted(key for key in known if not key.startswith("_"))
        kind = given["model_type"]
        raise UsageError("\n".join(f"transformers: {unknown(f'key of a {kind} network', k, names)}" for k in wrong))
    return config


def opened(given: str | Mapping[str, Any], arguments: Mapping[str, Any]) -> tuple[Any, set[str]]:
    """The configuration, and which of its keys were written by somebody."""
    if isinstance(given, str):
        config = read_configuration(given, arguments)
        return config, set(config.to_dict())
    return written_configuration({**given, **arguments}), {*given, *arguments}


def fit_classes(
    config: Any, given_keys: set[str], classes: int, given: str | Mapping[str, Any], new_head: bool
) -> None:
    """Set the number of classes; UsageError where the configuration has another."""
    if isinstance(given, str) and config.num_labels != classes and not new_head:
        raise UsageError(
            f"transformers: {given} tells {config.num_labels} classes apart and the data have {classes}; "
            "write `head: new` for a new, untrained classifier on its trained body"
        )
    if isinstance(given, Mapping) and {"num_labels", "id2label"} & given_keys and config.num_labels != classes:
        raise UsageError(
            f"transformers: num_labels is {config.num_labels} and the data have {classes} classes; leave it out"
        )
    if config.num_labels != classes:
        config.num_labels = classes


def at_rest(config: Any) -> dict[str, Any]:
    """The complete configuration as plain data, without the place and version that it came from."""
    return {key: value for key, value in config.to_dict().items() if key not in _NOT_AT_REST}


def is_given(config: Any, key: str, given: set[str]) -> bool:
    """Whether a configuration's key was written, under this name or the family's own."""
    return key in given or type(config).attribute_map.get(key) in given


def make_network(auto_class: str, config: Mapping[str, Any]) -> nn.Module:
    """The network of a complete configuration, with new weights.

    Raises:
        UsageError: no network of this kind, or values that do not fit together.
    """
    factory = getattr(open_library(), auto_class)
    made = make_configuration(config)
    try:
        return factory.from_config(made)  # type: ignore[no-any-return]
    except Exception as error:  # the library raises whatever a wrong value leads to
        kind = config.get("model_type")
        raise UsageError(f"transformers: {kind}: {type(error).__name__}: {first_line(error)}") from error


def load_published(
    network: nn.Module, auto_class: str, given: str, arguments: Mapping[str, Any], new_head: bool
) -> None:
    """Fill a network that `make_network` made with the weights of the folder or hub name of its configuration.

    With `new_head` what lies on the body keeps the weights that it has.

    Raises:
        UsageError: the weights cannot be read or do not fit; lists every difference.
    """
    import torch

    library = open_library()
    hub = {key: value for key, value in arguments.items() if key in HUB}
    try:
        with _quiet(library):  # what does not fit is listed below
            source, info = getattr(library, auto_class).from_pretrained(
                given,
                config=network.config,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                dtype=torch.float32,
                **hub,
            )
    except Exception as error:  # the library raises whatever a broken file leads to
        raise UsageError(f"transformers: {given}: the weights cannot be read: {first_line(error)}") from error
    body = f"{source.base_model_prefix}."

    def of_the_head(key: str) -> bool:
        return new_head and (not key.startswith(body) or ".pooler." in key)

    mismatched = [key if isinstance(key, str) else key[0] for key in info["mismatched_keys"]]
    new = {key for key in [*info["missing_keys"], *mismatched] if of_the_head(key)}
    faults = [f"missing: {key}" for key in sorted(set(info["missing_keys"]) - new)]
    faults += [f"of another shape: {key}" for key in sorted(set(mismatched) - new)]
    faults += [f"not in the network: {key}" for key in sorted(info["unexpected_keys"]) if not of_the_head(key)]
    if faults:
        raise UsageError(f"transformers: the weights of {given} do not fit:\n  " + "\n  ".join(faults))
    kept = {key: value for key, value in source.state_dict().items() if key not in new}
    network.load_state_dict({**network.state_dict(), **kept})


def first_line(error: Exception) -> str:
    """What an error says in its first line, or its kind."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@contextmanager
def _quiet(library: Any) -> Iterator[None]:
    """Without the library's own warnings and bars."""
    verbosity, had_bars = library.logging.get_verbosity(), library.logging.is_progress_bar_enabled()
    library.logging.set_verbosity_error()
    library.logging.disable_progress_bar()
    try:
        yield
    finally:
        library.logging.set_verbosity(verbosity)
        if had_bars:
            library.logging.enable_progress_bar()
