import numpy as np
import pytest
import torch
from torch import nn

from compress.errors import StageError
from compress.runtimes.runtime import Runtime
from compress.runtimes.torch_eager import TorchEager


def test_arrays_in_arrays_out_in_eval_mode() -> None:
    module = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.9), nn.BatchNorm1d(3))
    module[2].eval()
    runtime: Runtime = TorchEager(module)
    x = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    found = runtime({"input": x})["output"]
    with torch.no_grad():
        expected = module[2](module[0](torch.from_numpy(x))).numpy()
    np.testing.assert_array_equal(found, expected)
    assert [child.training for child in module] == [True, True, False]
    assert module[2].num_batches_tracked == 0


def test_several_inputs_and_outputs_have_names() -> None:
    class Two(nn.Module):
        def forward(self, left: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return left + right, left - right

    runtime = TorchEager(Two(), inputs=("left", "right"), outputs=("sum", "difference"))
    found = runtime({"right": np.full(2, 1.0), "left": np.full(2, 3.0)})
    assert found["sum"].tolist() == [4, 4] and found["difference"].tolist() == [2, 2]
    with pytest.raises(StageError, match="gave 2 outputs, but 1 are named"):
        TorchEager(Two(), inputs=("left", "right"))({"left": np.ones(2), "right": np.ones(2)})


def test_a_failure_says_the_shapes() -> None:
    with pytest.raises(StageError, match=r"fails when run on input \[2, 7\]"):
        TorchEager(nn.Linear(4, 3))({"input": np.ones((2, 7), np.float32)})
