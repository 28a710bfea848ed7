from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import compress.data.preprocessing as module
from compress.data.preprocessing import Preprocessing

Array = npt.NDArray[Any]
RANDOM = np.random.default_rng(0)


def picture(height: int, width: int, channels: int | None = 3) -> Array:
    shape = (height, width) if channels is None else (height, width, channels)
    return RANDOM.integers(0, 256, shape).astype(np.uint8)


def pillow_resize(plane: Array, height: int, width: int) -> Array:
    image = Image.fromarray(plane.astype(np.float32), mode="F")
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def test_no_steps_stack_examples_as_they_are() -> None:
    raw = [RANDOM.normal(size=(2, 3, 4)) for _ in range(3)]
    batch = Preprocessing([])(raw)
    assert batch.dtype == np.float32
    np.testing.assert_array_equal(batch, np.stack(raw).astype(np.float32))


def test_images_come_out_with_channels_first() -> None:
    colour, grey = picture(5, 6), picture(5, 6, None)
    np.testing.assert_array_equal(Preprocessing([{"image": {}}])([colour])[0], colour.transpose(2, 0, 1))
    np.testing.assert_array_equal(Preprocessing([{"image": {}}])([grey])[0, 0], grey)
    flat = picture(2, 6, 5)
    np.testing.assert_array_equal(Preprocessing([{"image": {"layout": "hwc"}}])([flat])[0], flat.transpose(2, 0, 1))
    stored = colour.transpose(2, 0, 1)
    np.testing.assert_array_equal(
        Preprocessing([{"scale": {"factor": 1}}, {"image": {"layout": "chw"}}])([stored])[0], stored
    )


@pytest.mark.parametrize(
    ("old", "new"), [((17, 23), (8, 9)), ((8, 8), (32, 20)), ((30, 7), (10, 14)), ((5, 5), (5, 5))]
)
def test_resize_is_pillows_bilinear(old: tuple[int, int], new: tuple[int, int]) -> None:
    image = picture(*old)
    ours = Preprocessing([{"resize": {"size": list(new)}}])([image])[0]
    theirs = np.stack([pillow_resize(image[..., channel], *new) for channel in range(3)])
    np.testing.assert_allclose(ours, theirs, atol=2e-4)


def test_resize_can_keep_proportions() -> None:
    wide = [np.zeros((32, 48, 3), dtype=np.uint8)]
    assert Preprocessing([{"resize": {"size": 16, "keep": "shortest"}}])(wide).shape[1:] == (3, 16, 24)
    assert Preprocessing([{"resize": {"size": 16}}])(wide).shape[1:] == (3, 16, 16)


def test_grey_is_pillows_luma() -> None:
    image = picture(9, 9)
    ours = Preprocessing([{"color": {"mode": "grey"}}])([image])[0, 0]
    np.testing.assert_allclose(ours, np.asarray(Image.fromarray(image).convert("L")), atol=0.51)  # Pillow rounds


@pytest.mark.parametrize("channels", [None, 1, 2, 3, 4])
@pytest.mark.parametrize(("mode", "count"), [("rgb", 3), ("grey", 1)])
def test_color_takes_one_to_four_channels(channels: int | None, mode: str, count: int) -> None:
    image = picture(4, 5, channels)
    batch = Preprocessing([{"color": {"mode": mode}}])([image])
    assert batch.shape == (1, count, 4, 5)
    if channels in (None, 1, 2):
        plane = image if channels is None else image[..., 0]
        np.testing.assert_array_equal(batch[0], np.broadcast_to(plane, (count, 4, 5)))


def test_center_crop() -> None:
    image = np.arange(7 * 6).reshape(7, 6)
    np.testing.assert_array_equal(Preprocessing([{"center_crop": {"size": [3, 4]}}])([image])[0, 0], image[2:5, 1:5])
    with pytest.raises(ValueError, match="cannot cut 8x8 out of 7x6"):
        Preprocessing([{"center_crop": {"size": 8}}])([image])


def test_scale_and_normalize() -> None:
    image = picture(4, 4)
    mean, std = [0.1, 0.2, 0.3], [0.5, 0.25, 2.0]
    batch = Preprocessing([{"scale": {"factor": 1 / 255}}, {"normalize": {"mean": mean, "std": std}}])([image])
    expected = ((image / 255 - mean) / std).transpose(2, 0, 1)
    np.testing.assert_allclose(batch[0], expected, atol=1e-6)


def test_vectors_are_normalized_by_feature() -> None:
    batch = Preprocessing([{"normalize": {"mean": [1, 2], "std": [1, 4]}}])(
        [np.array([1.0, 6.0]), np.array([3.0, 2.0])]
    )
    np.testing.assert_array_equal(batch, [[0, 1], [2, 0]])


def test_an_example_has_the_same_bits_in_every_batch() -> None:
    steps: list[dict[str, Any]] = [
        {"color": {"mode": "rgb"}},
        {"resize": {"size": 24, "keep": "shortest"}},
        {"center_crop": {"size": 20}},
        {"scale": {"factor": 1 / 255}},
        {"normalize": {"mean": [0.4] * 3, "std": [0.2] * 3}},
    ]
    preprocess = Preprocessing(steps)
    same = [picture(33, 40) for _ in range(9)]
    mixed = [*same, picture(50, 31, None), picture(64, 64, 4)]
    alone = np.concatenate([preprocess([image]) for image in mixed])
    np.testing.assert_array_equal(preprocess(mixed), alone)
    np.testing.assert_array_equal(preprocess(same), alone[:9])


@pytest.mark.parametrize(
    ("steps", "raw", "message"),
    [
        ([{"blur": {}}], [picture(2, 2)], "unknown step of preprocessing 'blur'"),
        ([{"scale": {"by": 2}}], [picture(2, 2)], "scale: "),
        ([{"scale": {"factor": 1}, "image": {}}], [picture(2, 2)], "one name"),
        ([{"color": {"mode": "blue"}}], [picture(2, 2)], "must be grey or rgb"),
        ([{"image": {"layout": "wch"}}], [picture(2, 2)], "must be hwc or chw"),
        ([{"resize": {"size": 4, "keep": "longest"}}], [picture(2, 2)], "keep must be shortest"),
        ([{"color": {"mode": "rgb"}}], [picture(5, 5, 5)], "1 to 4 channels, got 5"),
        ([{"normalize": {"mean": [0, 0], "std": [1, 1]}}], [picture(2, 2)], "2 means and 2 deviations for 3 channels"),
        ([{"resize": {"size": 4}}], [np.zeros(3)], "resize takes images"),
        ([{"image": {}}], [np.zeros((2, 2, 2, 2))], "got an example of shape"),
        ([{"scale": {"factor": 1}}], [picture(3, 20, 30)], "seem to have their channels first"),
        ([], [picture(2, 2), picture(3, 3)], "must come out in one shape"),
        ([{"image": {}}], [picture(2, 2), picture(2, 2, 1)], "must come out in one shape"),
    ],
)
def test_what_cannot_be_done_is_refused(steps: list[dict[str, Any]], raw: list[Array], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Preprocessing(steps)(raw)


def test_the_file_stands_alone(tmp_path: Path) -> None:
    (tmp_path / "preprocessing.py").write_bytes(Path(module.__file__).read_bytes())
    program = (
        "import sys, numpy as np; from preprocessing import Preprocessing; "
        "print(Preprocessing([{'resize': {'size': 4}}])([np.ones((8, 8), np.uint8)]).sum(), "
        "[name for name in ('compress', 'torch', 'PIL') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "16.0 []"
