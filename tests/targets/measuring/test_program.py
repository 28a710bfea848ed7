import json
import os
import subprocess
import sys
from pathlib import Path

from compress.targets.programs import program_for
from tests.targets.measuring.running import command, latency, save


def test_running_it_loads_no_other_library(tmp_path: Path) -> None:
    model = save(tmp_path / "m.onnx", "g (float[batch,4] x) => (float[batch,4] y) { y = Relu(x) }")
    request = {"provider": "CPUExecutionProvider", "threads": 1, "jobs": [{"model": str(model), "latency": latency()}]}
    (tmp_path / "request.json").write_text(json.dumps(request))
    program = str(program_for("onnxruntime"))
    starter = (
        f"import runpy, sys; sys.argv = {command(tmp_path)[2:]!r}\n"
        f"try: runpy.run_path({program!r}, run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        "names = {name.split('.')[0] for name in sys.modules if not name.startswith('_')}\n"
        "print(*names - set(sys.stdlib_module_names))\n"
        "modules = [module for name, module in sys.modules.items() if name.startswith('compress')]\n"
        "print({module.__file__.partition('.pyz')[0] for module in modules})"
    )
    said = subprocess.run(
        [sys.executable, "-P", "-c", starter], capture_output=True, text=True, check=True, cwd=tmp_path
    ).stdout.splitlines()
    assert set(said[0].split()) - {"cython_runtime"} == {"compress", "numpy", "onnxruntime"}
    assert said[1] == str({program.removesuffix(".pyz")})


def test_it_writes_nothing_but_its_result_and_sends_nothing(tmp_path: Path) -> None:
    model = save(tmp_path / "m.onnx", "g (float[batch,4] x) => (float[batch,4] y) { y = Relu(x) }")
    request = {"provider": "CPUExecutionProvider", "threads": 1, "jobs": [{"model": str(model), "latency": latency()}]}
    (tmp_path / "request.json").write_text(json.dumps(request))
    home = tmp_path / "home"
    home.mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home)}
    subprocess.run(command(tmp_path), check=True, env=environment)
    assert list(home.iterdir()) == []  # ONNX Runtime's telemetry would leave its files here
