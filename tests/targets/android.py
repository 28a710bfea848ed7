"""A stand-in for a phone: an `adb` that runs commands in a local folder, and an `onnxruntime_perf_test` in Python.

There is no Android device where tests run. The stand-in takes the calls that Google's `adb` takes (`-s SERIAL shell`,
`shell -T`, `push`), says what it says of a device that is not there, and passes standard input and output through. The
binary's stand-in takes its options, makes the calls with the real runtime, and writes the result file in its form.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

SERIAL = "R58M123ABC"
ADB = """#!{python}
import pathlib, shutil, subprocess, sys
root, here = {root!r}, "/data/local/tmp"
arguments = sys.argv[1:]
assert arguments[0] == "-s", arguments
if arguments[1] != {serial!r}:
    print(f"adb: device '{{arguments[1]}}' not found", file=sys.stderr)
    sys.exit(1)
verb, *rest = arguments[2:]
if verb == "push":
    place = pathlib.Path(rest[1].replace(here, root))
    shutil.copyfile(rest[0], place)
elif verb == "shell":
    line = rest[-1].replace(here, root)
    sys.exit(subprocess.run(["sh", "-c", line]).returncode)
else:
    sys.exit(f"adb: unknown command {{verb}}")
"""
PERF_TEST = """#!{python}
import argparse, resource, sys, time
import numpy, onnxruntime
parser = argparse.ArgumentParser()
for flag in ("-I", "-D"):
    parser.add_argument(flag, action="store_true")
for flag in ("-m", "-e"):
    parser.add_argument(flag)
for flag in ("-r", "-x", "-y"):
    parser.add_argument(flag, type=int)
parser.add_argument("-f", action="append", default=[])
parser.add_argument("model")
parser.add_argument("result")
asked = parser.parse_args()
assert asked.I and asked.m == "times" and asked.e == "cpu"
options = onnxruntime.SessionOptions()
options.intra_op_num_threads, options.inter_op_num_threads = asked.x, asked.y
options.log_severity_level = 4
for text in asked.f:
    name, size = text.split(":")
    options.add_free_dimension_override_by_name(name, int(size))
begin = time.perf_counter()
session = onnxruntime.InferenceSession(asked.model, options, providers=["CPUExecutionProvider"])
print(f"Session creation time cost: {{time.perf_counter() - begin:.7f}} s")
feeds = {{item.name: numpy.ones(item.shape, "float32") for item in session.get_inputs()}}
times = []
for _ in range(asked.r):
    begin = time.perf_counter()
    session.run(None, feeds)
    times.append(time.perf_counter() - begin)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
with open(asked.result, "a") as stream:
    for number, seconds in enumerate(times):
        print(f"{{asked.model}},{{seconds:.6g}},{{peak}},97,{{number}}", file=stream)
"""


def phone(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the stand-in `adb` first in PATH; the folder that its /data/local/tmp is, with the binary in it."""
    root, programs = home / "phone", home / "programs"
    root.mkdir()
    programs.mkdir()
    for path, text in ((programs / "adb", ADB), (root / "onnxruntime_perf_test", PERF_TEST)):
        path.write_text(text.format(python=sys.executable, root=str(root), serial=SERIAL))
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    return root
