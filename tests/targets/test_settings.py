import pytest

from compress.errors import UsageError
from compress.targets import kinds as table
from compress.targets import settings as module
from compress.targets.measuring.machine import available_cores
from compress.targets.reading import read_target
from compress.targets.settings import TargetSettings


def test_built_in_target_is_this_machine_on_one_thread() -> None:
    target = read_target("local")
    assert (target.name, target.runtime, target.provider, target.threads) == ("local", "onnxruntime", "cpu", 1)
    assert target.batches == (1,)


def test_every_kind_that_is_read_can_be_run() -> None:
    assert set(module.KINDS) == set(table.KINDS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("locall", "unknown target 'locall' (did you mean 'local'?)"),
        ("nowhere/t.yaml", "no such file"),
        ({"threads": 4096}, "threads: 4096 threads asked for, but only"),
        ({"threads": 0}, "threads: "),
        ({"also_threads": [1, 4096]}, "also_threads: 4096 threads asked for, but only"),
        ({"cores": [available_cores()[0]], "also_threads": [2]}, "cores: 2 threads need as many cores, but ["),
        ({"throughput_batch": []}, "throughput_batch: "),
        ({"throughput_batch": [8, 0]}, "throughput_batch[1]: must be at least 1"),
        ({"mode": "slow"}, "mode: must be 'quick' or 'full'"),
        ({"thread": 1}, "did you mean 'threads'?"),
        ({"runtime": "onxruntime"}, "unknown runtime 'onxruntime' (did you mean 'onnxruntime'?)"),
        ({"kind": "locl"}, "unknown kind of target 'locl' (did you mean 'local'?)"),
        ({"provider": "gpu"}, "unknown provider 'gpu'"),
        ({"provider": "cuda"}, "provider 'cuda' needs"),
        ({"cores": [100000]}, "no core [100000]"),
        ({"emit": ["ort-x68"]}, "unknown emission 'ort-x68' (did you mean 'ort-x86'?)"),
        ({"emit": "fp32"}, "give `auto` or a list"),
        ({"batches": []}, "batches: "),
        ({"shapes": {"sequence": 0}}, "shapes.sequence: "),
        ({"seconds": "long"}, "seconds: "),
        ({"kind": "ssh"}, "host: is missing: where a target of kind `ssh` is, such as user@raspberrypi.local"),
        ({"kind": "adb"}, "serial: is missing: where a target of kind `adb` is"),
        ({"host": "pi@board"}, "host: belongs to a target of kind `ssh`; this one is `local`"),
        ({"kind": "ssh", "host": "pi", "serial": "R5"}, "serial: belongs to a target of kind `adb`; this one is `ssh`"),
        ({"kind": "ssh", "host": "-oProxyCommand=x"}, "host: "),
        ({"python": "python3.9"}, "python: belongs to a target on another machine; this one is `local`"),
        ({"evaluate": {"samples": 0}}, "evaluate.samples: "),
        ({"budget": {"latency_p50": 3}}, "did you mean 'latency_p50_ms'?"),
        ({"kind": "ssh", "host": "pi", "ssh_config": "nowhere/config"}, "ssh_config: "),
    ],
)
def test_impossible_targets_are_refused(settings: object, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_target(settings)  # type: ignore[arg-type]
    assert message in str(caught.value)
    assert "pydantic" not in str(caught.value)


def test_throughput_may_be_measured_at_several_batch_sizes() -> None:
    assert (TargetSettings().throughput_batches, TargetSettings().answers_batch) == ((32,), 32)
    several = read_target({"throughput_batch": [64, 1, 8, 8]})
    assert (several.throughput_batches, several.answers_batch) == ((1, 8, 64), 64)


def test_what_another_machine_can_do_is_not_asked_of_this_one() -> None:
    target = read_target({"kind": "ssh", "host": "pi", "threads": 4096, "cores": list(range(4096)), "provider": "cuda"})
    assert target.threads == 4096


def test_a_missing_runtime_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "runtime_version", lambda: None)
    assert TargetSettings().faults() == [("provider", "ONNX Runtime is not installed: pip install onnxruntime")]
