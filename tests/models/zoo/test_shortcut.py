from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from compress.models.zoo.shortcut import ZERO, PadShortcut, as_run


def test_it_is_the_papers_option_a() -> None:
    x = torch.randn(2, 16, 8, 8)
    expected = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 8, 8))
    assert torch.equal(PadShortcut(16, 32, 2)(x), expected)


def test_odd_differences_put_the_extra_zero_last() -> None:
    assert PadShortcut(2, 5, 1).source == (ZERO, 0, 1, ZERO, ZERO)


def test_it_has_no_state_while_it_is_whole() -> None:
    shortcut = PadShortcut(4, 8, 2)
    assert not list(shortcut.parameters())
    assert not list(shortcut.buffers())


def test_channels_cannot_become_fewer() -> None:
    with pytest.raises(ValueError, match="from 8 to 4"):
        PadShortcut(8, 4, 2)


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [([0], [0, 2]), ([1, 3], [0, 3, 7]), ([], [1, 2, 6]), ([0, 1, 2, 3], []), ([5], [4]), ([0, 1, 2], [5])],
)
def test_dropping_channels_is_masking_them(inputs: list[int], outputs: list[int]) -> None:
    """The oracle: the whole shortcut with dropped inputs set to zero, and dropped outputs left out."""
    whole, pruned = PadShortcut(6, 10, 2), PadShortcut(6, 10, 2)
    pruned.drop_outputs(outputs)
    pruned.drop_inputs(inputs)
    x = torch.randn(2, 6, 5, 5)
    masked = x.clone()
    masked[:, inputs] = 0
    kept_in = [channel for channel in range(6) if channel not in inputs]
    kept_out = [channel for channel in range(10) if channel not in outputs]
    assert (pruned.in_channels, pruned.out_channels) == (len(kept_in), len(kept_out))
    assert torch.equal(pruned(x[:, kept_in]), whole(masked)[:, kept_out])


def test_dropping_twice_is_dropping_together() -> None:
    once, twice = PadShortcut(6, 10, 2), PadShortcut(6, 10, 2)
    once.drop_inputs([1, 4])
    twice.drop_inputs([1])
    twice.drop_inputs([3])
    assert once.source == twice.source


@pytest.mark.parametrize(
    ("source", "run"),
    [
        ((ZERO, 0, 1, ZERO), (1, 0, 2, 1)),
        ((2, 3), (0, 2, 2, 0)),
        ((0, ZERO, 1), None),
        ((1, 0), None),
        ((ZERO, ZERO), None),
    ],
)
def test_runs_are_found(source: tuple[int, ...], run: tuple[int, int, int, int] | None) -> None:
    assert as_run(source) == run


@pytest.mark.parametrize(("drop", "operators"), [([0, 15], {"Slice", "Pad"}), ([3], {"Slice", "Pad", "Gather"})])
def test_onnx_is_slices_and_a_pad_while_channels_are_a_run(
    drop: list[int], operators: set[str], tmp_path: Path
) -> None:
    import onnx
    import onnxruntime

    shortcut = PadShortcut(16, 32, 2).eval()
    shortcut.drop_inputs(drop)
    x = torch.randn(2, shortcut.in_channels, 8, 8)
    file = tmp_path / "shortcut.onnx"
    torch.onnx.export(shortcut, (x,), file, dynamo=True, verbose=False, dynamic_shapes=({0: "batch"},))
    assert {node.op_type for node in onnx.load(file).graph.node} - {"Constant"} == operators
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    other = torch.randn(3, shortcut.in_channels, 8, 8)
    [answer] = session.run(None, {session.get_inputs()[0].name: other.numpy()})
    assert torch.equal(torch.from_numpy(answer), shortcut(other))
