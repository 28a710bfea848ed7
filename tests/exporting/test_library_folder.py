"""Folders of artifacts are loaded by `optimum` and `transformers`, and answer as the report says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import parser
from PIL import Image
from torch import nn

from compress.bundle import Deployment, Kind, TensorSpec, write_bundle
from compress.config import read_pipeline
from compress.data.preprocessing import Preprocessing
from compress.execute import execute
from compress.exporting import library_folder
from compress.exporting.run import export_emission
from compress.models import rest
from compress.models.factory import Factory
from compress.stage import Silent
from compress.store import Store
from tests.exporting.text_exports import deployment as text_deployment
from tests.models.text_networks import made

GOOD, BAD = ["fine", "great", "lovely", "superb"], ["dull", "awful", "weak", "sad"]
FILLING = ["a", "the", "film", "plot", "story", "and", "very"]
PIPELINE = """
threads: 1
data:
  source: {table: {train: train.jsonl, test: test.jsonl, input: s, target: t}}
  text: {tokenizer: {vocabulary: vocab.txt}, max_length: 12}
task: text-classification
models:
  bert: {transformers: {model_type: bert, hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1,
    num_attention_heads: 2}}
stages:
  - train: {epochs: 8, batch_size: 32, learning_rate: 0.02}
  - export: {emit: [fp32]}
  - quantize: {model: bert, epochs: 0, weight_bits: 7}
  - export: {emit: [ort-x86]}
targets: [{name: local, emit: [fp32, ort-x86], rounds: 2, seconds: 0.01, warmup_seconds: 0}]
"""


def _texts(count: int, seed: int) -> list[dict[str, str]]:
    """Reviews; every ninth label is wrong, so that no file can be right about all of them."""
    random, rows = np.random.default_rng(seed), []
    for number in range(count):
        kind = int(random.integers(2))
        words = [*random.choice(FILLING, random.integers(1, 14)), random.choice((BAD, GOOD)[kind])]
        label = kind if number % 9 else 1 - kind
        rows.append({"s": " ".join(random.permutation(words)), "t": ("bad", "good")[label]})
    return rows


def test_a_bert_classifiers_folders_load_with_optimum_and_answer_as_the_report_says(tmp_path: Path) -> None:
    from optimum.onnxruntime import ORTModelForSequenceClassification
    from transformers import AutoTokenizer, pipeline

    tests = _texts(60, 2)
    for name, examples in (("train", _texts(200, 1)), ("test", tests)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(example) + "\n" for example in examples))
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    (tmp_path / "vocab.txt").write_text("\n".join([*special, *FILLING, *GOOD, *BAD]) + "\n")
    (tmp_path / "bert.yaml").write_text(PIPELINE)
    read, store = read_pipeline(tmp_path / "bert.yaml"), Store(tmp_path / "store")
    outcome = execute(read, store, tmp_path / "runs", Silent(), rehearsal=False)
    assert outcome is not None
    rows = [row for row in outcome.report["models"] if row["kind"] == "onnx"]
    assert sorted(row["precision"] for row in rows) == ["fp32", "int8"]
    for row in rows:
        folder = tmp_path / "runs" / "bert" / row["path"]
        model = ORTModelForSequenceClassification.from_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        right, session = 0, onnxruntime.InferenceSession(folder / "model.onnx")
        for test in tests:
            given = tokenizer(test["s"], truncation=True, return_tensors="pt")
            logits = model(**given).logits[0]
            bare = session.run(None, {name: tensor.numpy() for name, tensor in given.items()})[0][0]
            assert np.array_equal(logits.numpy(), bare)
            right += model.config.id2label[int(logits.argmax())] == test["t"]
        assert right / len(tests) == pytest.approx(row["metrics"]["accuracy"], abs=1e-9)
        assert 0.7 < right / len(tests) < 1
        padded = tokenizer([test["s"] for test in tests[:8]], truncation=True, padding=True, return_tensors="pt")
        assert model(**padded).logits.shape == (8, 2)
        said: Any = pipeline("text-classification", model=model, tokenizer=tokenizer)("a very lovely film")
        assert said[0]["label"] == "good"
    artifacts = tmp_path / "runs" / "bert" / "artifacts"
    command = [sys.executable, str(artifacts / "minimal.py"), "a very lovely film"]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert shown.stdout.startswith("good "), shown.stderr
    entry = json.loads((artifacts / "manifest.json").read_text())["files"][0]
    assert entry["extra"]["optimum"]["class"] == "ORTModelForSequenceClassification"
    assert entry["size_bytes"] == (artifacts / entry["model"]).stat().st_size


def _at_rest(name: str, task: str, folder: Path) -> tuple[Factory, nn.Module, Deployment]:
    """A tiny network with random weights; into `folder` goes a tokenizer of whole words."""
    from tokenizers import Tokenizer, models  # type: ignore[import-untyped]

    factory, module = made(name, task)
    half = text_deployment(module, task)
    known = {
        "file": "tokenizer.json", "max_length": 24, "pad_id": 0, "mask_id": 3, "eos_id": 2, "start_id": 1,
        "prompt": None, "inputs": [spec.name for spec in half.inputs],
    }  # fmt: skip
    words = {word: number for number, word in enumerate(["<pad>", "<s>", "</s>", "<mask>", *map(str, range(4, 80))])}
    folder.mkdir(parents=True)
    Tokenizer(models.WordLevel(words, unk_token="<pad>")).save(str(folder / "tokenizer.json"))
    half = Deployment({"name": task}, half.inputs, half.outputs, extra={**half.extra, "tokenizer": known})
    return factory, module, half


def _exported(name: str, task: str, folder: Path) -> Path:
    """Such a network as a bundle of kind onnx."""
    factory, module, half = _at_rest(name, task, folder / "source")
    rest.save(module, factory, folder / "source")
    export_emission(write_bundle(folder / "source", Kind.TORCH, half), "fp32", folder / "out")
    return folder / "out"


def test_a_masked_language_model_loads(tmp_path: Path) -> None:
    from optimum.onnxruntime import ORTModelForMaskedLM
    from transformers import AutoTokenizer

    folder = _exported("bert", "masked-lm", tmp_path)
    _, network = made("bert", "masked-lm")
    model, tokenizer = ORTModelForMaskedLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert tokenizer.mask_token == "<mask>" and tokenizer.model_input_names == ["input_ids", "attention_mask"]
    ids = torch.tensor([[5, 3, 7]])
    with torch.no_grad():
        expected = network(ids, torch.ones_like(ids))
    torch.testing.assert_close(model(ids, torch.ones_like(ids)).logits, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["gpt2"])
def test_a_causal_language_model_writes_without_a_cache(name: str, tmp_path: Path) -> None:
    from optimum.onnxruntime import ORTModelForCausalLM

    folder = _exported(name, "causal-lm", tmp_path)
    told = json.loads((folder / "bundle.json").read_text())["deployment"]["extra"]["optimum"]
    assert told["class"] == "ORTModelForCausalLM" and library_folder.NO_CACHE in told["notes"]
    model = ORTModelForCausalLM.from_pretrained(folder, **told["arguments"])
    _, network = made(name, "causal-lm")
    given = torch.tensor([[5, 9, 7]])
    written = model.generate(given, attention_mask=torch.ones_like(given), max_new_tokens=5, do_sample=False)
    expected = given
    with torch.no_grad():
        for _ in range(5):
            following = network(expected, torch.ones_like(expected))[:, -1].argmax(-1, keepdim=True)
            expected = torch.cat([expected, following], dim=1)
    length = written.shape[1]
    assert length > 3 and torch.equal(written, expected[:, :length])


def test_what_optimum_cannot_load_says_so(tmp_path: Path) -> None:
    factory, _, half = _at_rest("t5", "sequence-to-sequence", tmp_path / "out")
    told = library_folder.write_library_files(tmp_path / "out", factory, half)
    assert told.class_name is None and "two files" in told.notes[0]
    half.extra["tokenizer"]["prompt"] = "summarize: {input}"
    assert "prompt" in library_folder.write_library_files(tmp_path / "out", factory, half).notes[1]


IMAGES = {
    "vit": {
        "model_type": "vit", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "patch_size": 4,
    },
    "resnet": {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1],
               "layer_type": "basic"},
}  # fmt: skip
STEPS = ({"color": {"mode": "rgb"}}, {"scale": {"factor": 1 / 255}},
         {"normalize": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}})  # fmt: skip


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_classifier_loads_with_its_image_processor(name: str, tmp_path: Path) -> None:
    from optimum.onnxruntime import ORTModelForImageClassification
    from transformers import AutoImageProcessor

    from compress.models.factory import build, factory_for
    from compress.models.need import Need
    from compress.models.settings import ModelSettings

    settings = ModelSettings(transformers=IMAGES[name])
    factory = factory_for(settings, Need(((3, 16, 16),), 3, "image-classification", ("input",)))
    network = build(factory, 1).eval()
    rest.save(network, factory, tmp_path / "source")
    half = Deployment(
        {"name": "image-classification"},
        (TensorSpec("input", "float32", ("batch", 3, 16, 16)),),
        (TensorSpec("output", "float32", ("batch", 3)),),
        STEPS,
        ("cat", "dog", "owl"),
    )
    export_emission(write_bundle(tmp_path / "source", Kind.TORCH, half), "fp32", tmp_path / "out")
    model = ORTModelForImageClassification.from_pretrained(tmp_path / "out")
    processor = AutoImageProcessor.from_pretrained(tmp_path / "out")
    pixels = np.random.default_rng(3).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    ours = Preprocessing(STEPS)([pixels])
    theirs = processor(Image.fromarray(pixels), return_tensors="pt")
    np.testing.assert_allclose(theirs["pixel_values"].numpy(), ours, atol=1e-6)
    with torch.no_grad():
        expected = network(torch.from_numpy(ours))
    torch.testing.assert_close(model(**theirs).logits, expected, atol=1e-5, rtol=1e-4)
    assert model.config.id2label == {0: "cat", 1: "dog", 2: "owl"}


def _processor(*steps: dict[str, Any]) -> dict[str, Any] | None:
    ends = (TensorSpec("input", "float32", ("batch", 3, 8, 8)),), (TensorSpec("output", "float32", ("batch", 2)),)
    return library_folder.image_processor(Deployment({}, *ends, steps))


def test_an_image_processor_resizes_and_crops_as_the_preprocessing_does_but_for_rounding(tmp_path: Path) -> None:
    from transformers import CLIPImageProcessor

    steps: tuple[dict[str, Any], ...] = (
        {"color": {"mode": "rgb"}}, {"resize": {"size": 12, "keep": "shortest"}}, {"center_crop": {"size": 8}},
        {"scale": {"factor": 1 / 255}}, {"normalize": {"mean": [0.5], "std": [0.25]}},
    )  # fmt: skip
    settings = _processor(*steps)
    assert settings is not None and settings["image_mean"] == [0.5] * 3
    pixels = np.random.default_rng(4).integers(0, 256, (30, 48, 3), dtype=np.uint8)
    theirs = CLIPImageProcessor(**settings)(Image.fromarray(pixels), return_tensors="np")["pixel_values"]
    step = 1 / 255 / 0.25
    assert np.abs(theirs - Preprocessing(steps)([pixels])).max() <= 1.01 * step


@pytest.mark.parametrize(
    "steps",
    [
        ({"scale": {"factor": 0.1}}, {"resize": {"size": 8}}),
        ({"color": {"mode": "grey"}},),
        ({"resize": {"size": 8}}, {"resize": {"size": 8}}),
        ({"resize": {"size": [4, 8], "keep": "shortest"}},),
    ],
)
def test_no_image_processor_is_written_that_does_something_else(steps: tuple[dict[str, Any], ...]) -> None:
    assert _processor(*steps) is None


def test_a_name_that_is_taken_inside_of_a_graph_makes_way(tmp_path: Path) -> None:
    text = '<ir_version: 8, opset_import: ["" : 18]> g (float[batch,2] input) => (float[batch,2] output) '
    proto = parser.parse_model(text + "{ logits = Neg(input) output = Exp(logits) }")
    ends = (TensorSpec("input", "float32", ("batch", 2)),), (TensorSpec("output", "float32", ("batch", 2)),)
    half = Deployment({}, *ends)
    library_folder.rename(proto, half, library_folder.library_names(half))
    onnx.checker.check_model(proto)
    given = np.array([[1.0, 2.0]], dtype=np.float32)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    np.testing.assert_allclose(session.run(["logits"], {"pixel_values": given})[0], np.exp(-given), rtol=1e-6)
