"""What `transformers` and `optimum` look for beside an ONNX file, so that its folder is one that they load.

`ORTModelForSequenceClassification.from_pretrained(folder)` of `optimum-onnx` wants `config.json` and a `model.onnx`
that calls its tensors what the library does; `AutoTokenizer` wants `tokenizer_config.json` beside `tokenizer.json`;
`AutoImageProcessor` wants `preprocessor_config.json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from onnx import ModelProto

from compress.bundle import Bundle, Deployment, Kind, TensorSpec
from compress.exporting.graph import nested
from compress.models import rest
from compress.models.deployment import TOKENIZER_FILE
from compress.models.factory import Factory
from compress.models.transformers_library import at_rest, make_configuration
from compress.models.transformers_text import HEADS
from compress.models.transformers_vision import AUTO_CLASS

CONFIG_FILE, TOKENIZER_CONFIG_FILE, PROCESSOR_FILE = "config.json", "tokenizer_config.json", "preprocessor_config.json"
PIXELS, LOGITS = "pixel_values", "logits"
CLASSES = {
    "sequence-classification": "ORTModelForSequenceClassification",
    "masked-lm": "ORTModelForMaskedLM",
    "causal-lm": "ORTModelForCausalLM",
    AUTO_CLASS: "ORTModelForImageClassification",
}
"""Kind of head -> optimum's class."""
PROBLEMS = {
    "text-classification": "single_label_classification",
    "image-classification": "single_label_classification",
    "multi-label-classification": "multi_label_classification",
    "regression": "regression",
}
"""Task -> what the library calls it, by which its pipelines choose between softmax, sigmoid and neither."""
NO_CACHE = "the file keeps no keys and values from one call to the next: pass use_cache=False and use_io_binding=False"
TWO_FILES = (
    "optimum's ORTModelForSeq2SeqLM takes an encoder and a decoder as two files, and this is one that holds both; run "
    "it with ONNX Runtime as example.py does"
)
_BILINEAR = 2
"""Pillow's number for it."""
_SPECIAL = {"pad_id": "pad_token", "mask_id": "mask_token", "eos_id": "eos_token", "start_id": "bos_token"}


@dataclass(frozen=True)
class Loadable:
    """How optimum loads a folder: `class_name` with `arguments`; where none can, `class_name` is None.

    `notes` say why not, or what to mind.
    """

    class_name: str | None
    arguments: Mapping[str, Any]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain data, for the manifest."""
        return {"class": self.class_name, "arguments": dict(self.arguments), "notes": list(self.notes)}


def library_factory(source: Bundle) -> Factory | None:
    """What makes the network of a bundle, float or quantized, if the `transformers` library does."""
    if source.kind is Kind.QUANTIZED:
        from compress.quantization.rest import FLOAT_FOLDER

        factory = rest.read_factory(source.path / FLOAT_FOLDER)
    else:
        factory = rest.read_factory(source.path)
    return factory if factory.source == "transformers" else None


def library_names(deployment: Deployment) -> Deployment:
    """The deployment with its tensors called what the library calls them: `pixel_values` in, `logits` out."""
    inputs: tuple[TensorSpec, ...] = deployment.inputs
    if "tokenizer" not in deployment.extra and len(inputs) == 1:
        inputs = (replace(inputs[0], name=PIXELS),)
    return replace(deployment, inputs=inputs, outputs=(replace(deployment.outputs[0], name=LOGITS),))


def rename(proto: ModelProto, before: Deployment, after: Deployment) -> None:
    """Rename a graph's inputs and outputs, in place; what is called so inside of it gets another name."""
    old, new = ([spec.name for spec in (*each.inputs, *each.outputs)] for each in (before, after))
    names = {one: other for one, other in zip(old, new, strict=True) if one != other}
    names |= {taken: f"{taken}_inside" for taken in names.values() if taken not in old}
    if names:
        _rename(proto.graph, names)


def write_library_files(folder: Path, factory: Factory, deployment: Deployment) -> Loadable:
    """Put the library's files beside `model.onnx` and `tokenizer.json` (if there is one); say how the folder is loaded.

    The tokenizer's file must lie there already.
    """
    head = factory.arguments.get("head", AUTO_CLASS)
    _write(folder / CONFIG_FILE, library_config(factory, deployment))
    notes: list[str] = []
    if "tokenizer" in deployment.extra:
        _write(folder / TOKENIZER_CONFIG_FILE, tokenizer_config(folder / TOKENIZER_FILE, deployment))
        if deployment.extra["tokenizer"]["prompt"]:
            notes.append("texts are to be put into the prompt of the manifest before they are tokenized")
    else:
        processor = image_processor(deployment)
        if processor is None:
            steps = ", ".join(name for step in deployment.preprocessing for name in step)
            notes.append(
                f"no image processor of transformers does the preprocessing ({steps}): use preprocessing.py, which "
                "lies with the files"
            )
        else:
            _write(folder / PROCESSOR_FILE, processor)
            if processor["do_resize"]:
                notes.append(
                    "the image processor rounds pixels to whole numbers after resizing, and preprocessing.py does not"
                )
    if head not in CLASSES:
        return Loadable(None, {}, (TWO_FILES, *notes))
    arguments = {"use_cache": False, "use_io_binding": False} if head == "causal-lm" else {}
    return Loadable(CLASSES[head], arguments, (*((NO_CACHE,) if arguments else ()), *notes))


def library_config(factory: Factory, deployment: Deployment) -> dict[str, Any]:
    """The content of `config.json`: the network's configuration, with the names of its classes.

    It says what was asked of the library; what was pruned since in ways that no configuration can say is in the ONNX
    file alone, which is what computes.
    """
    config = make_configuration(factory.arguments["config"])
    labels = deployment.labels
    classifies = factory.arguments.get("head", AUTO_CLASS) in ("sequence-classification", AUTO_CLASS)
    if classifies and labels is not None and len(labels) == config.num_labels:
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: number for number, label in enumerate(labels)}
    if classifies:
        config.problem_type = PROBLEMS.get(str(deployment.task.get("name")))
    plain = {key: value for key, value in at_rest(config).items() if value is not None}
    return {**plain, "architectures": _architectures(factory, config)}


def tokenizer_config(file: Path, deployment: Deployment) -> dict[str, Any]:
    """The content of `tokenizer_config.json` for a `tokenizer.json`: special tokens, length, what the file reads."""
    from tokenizers import Tokenizer  # type: ignore[import-untyped]

    known = deployment.extra["tokenizer"]
    tokenizer = Tokenizer.from_file(str(file))
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    special: dict[str, str] = {}
    for key, name in _SPECIAL.items():
        token = None if known.get(key) is None else tokenizer.id_to_token(known[key])
        if token is not None:
            special[name] = token
    for name, token in (("unk_token", "[UNK]"), ("cls_token", "[CLS]"), ("sep_token", "[SEP]")):
        if token in vocabulary:
            special[name] = token
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": known["max_length"],
        "model_input_names": [name for name in known["inputs"] if not name.startswith("decoder_")],
        "padding_side": "right",
        "truncation_side": "right",
        "clean_up_tokenization_spaces": False,
        **special,
    }


def image_processor(deployment: Deployment) -> dict[str, Any] | None:
    """The preprocessing as a `preprocessor_config.json`; None where its steps are none that the library's can do.

    `CLIPImageProcessor` resizes, crops, scales and normalizes in this order, each or not.
    """
    order = ("image", "color", "resize", "center_crop", "scale", "normalize")
    steps = [(name, settings) for step in deployment.preprocessing for name, settings in step.items()]
    places = [order.index(name) if name in order else -1 for name, _ in steps]
    if -1 in places or any(later <= earlier for earlier, later in pairwise(places)):
        return None
    given = dict(steps)
    if given.get("color", {}).get("mode") == "grey":
        return None
    channels = int(deployment.inputs[0].shape[1])
    processor: dict[str, Any] = {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": "color" in given,
        "do_resize": "resize" in given,
        "do_center_crop": "center_crop" in given,
        "do_rescale": "scale" in given,
        "do_normalize": "normalize" in given,
    }
    if "resize" in given:
        shortest = given["resize"].get("keep") == "shortest"
        height, width = _two(given["resize"]["size"])
        if shortest and height != width:
            return None
        size = {"shortest_edge": height} if shortest else {"height": height, "width": width}
        processor |= {"size": size, "resample": _BILINEAR}
    if "center_crop" in given:
        processor["crop_size"] = dict(zip(("height", "width"), _two(given["center_crop"]["size"]), strict=True))
    if "scale" in given:
        processor["rescale_factor"] = given["scale"]["factor"]
    if "normalize" in given:
        each = {key: list(given["normalize"][name]) for key, name in (("image_mean", "mean"), ("image_std", "std"))}
        processor |= {key: values * channels if len(values) == 1 else values for key, values in each.items()}
    return processor


def _architectures(factory: Factory, config: Any) -> list[str]:
    """The library's class of the network, by which its pipelines know what a folder is for."""
    import transformers

    auto = getattr(transformers, HEADS.get(factory.arguments.get("head", ""), AUTO_CLASS))
    found = auto._model_mapping[type(config)]
    return [(found[0] if isinstance(found, Sequence) else found).__name__]


def _rename(graph: Any, names: Mapping[str, str]) -> None:
    for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        for tensors in (node.input, node.output):
            for at, name in enumerate(tensors):
                tensors[at] = names.get(name, name)
        for inner in nested(node):
            _rename(inner, names)


def _two(size: int | Sequence[int]) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)


def _write(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, default=str)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")
