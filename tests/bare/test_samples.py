from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from compress.bare.samples import Images, Input, Samples, inputs_of, read_samples
from compress.errors import UsageError
from tests.quantization.graphs import floats, graph, node

X = floats(6, 3, 8, 8)
IMAGE = [Input("x", "float32", (None, 3, 8, 8))]
TEXT = [Input("ids", "int64", (None, None)), Input("mask", "int64", (None, None))]


def message(source: Path | Mapping[str, Any], inputs: list[Input] = IMAGE, images: Images | None = None) -> str:
    with pytest.raises(UsageError) as error:
        read_samples(source, inputs, images)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_inputs_are_those_that_are_no_weights() -> None:
    proto = graph([node("Conv", "x w", "y")], {"w": floats(2, 3, 3, 3)}, {"x": ["batch", 3, None, 8]}, {"y": None})
    proto.graph.input.append(proto.graph.input[0].__class__(name="w"))
    assert inputs_of(proto) == [Input("x", "float32", (None, 3, None, 8))]


def test_a_mapping_and_an_archive(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", x=X, labels=np.arange(6))
    for source in ({"x": X, "y": np.arange(6)}, tmp_path / "s.npz"):
        found = read_samples(source, IMAGE)
        assert np.array_equal(found.arrays["x"], X)
        assert found.labels is not None and found.labels.tolist() == list(range(6))


def test_one_array_needs_no_name(tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", X)
    np.savez(tmp_path / "s.npz", images=X.astype(np.float64))
    for name in ("s.npy", "s.npz"):
        found = read_samples(tmp_path / name, IMAGE)
        assert np.array_equal(found.arrays["x"], X)
        assert found.arrays["x"].dtype == np.float32
        assert found.labels is None


def test_an_input_that_is_called_y_holds_no_labels() -> None:
    found = read_samples({"y": X}, [Input("y", "float32", (None, 3, 8, 8))])
    assert found.labels is None and len(found) == 6


def test_several_inputs_of_their_own_types() -> None:
    ids = np.arange(12, dtype=np.int32).reshape(3, 4)
    found = read_samples({"ids": ids, "mask": np.ones((3, 4), bool)}, TEXT)
    assert {name: (a.dtype.name, a.shape) for name, a in found.arrays.items()} == {
        "ids": ("int64", (3, 4)),
        "mask": ("int64", (3, 4)),
    }


def test_folders_of_arrays_are_joined_in_order_and_one_sample_needs_no_first_axis(tmp_path: Path) -> None:
    for i in (1, 0, 2):
        np.savez(tmp_path / f"{i}.npz", x=X[i], label=np.array([i]))
    found = read_samples(tmp_path, IMAGE)
    assert np.array_equal(found.arrays["x"], X[:3])
    assert found.labels is not None and found.labels.tolist() == [0, 1, 2]
    np.save(tmp_path / "3.npy", X[3:])
    found = read_samples(tmp_path, IMAGE)
    assert np.array_equal(found.arrays["x"], X)
    assert found.labels is None  # one file has none


def pictures(folder: Path) -> Path:
    """Two classes of two images each: one colour, one grey, of different sizes."""
    for i, name in enumerate(("cat/a.png", "cat/b.JPG", "dog/a.bmp", "dog/c.webp")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        grey = i % 2
        image = Image.new("L" if grey else "RGB", (9 + i, 12), 40 * i + 20 if grey else (200, 100, 40 * i))
        image.save(folder / name, format="JPEG" if name.endswith("JPG") else None)
    return folder


def test_images_in_a_folder_for_each_class(tmp_path: Path) -> None:
    found = read_samples(pictures(tmp_path), IMAGE)
    assert found.labels is not None and found.labels.tolist() == [0, 0, 1, 1]
    array = found.arrays["x"]
    assert array.shape == (4, 3, 8, 8) and array.dtype == np.float32
    assert array[0, :, 4, 4] == pytest.approx(np.array([200, 100, 0]) / 255, abs=0.01)
    assert array[1, :, 4, 4] == pytest.approx([60 / 255] * 3, abs=0.01)  # grey became colour


def test_images_without_classes_and_normalized(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (255, 0, 51)).save(tmp_path / "a.png")
    found = read_samples(tmp_path, IMAGE, Images(mean=(0.5, 0.25, 0.0), std=(0.5,)))
    assert found.labels is None
    assert found.arrays["x"][0, :, 0, 0] == pytest.approx([1.0, -0.5, 0.4], abs=1e-6)
    assert read_samples(tmp_path, IMAGE, Images(scale=1.0)).arrays["x"].max() == 255
    assert read_samples(tmp_path, IMAGE, Images(scale=1.0, mean=(127.0,))).arrays["x"].min() == -127


def test_images_for_a_grey_input_and_for_channels_last(tmp_path: Path) -> None:
    Image.new("RGB", (8, 10), (90, 90, 90)).save(tmp_path / "a.png")
    grey = read_samples(tmp_path, [Input("x", "float32", (None, 1, 8, 6))]).arrays["x"]
    assert grey.shape == (1, 1, 8, 6)
    assert grey == pytest.approx(90 / 255, abs=0.01)
    Image.new("RGB", (8, 10), (0, 0, 255)).save(tmp_path / "a.png")
    last = read_samples(tmp_path, [Input("x", "float32", (None, 8, 6, 3))]).arrays["x"]
    assert last.shape == (1, 8, 6, 3)
    assert last[0, 0, 0] == pytest.approx([0, 0, 1])


def test_images_for_an_input_of_bytes(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (200, 10, 0)).save(tmp_path / "a.png")
    found = read_samples(tmp_path, [Input("x", "uint8", (None, 3, 8, 8))], Images(scale=1.0)).arrays["x"]
    assert found.dtype == np.uint8
    assert found[0, :, 0, 0].tolist() == [200, 10, 0]


def test_a_model_of_any_size_needs_one(tmp_path: Path) -> None:
    folder = pictures(tmp_path)
    inputs = [Input("x", "float32", (None, 3, None, None))]
    assert "--size HEIGHTxWIDTH" in message(folder, inputs)
    assert read_samples(folder, inputs, Images(size=(6, 4))).arrays["x"].shape == (4, 3, 6, 4)


def test_a_size_that_the_model_does_not_take(tmp_path: Path) -> None:
    assert "takes ['N', 3, 8, 8]" in message(pictures(tmp_path), IMAGE, Images(size=(6, 4)))


def test_what_fits_no_input() -> None:
    assert "nothing for the input 'mask'; there are ids" in message({"ids": np.zeros((2, 3))}, TEXT)
    assert "nothing for the input 'x'; there are a, b" in message({"a": X, "b": X})
    assert "nothing for the input 'x'; there are no arrays" in message({})
    assert "[6, 3, 8, 8]; the model takes ['N', 3, 8, 9]" in message({"x": X}, [Input("x", "float32", (None, 3, 8, 9))])
    assert "takes ['N', 'any']" in message({"x": X}, [Input("x", "float32", (None, None))])
    assert "different numbers of samples" in message({"ids": np.zeros((2, 3)), "mask": np.zeros((4, 3))}, TEXT)
    assert "holds no samples" in message({"x": X[:0]})
    assert "labels have shape (5,)" in message({"x": X, "labels": np.arange(5)})
    assert "labels have shape (6, 2)" in message({"x": X, "labels": np.zeros((6, 2))})
    assert "not finite" in message({"x": np.full_like(X, np.nan)})
    assert "holds <U3; the model takes float32" in message({"x": np.full(X.shape, "abc")})
    assert "holds <U3; the model takes int64" in message({"ids": np.full((2, 3), "abc"), "mask": np.ones((2, 3))}, TEXT)
    assert "holds float64; the model takes int64" in message(
        {"ids": np.full((2, 3), 0.5), "mask": np.ones((2, 3))}, TEXT
    )
    assert "labels" in message({"x": X, "labels": np.array(list("abcdef"))})
    assert "labels" in message({"x": X, "labels": np.full(6, 0.5)})
    assert "shape []" in message({"x": np.array(3.0)})


def test_what_cannot_be_read(tmp_path: Path) -> None:
    assert "no such file or folder" in message(tmp_path / "none.npz")
    assert "neither" in message(tmp_path)
    for name, content in {"bad.npz": b"text", "bad.npy": b"\x93NUMPY", "empty.npz": b""}.items():
        (tmp_path / name).write_bytes(content)
        assert "no arrays that can be read" in message(tmp_path / name)
    (tmp_path / "x.csv").write_text("1,2")
    assert "give an .npz or .npy file" in message(tmp_path / "x.csv")
    np.savez(tmp_path / "objects.npz", x=np.array([{"a": 1}], dtype=object))
    assert "no arrays that can be read" in message(tmp_path / "objects.npz")
    np.savez(tmp_path / "good.npz", x=X)
    content = (tmp_path / "good.npz").read_bytes()
    (tmp_path / "half.npz").write_bytes(content[: len(content) // 2])
    assert "no arrays that can be read" in message(tmp_path / "half.npz")
    (tmp_path / "damaged.npz").write_bytes(content[:300] + bytes(80) + content[380:])
    assert "no arrays that can be read" in message(tmp_path / "damaged.npz")


def test_images_that_cannot_be_read_and_models_that_take_none(tmp_path: Path) -> None:
    assert "the model has other inputs" in message(pictures(tmp_path / "a"), TEXT)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "broken.png").write_bytes(b"no picture")
    assert "broken.png" in message(tmp_path / "b")
    mean = Images(mean=(0.1, 0.2))
    assert "--samples" in message(pictures(tmp_path / "c"), IMAGE, mean)


def test_a_model_without_inputs() -> None:
    assert "no inputs" in message({"x": X}, [])


def test_an_input_without_axes() -> None:
    assert "x" in message({"x": X}, [Input("x", "float32", ())])


def test_parts_orders_and_batches() -> None:
    samples = Samples({"x": np.arange(10)}, np.arange(10) * 2)
    part = samples.part(slice(3, 5))
    assert part.arrays["x"].tolist() == [3, 4] and part.labels is not None and part.labels.tolist() == [6, 8]
    mixed = samples.shuffled()
    assert mixed.labels is not None
    assert np.array_equal(mixed.labels, mixed.arrays["x"] * 2)
    assert sorted(mixed.arrays["x"]) == list(range(10)) and mixed.arrays["x"].tolist() != list(range(10))
    assert [len(feed["x"]) for feed in samples.batches(4)] == [4, 4, 2]
    assert [feed["x"].tolist() for feed in samples.batches(4, fixed=True)][-1] == [8, 9, 8, 9]
