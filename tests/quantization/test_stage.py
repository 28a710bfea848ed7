from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from compress.bundle import Bundle, Kind, TensorSpec, read_bundle
from compress.data.settings import read_data_settings
from compress.errors import UsageError
from compress.exporting.stage import Export
from compress.models import rest
from compress.models.settings import ModelSettings
from compress.models.stage import Build
from compress.quantization.rest import STATE_FILE, load_quantized
from compress.quantization.stage import Quantize
from compress.stage import Context
from compress.training.state import tensors_of


@pytest.fixture(scope="module")
def context() -> Context:
    return Context(threads=1, data=read_data_settings("digits", Path()), rehearsal=True)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, context: Context) -> Bundle:
    folder = tmp_path_factory.mktemp("built")
    Build(name="student", model=ModelSettings(zoo="resnet8")).run({}, folder, context)
    return read_bundle(folder)


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory, context: Context, built: Bundle) -> Bundle:
    folder = tmp_path_factory.mktemp("quantized")
    metrics = Quantize(epochs=1).run({"source": built}, folder, context)
    assert metrics["quantization"]["kept"] in ("trained", "post_training")
    assert metrics["parameters"] == pytest.approx(78_000, rel=0.05)
    assert metrics["size_bytes"] < 0.4 * 4 * metrics["parameters"]
    return read_bundle(folder)


def test_the_bundle_says_what_it_is_and_passes_the_deployment_on(quantized: Bundle, built: Bundle) -> None:
    assert quantized.kind is Kind.QUANTIZED
    assert quantized.deployment == built.deployment
    assert not any(path.suffix in (".pt", ".pth", ".pkl") for path in quantized.path.rglob("*"))


def test_it_reloads_bit_equal(quantized: Bundle) -> None:
    one, other = load_quantized(quantized.path), load_quantized(quantized.path)
    assert all(torch.equal(tensor, tensors_of(other)[name]) for name, tensor in tensors_of(one).items())
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(one(x), other(x))
    assert rest.state_digest(one) == json.loads((quantized.path / "quantization.json").read_text())["state_sha256"]


def test_a_changed_state_is_noticed(quantized: Bundle, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    copy = tmp_path / "copy"
    shutil.copytree(quantized.path, copy)
    state = load_file(copy / STATE_FILE)
    state["quantizers.x.scale"] *= 2
    save_file(state, copy / STATE_FILE)
    with pytest.raises(UsageError, match="not the one that was written"):
        load_quantized(copy)


def test_every_emission_is_written_the_same_each_time(quantized: Bundle, context: Context, tmp_path: Path) -> None:
    for emission in ("fp32", "ort-x86", "ort-arm"):
        files = []
        for attempt in "ab":
            out = tmp_path / f"{emission}-{attempt}"
            metrics = Export(emit=(emission,)).run({"source": quantized}, out, context)
            files.append((out / "model.onnx").read_bytes())
        assert files[0] == files[1]
        assert str(tmp_path).encode() not in files[0]
        assert b"site-packages" not in files[0]
        assert metrics["int8_share"] == (None if emission == "fp32" else 1.0)


def test_static_axes_by_option(quantized: Bundle, context: Context, tmp_path: Path) -> None:
    Export(emit=("ort-x86",), batch=4).run({"source": quantized}, tmp_path, context)
    bundle = read_bundle(tmp_path)
    assert bundle.deployment.inputs == (TensorSpec("input", "float32", (4, 1, 8, 8)),)


def test_an_int8_file_of_a_float_model_is_refused(built: Bundle, context: Context, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="put `quantize:` before `export:`"):
        Export(emit=("ort-x86",)).run({"source": built}, tmp_path, context)


def test_settings_that_make_no_sense_are_faults() -> None:
    assert Quantize().faults() == []
    assert Quantize(epochs=0).faults() == []
    assert Quantize(schedule="step").faults()
    assert Export(emit=("fp32", "fp32")).faults()
    assert Export(emit=()).faults()
    assert Quantize(accuracy_drop=0.01, rungs=("static", "mixed")).faults() == []
    assert Quantize(rungs=("static", "mixed")).faults()  # they are climbed only for a budget
    for rungs in (("corrected",), ("static", "mixed", "corrected"), ("static", "static"), ()):
        assert Quantize(accuracy_drop=0.01, rungs=rungs).faults(), rungs


def test_what_is_automatic_follows_the_files() -> None:
    for files, said in {
        ("fp32", "ort-x86"): "affine grid, weights of 8 bits",
        ("tensorrt", "ort-x86"): "symmetric grid, weights of 8 bits",
        ("ort-x86-avx2",): "affine grid, weights of 7 bits",
        ("ort-x86-avx2", "tensorrt"): "symmetric grid, weights of 7 bits",
    }.items():
        assert Quantize().for_files(files).decided() == said
    given = Quantize(grid="affine", weight_bits=8).for_files(("ort-x86-avx2", "tensorrt"))
    assert given.decided() == "affine grid, weights of 8 bits"
