from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from compress.bundle import Deployment, TensorSpec
from compress.errors import StageError
from compress.exporting.parity import Array, run
from compress.exporting.torch_onnx import example_inputs, fixed, save, to_onnx, to_proto


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(self.drop(torch.relu(self.norm(self.conv(x))).mean((2, 3), keepdim=True).flatten(1)))
        return result


class Several(nn.Module):
    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0] + inputs[1].to(torch.float32)


def deployment(*inputs: TensorSpec) -> Deployment:
    return Deployment(task={}, inputs=inputs, outputs=(TensorSpec("scores", "float32", ("batch", 3)),))


IMAGE = deployment(TensorSpec("image", "float32", ("batch", 1, 6, 6)))


def test_any_batch_gives_torchs_answers(tmp_path: Path) -> None:
    module = Net()  # in training mode, which it keeps
    to_onnx(module, IMAGE, example_inputs(IMAGE), tmp_path / "net.onnx")
    assert module.training
    module.eval()
    for count in (1, 5):
        x = torch.randn(count, 1, 6, 6)
        (found,) = run(tmp_path / "net.onnx", [{"image": x.numpy()}], optimize=True)
        np.testing.assert_allclose(found, module(x).detach().numpy(), atol=1e-5)


def test_the_file_holds_the_network_and_nothing_else() -> None:
    proto = to_proto(Net(), IMAGE, example_inputs(IMAGE))
    blob = proto.SerializeToString()
    for trace in (b"site-packages", b"test_torch_onnx", b"File ", b".py", b"nn_module_stack", b"pytorch"):
        assert trace not in blob
    assert [d.dim_param or d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim] == ["batch", 1, 6, 6]
    assert [d.dim_param or d.dim_value for d in proto.graph.output[0].type.tensor_type.shape.dim] == ["batch", 3]
    operators = [node.op_type for node in proto.graph.node]
    assert "GlobalAveragePool" in operators
    assert "ReduceMean" not in operators


def test_the_same_network_gives_the_same_bytes(tmp_path: Path) -> None:
    module = Net()
    for name in "ab":
        to_onnx(module, IMAGE, example_inputs(IMAGE), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("opset", [18, 21])
def test_the_opset_is_a_choice(opset: int) -> None:
    proto = to_proto(Net(), IMAGE, example_inputs(IMAGE), opset)
    assert [item.version for item in proto.opset_import if item.domain == ""] == [opset]
    onnx.checker.check_model(proto)


def test_axes_can_be_fixed() -> None:
    proto = to_proto(Net(), IMAGE, example_inputs(IMAGE))
    fixed(proto, {"batch": 4})
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 4
    assert proto.graph.output[0].type.tensor_type.shape.dim[0].dim_value == 4


def test_several_inputs_of_several_types(tmp_path: Path) -> None:
    specs = (TensorSpec("a", "float32", ("batch", 3)), TensorSpec("b", "int64", ("batch", 3)))
    described = deployment(*specs)
    to_onnx(Several(), described, example_inputs(described), tmp_path / "net.onnx")
    feeds: dict[str, Array] = {"a": np.ones((3, 3), np.float32), "b": np.full((3, 3), 2, np.int64)}
    assert (run(tmp_path / "net.onnx", [feeds], optimize=True)[0] == 3).all()


def test_what_cannot_be_exported_is_one_message() -> None:
    class Deciding(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(StageError, match="cannot be exported to ONNX") as caught:
        to_proto(Deciding(), IMAGE, example_inputs(IMAGE))
    assert "\n" not in str(caught.value)


def test_saving_is_deterministic(tmp_path: Path) -> None:
    proto = to_proto(Net(), IMAGE, example_inputs(IMAGE))
    save(proto, tmp_path / "a")
    save(onnx.load(tmp_path / "a"), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
