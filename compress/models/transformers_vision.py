"""Image classifiers of the `transformers` library: from a configuration, a local folder or a hub name.

At rest such a network is its complete configuration as plain data, so that reading it back needs no folder or hub.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from compress.errors import UsageError
from compress.models.optional import import_or_explain

_NOT_AT_REST = ("_name_or_path", "transformers_version", "_commit_hash")


class Logits(nn.Module):
    """A `transformers` classifier, in `network`, whose answer is its logits alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Images (N, C, H, W) -> logits (N, classes)."""
        return self.network(pixel_values=pixel_values).logits  # type: ignore[no-any-return]


def configuration(
    given: str | Mapping[str, Any],
    arguments: Mapping[str, Any],
    input_shape: tuple[int, ...],
    classes: int,
    new_head: bool,
) -> dict[str, Any]:
    """The complete configuration of the network that `given` (folder, hub name or a configuration) means.

    What a configuration leaves open is taken from the data: the number of classes, channels and the image size.
    `input_shape` is (C, H, W). `arguments` of a folder or hub name go to `AutoConfig` (`revision`, changed values).

    Raises:
        UsageError: there is no such network, or it does not fit the data.
    """
    library = import_or_explain("transformers", "text")
    if isinstance(given, str):
        config = _read(library, given, arguments)
        if config.num_labels != classes and not new_head:
            raise UsageError(
                f"transformers: {given} tells {config.num_labels} classes apart and the data have {classes}; "
                "write `head: new` for a new, untrained classifier on its trained body"
            )
        if config.num_labels != classes:
            config.num_labels = classes
        given_keys = set(config.to_dict())
    else:
        config, given_keys = _make(library, {**given, **arguments}), {*given, *arguments}
        if {"num_labels", "id2label"} & given_keys and config.num_labels != classes:
            raise UsageError(
                f"transformers: num_labels is {config.num_labels} and the data have {classes} classes; leave it out"
            )
        config.num_labels = classes
    _fit_images(config, given_keys, input_shape)
    return {key: value for key, value in config.to_dict().items() if key not in _NOT_AT_REST}


def build(config: Mapping[str, Any]) -> Logits:
    """The network of a complete configuration, with new weights."""
    library = import_or_explain("transformers", "text")
    try:
        return Logits(library.AutoModelForImageClassification.from_config(_make(library, config)))
    except ValueError as error:
        raise UsageError(f"transformers: {_first_line(error)}") from error


def load_published(module: nn.Module, given: str, arguments: Mapping[str, Any], new_head: bool) -> None:
    """Fill a network that `build` made with the weights of the folder or hub name that its configuration is from.

    With `new_head` the classifier keeps the weights that it has.

    Raises:
        UsageError: the weights cannot be read or do not fit; lists every difference.
    """
    import torch

    library = import_or_explain("transformers", "text")
    network = module.network
    assert isinstance(network, nn.Module)
    hub = {key: value for key, value in arguments.items() if key in ("revision", "subfolder", "variant")}
    try:
        with _quiet(library):  # what does not fit is listed below
            source, info = library.AutoModelForImageClassification.from_pretrained(
                given,
                config=network.config,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                dtype=torch.float32,
                **hub,
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(f"transformers: {given}: the weights cannot be read: {_first_line(error)}") from error
    body = f"{source.base_model_prefix}."
    mismatched = [key if isinstance(key, str) else key[0] for key in info["mismatched_keys"]]
    new = {key for key in [*info["missing_keys"], *mismatched] if new_head and not key.startswith(body)}
    unused = [k for k in info["unexpected_keys"] if not (new_head and (not k.startswith(body) or ".pooler." in k))]
    faults = [f"missing: {key}" for key in sorted(set(info["missing_keys"]) - new)]
    faults += [f"of another shape: {key}" for key in sorted(set(mismatched) - new)]
    faults += [f"not in the network: {key}" for key in sorted(unused)]
    if faults:
        raise UsageError(f"transformers: the weights of {given} do not fit:\n  " + "\n  ".join(faults))
    kept = {key: value for key, value in source.state_dict().items() if key not in new}
    own = network.state_dict()
    network.load_state_dict({**own, **kept})


def _read(library: Any, given: str, arguments: Mapping[str, Any]) -> Any:
    try:
        return library.AutoConfig.from_pretrained(given, **arguments)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"transformers: {given!r} is neither a folder with a network nor a name on the hub that can be reached: "
            f"{_first_line(error)}"
        ) from error


def _make(library: Any, given: Mapping[str, Any]) -> Any:
    kind = given.get("model_type")
    if kind is None:
        raise UsageError("transformers: a configuration needs its model_type, such as {model_type: vit, ...}")
    try:
        return library.AutoConfig.for_model(**given)
    except (ValueError, TypeError) as error:
        from compress.suggest import did_you_mean

        known = list(library.CONFIG_MAPPING)
        hint = "" if kind in known else did_you_mean(str(kind), known)
        raise UsageError(f"transformers: model_type {kind!r}{hint}: {_first_line(error)}") from error


def _fit_images(config: Any, given_keys: set[str], input_shape: tuple[int, ...]) -> None:
    """Set channels and image size from the data where the configuration left them open; refuse a contradiction."""
    if len(input_shape) != 3:
        raise UsageError(f"transformers: the network takes images (C, H, W); the data have shape {input_shape}")
    channels, height, width = input_shape
    if "num_channels" not in given_keys and hasattr(config, "num_channels"):
        config.num_channels = channels
    if "image_size" not in given_keys and hasattr(config, "image_size"):
        config.image_size = height if height == width else (height, width)
    if getattr(config, "num_channels", channels) != channels:
        raise UsageError(
            f"transformers: the network takes images of {config.num_channels} channels and the data give {channels}; "
            "change the preprocessing (`color: rgb` or `color: grey`)"
        )


def _first_line(error: Exception) -> str:
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
