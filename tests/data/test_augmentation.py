from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from compress.data.augmentation import augment

STEPS: list[dict[str, Any]] = [{"pad_crop": {"padding": 2}}, {"flip": {}}]
IMAGES = np.random.default_rng(0).normal(size=(64, 3, 8, 10)).astype(np.float32)
INDICES = np.arange(64)


def test_same_example_same_result_whatever_the_batch() -> None:
    whole = augment(IMAGES, STEPS, 1, 2, INDICES)
    chosen = np.array([50, 3, 17, 3])
    np.testing.assert_array_equal(augment(IMAGES[chosen], STEPS, 1, 2, chosen), whole[chosen])


def test_seed_epoch_and_index_matter() -> None:
    whole = augment(IMAGES, STEPS, 1, 2, INDICES)
    for other in (augment(IMAGES, STEPS, 2, 2, INDICES), augment(IMAGES, STEPS, 1, 3, INDICES)):
        assert not np.array_equal(whole, other)
    assert not np.array_equal(whole, augment(IMAGES, STEPS, 1, 2, INDICES + 64))


def test_the_batch_itself_is_left_alone() -> None:
    before = IMAGES.copy()
    augment(IMAGES, STEPS, 0, 0, INDICES)
    np.testing.assert_array_equal(IMAGES, before)


@pytest.mark.parametrize(("fill", "mode"), [("zero", "constant"), ("edge", "edge"), ("reflect", "reflect")])
def test_pad_crop_gives_every_shift_evenly(fill: str, mode: Any) -> None:
    image = np.arange(1, 17, dtype=np.float32).reshape(1, 1, 4, 4)
    count = 9000
    moved = augment(
        np.repeat(image, count, axis=0), [{"pad_crop": {"padding": 1, "fill": fill}}], 0, 0, np.arange(count)
    )
    padded = np.pad(image[0, 0], 1, mode=mode)
    seen = [
        int((moved[:, 0] == padded[y : y + 4, x : x + 4]).all(axis=(1, 2)).sum()) for y in range(3) for x in range(3)
    ]
    assert sum(seen) == count
    assert max(abs(number - 1000) for number in seen) < 150  # five deviations


def test_flip_mirrors_with_the_given_probability() -> None:
    images = np.repeat(IMAGES[:1], 10_000, axis=0)
    moved = augment(images, [{"flip": {"probability": 0.2}}], 0, 0, np.arange(10_000))
    mirrored = (moved == images[..., ::-1]).all(axis=(1, 2, 3))
    kept = (moved == images).all(axis=(1, 2, 3))
    assert (mirrored ^ kept).all()
    assert abs(int(mirrored.sum()) - 2000) < 200
    always = augment(IMAGES, [{"flip": {"probability": 1.0}}], 0, 0, INDICES)
    np.testing.assert_array_equal(always, IMAGES[..., ::-1])


def test_steps_draw_independently() -> None:
    """Two flips of one half each leave about half of the images as they were, not all of them."""
    twice = augment(IMAGES, [{"flip": {}}, {"flip": {}}], 0, 0, INDICES)
    kept = int((twice == IMAGES).all(axis=(1, 2, 3)).sum())
    assert 16 < kept < 48


@pytest.mark.parametrize(
    ("shape", "steps", "message"),
    [
        ((2, 3), STEPS, "augmentation moves images"),
        ((2, 1, 4, 4), [{"spin": {}}], "unknown step of augmentation 'spin'"),
        ((2, 1, 4, 4), [{"pad_crop": {"padding": 4, "fill": "reflect"}}], "no 4 pixels to mirror"),
    ],
)
def test_what_cannot_be_done_is_refused(shape: tuple[int, ...], steps: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        augment(np.zeros(shape, dtype=np.float32), steps, 0, 0, np.arange(2))
