from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from compress.errors import UsageError
from compress.floats import widest
from compress.stage import Context, Silent
from compress.training.device import Precision, limited_threads, training_device, warn_of_slow_precision

CPU = torch.device("cpu")


def test_auto_is_a_gpu_or_the_cpu() -> None:
    assert training_device(Context()).type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert training_device(Context(device="cpu")) == CPU


@pytest.mark.parametrize(
    ("name", "message"), [("gpu", "none that PyTorch knows"), ("cuda:99", "does not exist"), ("tpu0", "none that")]
)
def test_missing_devices_are_refused(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        training_device(Context(device=name))


def test_threads_are_limited_inside_only() -> None:
    before = torch.get_num_threads()
    with limited_threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_precision_on_the_cpu() -> None:
    assert Precision("auto", CPU).name == "fp32"
    with Precision("bf16", CPU).autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    with Precision("fp32", CPU).autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    with pytest.raises(UsageError, match="precision: auto"):
        Precision("fp16", CPU)


class Told(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)


@pytest.mark.parametrize("has_instructions", [False, True])
def test_bf16_that_is_emulated_is_told(has_instructions: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compress.training.device.has_fast_bf16", lambda: has_instructions)
    told = Told()
    for precision, device in (("bf16", CPU), ("auto", CPU), ("fp32", CPU), ("bf16", torch.device("cuda"))):
        warn_of_slow_precision(precision, device, told)
    assert [line.startswith("precision bf16: ") for line in told.lines] == ([] if has_instructions else [True])


def test_whether_bf16_is_emulated_is_what_the_processor_says() -> None:
    """By the flags of the processor, on Linux for x86: oneDNN computes bf16 from AVX-512 on."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    if "avx2" not in flags:
        pytest.skip("no x86 processor under Linux")
    told = Told()
    warn_of_slow_precision("bf16", CPU, told)
    assert bool(told.lines) == (not re.search(r"\bavx512bw\b|\bavx_ne_convert\b", flags))


def test_sums_are_as_wide_as_the_device_can() -> None:
    assert [widest(torch.device(name)) for name in ("cpu", "cuda", "mps")] == [
        torch.float64, torch.float64, torch.float32
    ]  # fmt: skip


def test_a_process_takes_the_gpu_of_its_number_on_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "5"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert training_device(Context(device="cuda", rank=5, world_size=8)) == torch.device("cuda", 1)
