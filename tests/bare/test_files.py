from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import ModelProto

from compress.bare.files import File, write_files
from compress.bare.judge import Judge
from compress.bare.samples import Samples
from compress.exporting.graph import Graph
from compress.quantization.bare_file import open_float
from compress.quantization.post_training.static import grids, observe
from compress.quantization.post_training.weights import quantize_weights
from compress.quantization.template import insert, template_of
from tests.quantization.graphs import batches_of, floats, graph, node, run

NAMES = ("ort-x86", "ort-x86-avx2", "ort-arm", "tensorrt")
X = floats(32, 3, 8, 8, seed=9)


def network() -> ModelProto:
    """A residual sum, pools, and an image as the output."""
    nodes = [
        node("Conv", "x w1 b", "c1", pads=[1, 1, 1, 1]),
        node("Relu", "c1", "r1"),
        node("Conv", "r1 w2 b", "c2", pads=[1, 1, 1, 1]),
        node("Add", "c2 r1", "s"),
        node("Relu", "s", "r2"),
        node("MaxPool", "r2", "m", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", "m w3", "y"),
    ]
    arrays = {
        "w1": floats(8, 3, 3, 3, scale=0.3), "w2": floats(8, 8, 3, 3, seed=1, scale=0.1), "b": floats(8, seed=2),
        "w3": floats(4, 8, 1, 1, seed=3),
    }  # fmt: skip
    return graph(nodes, arrays, {"x": ["batch", 3, 8, 8]}, {"y": None})


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, File], ModelProto, Judge]:
    folder = tmp_path_factory.mktemp("files")
    onnx.save(network(), folder / "net.onnx")
    floating = open_float(folder / "net.onnx")
    template = template_of(floating)
    grid = grids(template, observe(template, lambda: batches_of("x", X)), "minmax", symmetric=True)
    canonical = insert(template, grid, quantize_weights(template, 7))
    judge = Judge(floating, Samples({"x": X}), 16, fixed=False)
    files = write_files(folder / "out", folder / "net.onnx", floating, canonical, NAMES, judge)
    return {item.name: item for item in files}, canonical, judge


def test_the_given_file_stands_first_and_is_copied(written: tuple[dict[str, File], ModelProto, Judge]) -> None:
    files, _, _ = written
    assert list(files) == ["given", "fp32", *NAMES]
    assert [name for name, item in files.items() if item.is_int8] == [*NAMES]
    assert files["given"].path.read_bytes() == (files["given"].path.parents[1] / "net.onnx").read_bytes()
    assert np.allclose(run(onnx.load(files["fp32"].path), x=X)[0], run(network(), x=X)[0], atol=1e-4)
    assert files["given"].judged.loss == files["fp32"].judged.loss == 0
    assert not list(files["given"].path.parent.glob(".*"))


@pytest.mark.parametrize("name", NAMES)
def test_each_file_gives_the_canonical_graphs_answers(
    name: str, written: tuple[dict[str, File], ModelProto, Judge]
) -> None:
    files, canonical, judge = written
    item = files[name]
    assert item.parity is not None
    least = 0.95 if name == "tensorrt" else 0.99  # the surroundings are float16, and more than one rounding goes astray
    assert item.parity.within_step >= least
    expected, found = run(canonical, x=X)[0], run(onnx.load(item.path), x=X)[0]
    assert np.mean(np.abs(found - expected) <= np.ptp(expected) / 127) >= least
    assert item.judged.loss == pytest.approx(judge(canonical).loss, rel=0.2)
    assert (item.share is None) == (name == "tensorrt")
    assert item.share is None or item.share.not_int8 == ()


@pytest.mark.parametrize("name", ["ort-x86", "tensorrt"])
def test_a_file_of_other_numbers_is_noticed(name: str, written: tuple[dict[str, File], ModelProto, Judge]) -> None:
    from compress.bare.files import _parity
    from compress.errors import StageError

    files, canonical, judge = written
    path = files[name].path.with_name(f"wrong-{name}.onnx")
    proto = onnx.load(files[name].path)
    values = Graph(proto.graph)
    weights = next(key for key, array in values.arrays.items() if array.dtype == np.int8 and array.ndim == 4)
    values.arrays[weights] = values.arrays[weights][::-1].copy()
    values.write()
    onnx.save(proto, path)
    with pytest.raises(StageError, match="does not give"):
        _parity(path, name, proto, canonical, judge)
    assert not list(path.parent.glob(".*"))
