import os
import subprocess
import sys
from pathlib import Path

import pytest

import compress
from compress.errors import UsageError
from compress.targets.reading import read_target


def test_a_file_is_sought_beside_the_base_and_named_for_itself(tmp_path: Path) -> None:
    (tmp_path / "server.yaml").write_text("threads: 1\nbatches: [1, 8]\n")
    target = read_target("server.yaml", tmp_path)
    assert target.name == "server"
    assert target.batches == (1, 8)


def test_an_address_is_a_target_named_for_where_it_is() -> None:
    target = read_target("ssh://pi@board.local:2222")
    assert (target.kind, target.host, target.name) == ("ssh", "pi@board.local:2222", "board.local")
    assert not target.is_local


def test_an_ssh_configuration_is_sought_beside_the_file_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("")
    (tmp_path / "pi.yaml").write_text("kind: ssh\nhost: pi\nssh_config: config\n")
    assert read_target(str(tmp_path / "pi.yaml")).ssh_config == str(tmp_path / "config")


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


def test_reading_a_target_imports_nothing_heavy() -> None:
    program = (
        "import sys; from compress.targets.reading import read_target;"
        "from compress.targets.target import fingerprint;"
        "fingerprint(read_target('local'));"
        "heavy = {'numpy', 'onnxruntime', 'torch', 'onnx', 'sklearn', 'matplotlib', 'psutil'};"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(compress.__file__).parents[1])}
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert said.stdout.strip() == ""
