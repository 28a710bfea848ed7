import os
import subprocess
import sys
from pathlib import Path

import pytest

from compress.errors import UsageError
from compress.targets import facts
from compress.targets import kinds as table
from compress.targets import settings as module
from compress.targets.measuring.machine import available_cores
from compress.targets.settings import TargetSettings, read_target
from compress.targets.target import emissions, fingerprint


def test_built_in_target_is_this_machine_on_one_thread() -> None:
    target = read_target("local")
    assert (target.name, target.runtime, target.provider, target.threads) == ("local", "onnxruntime", "cpu", 1)
    assert target.batches == (1,)


def test_every_kind_that_is_read_can_be_run() -> None:
    assert set(module.KINDS) == set(table.KINDS)


def test_a_file_is_sought_beside_the_base_and_named_for_itself(tmp_path: Path) -> None:
    (tmp_path / "server.yaml").write_text("threads: 1\nbatches: [1, 8]\n")
    target = read_target("server.yaml", tmp_path)
    assert target.name == "server"
    assert target.batches == (1, 8)


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


def test_an_address_is_a_target_named_for_where_it_is() -> None:
    target = read_target("ssh://pi@board.local:2222")
    assert (target.kind, target.host, target.name) == ("ssh", "pi@board.local:2222", "board.local")
    assert not target.is_local


def test_an_ssh_configuration_is_sought_beside_the_file_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("")
    (tmp_path / "pi.yaml").write_text("kind: ssh\nhost: pi\nssh_config: config\n")
    assert read_target(str(tmp_path / "pi.yaml")).ssh_config == str(tmp_path / "config")


def test_what_another_machine_can_do_is_not_asked_of_this_one() -> None:
    target = read_target({"kind": "ssh", "host": "pi", "threads": 4096, "cores": list(range(4096)), "provider": "cuda"})
    assert target.threads == 4096


def test_all_faults_of_a_file_are_told_at_once_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("threads: 1\nrounds: 1\nbatchs: [1]\nprovider: cpuu\n")
    with pytest.raises(UsageError) as caught:
        read_target(str(path))
    assert {(fault.where, fault.line) for fault in caught.value.faults} == {
        ("rounds", 2), ("batchs", 3), ("provider", 4),
    }  # fmt: skip


@pytest.mark.parametrize("text", ["- 1\n", "threads: [1\n", ""])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(UsageError):
        read_target(str(tmp_path / "bad.yaml"))


@pytest.mark.parametrize(
    ("architecture", "features", "expected"),
    [
        ("x86_64", ["avx2", "avx512_vnni"], ["fp32", "ort-x86"]),
        ("AMD64", ["avx2", "avx_vnni"], ["fp32", "ort-x86"]),
        ("x86_64", ["avx2", "avx512f"], ["fp32", "ort-x86-avx2"]),
        ("AMD64", [], ["fp32", "ort-x86-avx2"]),
        ("aarch64", ["dotprod"], ["fp32", "ort-arm"]),
        ("riscv64", [], ["fp32"]),
    ],
)
def test_emissions_follow_the_processor(
    monkeypatch: pytest.MonkeyPatch, architecture: str, features: list[str], expected: list[str]
) -> None:
    monkeypatch.setattr(facts, "machine", lambda: {"architecture": architecture, "features": features})
    assert emissions(TargetSettings()) == expected
    assert emissions(TargetSettings(emit=("ort-arm",))) == ["ort-arm"]
    assert emissions(TargetSettings(provider="cuda")) == ["fp32"]


def test_fingerprint_changes_with_the_processor_and_the_runtime_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    here = fingerprint(TargetSettings())
    assert here == fingerprint(TargetSettings(name="other", rounds=3))
    monkeypatch.setattr(facts, "runtime_version", lambda: "onnxruntime 0.0.1")
    other_runtime = fingerprint(TargetSettings())
    monkeypatch.setattr(facts, "machine", lambda: {"cpu": "another"})
    assert len({here, other_runtime, fingerprint(TargetSettings())}) == 3


def test_a_missing_runtime_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "runtime_version", lambda: None)
    assert TargetSettings().faults() == [("provider", "ONNX Runtime is not installed: pip install onnxruntime")]


def test_reading_a_target_imports_nothing_heavy() -> None:
    program = (
        "import sys; from compress.targets.settings import read_target;"
        "from compress.targets.target import fingerprint;"
        "fingerprint(read_target('local'));"
        "heavy = {'numpy', 'onnxruntime', 'torch', 'onnx', 'sklearn', 'matplotlib', 'psutil'};"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(module.__file__).parents[2])}
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert said.stdout.strip() == ""
