"""Latency of our int8 file beside those of the peers, file against file, in one run.

    COMPRESS_DATA=... python benchmarks/int8_peers.py [--networks resnet18 bert] [--tools "nncf onnx"] [--rounds 12]

The peers are ONNX Runtime's quantize_static and quantize_dynamic, NNCF, NVIDIA modelopt and Microsoft Olive, each
installed by pip into an environment of its own and started from the same float file with the same 64 samples
(`int8_networks.py` makes them, `int8_files.py` has it done, `peers/` holds a program for each). All files of a network
are measured against each other in interleaved rounds of fresh processes, with one thread. A peer that cannot do a case
stands in the table with the first line of its error. `ours` is the file that this project's tool says to deploy, which
is the float file where int8 does not pay; its int8 file stands beside it. Errors are those of the logits on samples
that nobody calibrated on, as a share of how much the float file's logits differ between samples.

Files and measurements are kept in the cache folder, so that an interrupted call goes on. `--prepare` only makes the
files. Results are written if nothing was left out, or with `--save NAME`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from common import ROOT, Claim, finish, save_result, table
from int8_files import NAMED, TOOLS, quantized, version
from int8_networks import NETWORKS, Case, Samples, case
from numpy.typing import NDArray

import compress
from compress.console import ConsoleProgress
from compress.data.locations import cache_folder
from compress.exporting.int8_share import int8_share
from compress.profiling.latency import Latency
from compress.profiling.profile import compare, profile
from compress.profiling.statistics import Ratio
from compress.targets.reading import read_target
from compress.targets.settings import TargetSettings
from compress.targets.target import fingerprint

BATCHES = (1, 8)
FLOAT, OURS, OURS_INT8 = "fp32", "ours", "ours, int8"
"""The loss of agreement that ours may have: untrained networks tell their classes apart by little."""
UNEVEN = ("efficientnet_b0", "vit_tiny", "bert")
"""Where peers' int8 pays little, and ours has to be faster than the best of them at least twice."""
LEAST_SPEEDUP = {"resnet18": 3.0, "resnet50": 3.0, "bert": 1.9}
LEAST_SHARE, SLOWER = 0.95, 0.03
MISSED = "its inputs are quantized"
"""How the reason starts of an operator that was meant to be int8 and is not."""


ANY_LOSS = 1e9
QUICK = read_target("local").model_copy(update={"rounds": 6, "seconds": 0.1, "throughput_batch": 8})
"""How ours finds out which file to deploy."""


def ours(float_file: Path, samples: Samples, out: Path, sizes: Mapping[str, int]) -> tuple[Path, Path]:
    """What this project makes of a bare float file for ONNX Runtime on x86: the file to deploy, and the int8 one.

    Most of these networks are untrained, so that what they lose means little: like the peers ours takes ranges from
    samples and no more, and what to deploy is decided by time alone.
    """
    made = compress.quantize_file(
        float_file, samples, out, emit="ort-x86", budget=ANY_LOSS, rungs=("static",), shapes=sizes, target=QUICK
    )
    return made.files[made.deploy], made.files["ort-x86"]


def our_files(network: Case) -> dict[str, dict[str, Any]]:
    """Like `quantized` of a peer, for ours; kept for as long as this project's code is what it was."""
    folder = network.float_file.parent / OURS
    note, digest = network.float_file.parent / f"{OURS}.json", _code()
    found: dict[str, Any] = json.loads(note.read_text()) if note.exists() else {}
    if found.get("code") != digest:
        print(f"{network.name}: {OURS}", flush=True)
        found = {"code": digest, "files": {}, "error": None}
        try:
            deployed, integer = ours(network.float_file, network.calibration(), folder, network.sizes)
            found["files"] = {OURS: str(deployed), OURS_INT8: str(integer)}
        except Exception as error:
            found["error"] = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        note.write_text(json.dumps(found) + "\n")
    if found["error"]:
        return {OURS: {"error": found["error"]}}
    return {name: {"file": Path(file)} for name, file in found["files"].items()}


def _code() -> str:
    """A digest of this project's code."""
    digest = hashlib.sha256()
    for file in sorted((ROOT / "compress").rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def logits(file: Path, samples: Samples) -> NDArray[np.float32]:
    """The first output for all samples, at the file's own batch size where it is fixed, else eight at a time."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    fixed = session.get_inputs()[0].shape[0]
    batch = fixed if isinstance(fixed, int) else 8
    count = len(next(iter(samples.values())))
    parts = [{name: x[start : start + batch] for name, x in samples.items()} for start in range(0, count, batch)]
    return np.concatenate([session.run(None, part)[0] for part in parts])


def quality(of_float: NDArray[np.float32], found: NDArray[np.float32]) -> dict[str, float]:
    """How far logits are from the float file's: cosine, error over spread between samples, same first class."""
    norms = np.linalg.norm(of_float, axis=1) * np.linalg.norm(found, axis=1)
    spread = float(np.sqrt(((of_float - of_float.mean(axis=0)) ** 2).mean()))
    return {
        "cosine": float(((of_float * found).sum(axis=1) / norms).mean()),
        "error": float(np.sqrt(((of_float - found) ** 2).mean())) / spread,
        "same class": float((of_float.argmax(axis=1) == found.argmax(axis=1)).mean()),
    }


def free_batch(file: Path) -> bool:
    """Whether a file takes any batch; one that was bound to a batch is freed in place where that works."""
    proto = onnx.load(file)
    first = [value.type.tensor_type.shape.dim[0] for value in proto.graph.input]
    if not any(axis.HasField("dim_value") for axis in first):
        return True
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del proto.graph.value_info[:]
    freed = file.with_suffix(".freed.onnx")
    onnx.save(proto, freed)
    try:
        session = onnxruntime.InferenceSession(str(freed), providers=["CPUExecutionProvider"])
        kinds = {"tensor(int64)": np.int64, "tensor(float)": np.float32}
        feeds = {
            value.name: np.ones([3, *(n if isinstance(n, int) else 16 for n in value.shape[1:])], kinds[value.type])
            for value in session.get_inputs()
        }
        works = len(session.run(None, feeds)[0]) == 3
    except Exception:  # whatever the runtime raises for a graph in which the batch is written down elsewhere
        works = False
    if works:
        freed.replace(file)
    freed.unlink(missing_ok=True)
    return works


def examine(network: Case, made: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each file that there is its quality and its int8 operators; those that do not run become errors."""
    held_out = network.held_out()
    of_float = logits(network.float_file, held_out)
    found: dict[str, dict[str, Any]] = {}
    for name, entry in made.items():
        if "file" not in entry:
            found[name] = entry
            continue
        try:
            free = name == FLOAT or free_batch(entry["file"])
            share = int8_share(entry["file"])
            missed = sum(operator["reason"].startswith(MISSED) for operator in share.not_int8)
            found[name] = {
                **entry,
                **quality(of_float, logits(entry["file"], held_out)),
                "integer": share.integer,
                "meant": share.integer + missed,
                "total": share.total,
                "fixed": not free,
            }
        except Exception as error:  # whatever the runtime raises for a file that it cannot load or run
            found[name] = {"error": f"does not run: {(str(error).splitlines() or [''])[0]}"}
    return found


def measure(network: Case, files: Mapping[str, Path], target: TargetSettings) -> dict[str, Any]:
    """Rows of each file, by batch, and what is to be said of the machine. Kept, for these very files and settings."""
    digests = {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items()}
    asked = [digests, target.model_dump(mode="json"), fingerprint(target)]
    key = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]
    note = network.float_file.parent / f"measured-{key}.json"
    if not note.exists():
        axes = {name: _axes(file, network.sizes) for name, file in files.items()}
        measured = profile(files, target, sizes=axes, progress=ConsoleProgress())
        rows = {name: [latency.row() for latency in latencies] for name, latencies in measured.items()}
        repeat = None if measured.repeat is None else measured.repeat.value
        note.write_text(json.dumps({"rows": rows, "repeat": repeat, "notes": list(measured.notes)}) + "\n")
    found: dict[str, Any] = json.loads(note.read_text())
    return {**found, "rows": {n: {r["batch"]: Latency.from_row(r) for r in rows} for n, rows in found["rows"].items()}}


def _axes(file: Path, sizes: Mapping[str, int]) -> dict[str, int]:
    """The sizes of those axes that a file has."""
    inputs = onnx.load(file, load_external_data=False).graph.input
    there = {axis.dim_param for value in inputs for axis in value.type.tensor_type.shape.dim}
    return {name: size for name, size in sizes.items() if name in there}


def lines(network: Case, found: Mapping[str, dict[str, Any]], measured: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One line a tool: milliseconds, times against ours and the float file, int8 operators, and errors."""
    rows, result = measured["rows"], []
    for name, entry in found.items():
        line: dict[str, Any] = {"network": network.name, "tool": name}
        if name not in rows:
            result.append({**line, "error": entry["error"]})
            continue
        for batch in BATCHES:
            latency = rows[name].get(batch)
            line[f"p50 b{batch}"] = "fixed batch" if latency is None else f"{latency.p50_ms:.3g} ms"
            line[f"fp32 over it b{batch}"] = "" if latency is None else _ratio(rows[FLOAT][batch], latency)
            both = latency is not None and batch in rows.get(OURS, {})
            line[f"it over ours b{batch}"] = _ratio(latency, rows[OURS][batch]) if both else ""
        line["int8 operators"] = f"{entry['integer']} of {entry['total']}"
        line["cosine"] = f"{entry['cosine']:.4f}"
        line["error / spread"] = f"{entry['error']:.1%}"
        line["same class"] = f"{entry['same class']:.0%}"
        result.append(line)
    return result


def _ratio(first: Latency, second: Latency) -> str:
    ratio = compare(first, second)
    return f"{ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"


def claims(found: Mapping[str, Mapping[str, dict[str, Any]]], measured: Mapping[str, Any]) -> list[Claim]:
    """What has to hold of ours; a case without a file of ours holds nowhere."""
    result, faster = [], dict.fromkeys(BATCHES, 0)
    for name, note in measured.items():
        rows = note["rows"]
        if OURS not in found[name]:
            continue
        for batch in BATCHES:
            mine = rows.get(OURS, {}).get(batch)
            peers = {tool: at[batch] for tool, at in rows.items() if tool in TOOLS and batch in at}
            if mine is None:
                result.append(Claim(f"{name} b{batch}: a file of ours", 0, ">=", 1, "{:.0f}"))
                continue
            against_float = compare(rows[FLOAT][batch], mine)
            result.append(_no_slower(f"{name} b{batch}: fp32", against_float))
            if name in LEAST_SPEEDUP:
                what = f"{name} b{batch}: fp32 over ours"
                result.append(Claim(what, against_float.value, ">=", LEAST_SPEEDUP[name], "{:.2f}x"))
            if not peers:
                continue
            best = min(peers, key=lambda tool: peers[tool].p50_ms)
            against = compare(peers[best], mine)
            result.append(_no_slower(f"{name} b{batch}: best peer ({best})", against))
            faster[batch] += name in UNEVEN and against.low > 1
        entry = found[name].get(OURS, {})
        if entry.get("meant"):
            share = entry["integer"] / entry["meant"]
            result.append(Claim(f"{name}: of the operators meant, in int8", share, ">=", LEAST_SHARE, "{:.1%}"))
    for batch in BATCHES:
        if set(UNEVEN) <= set(measured):
            what = f"b{batch}: of {', '.join(UNEVEN)} faster than the best peer beyond the interval"
            result.append(Claim(what, faster[batch], ">=", 2, "{:.0f}"))
    return result


def _no_slower(what: str, over_ours: Ratio) -> Claim:
    """That ours is slower by no more than the interval or 3 %."""
    said = f"{what} over ours, {over_ours.value:.2f}x ({over_ours.low:.2f} to {over_ours.high:.2f})"
    value = max(over_ours.high, over_ours.value + SLOWER)
    return Claim(f"{said}: its upper end, or itself + {SLOWER}", value, ">=", 1, "{:.3f}")


def main() -> int:
    """Make the files, measure, print and save; 0 if every claim holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--tools", nargs="+", choices=[*TOOLS, OURS], default=[OURS, *TOOLS])
    parser.add_argument("--rounds", type=int, default=12, help="fresh processes per file, interleaved")
    parser.add_argument("--seconds", type=float, default=0.5, help="measured time per file, batch and round")
    parser.add_argument("--prepare", action="store_true", help="only make the files that are not there")
    parser.add_argument("--save", help="name of the result to write though networks or tools are left out")
    arguments = parser.parse_args()
    if "COMPRESS_DATA" not in os.environ:
        print("COMPRESS_DATA is not set: it must name the folder with cifar10/ and models/resnet_cifar10/")
        return 0
    folder = cache_folder() / "benchmarks" / "int8_peers"
    target = read_target("local").model_copy(
        update={
            "batches": BATCHES, "rounds": arguments.rounds, "seconds": arguments.seconds,
            "throughput_batch": 1, "throughput_seconds": 0.001,
        }
    )  # fmt: skip
    found: dict[str, dict[str, Any]] = {}
    measured: dict[str, Any] = {}
    all_lines: list[dict[str, Any]] = []
    peers = [name for name in TOOLS if name in arguments.tools]
    for name in arguments.networks:
        network = case(name, folder / name)
        made = {tool: quantized(network, tool, folder) for tool in peers}
        if arguments.prepare:
            print(*(f"{name}: {tool}: {entry.get('error') or 'made'}" for tool, entry in made.items()), sep="\n")
            continue
        mine = our_files(network) if OURS in arguments.tools else {}
        found[name] = examine(network, {FLOAT: {"file": network.float_file}, **mine, **made})
        files = {tool: entry["file"] for tool, entry in found[name].items() if "file" in entry}
        measured[name] = measure(network, files, target)
        told = lines(network, found[name], measured[name])
        all_lines += told
        print(table(told), flush=True)
    if arguments.prepare:
        return 0
    versions = [version(peer, folder) for peer in NAMED if peer in {TOOLS[name].peer for name in peers}]
    notes = ["one thread; " + ", ".join(dict.fromkeys(versions))]
    notes += [f"{name}: {note}" for name, entry in measured.items() for note in entry["notes"]]
    whole = set(arguments.networks) == set(NETWORKS) and set(arguments.tools) == {OURS, *TOOLS}
    left = [name for name in (*NETWORKS, OURS, *TOOLS) if name not in (*arguments.networks, *arguments.tools)]
    notes += [f"left out: {', '.join(left)}"] if left else []
    return report(all_lines, claims(found, measured), notes, name="int8_peers" if whole else arguments.save)


def report(rows: Sequence[dict[str, Any]], held: Sequence[Claim], notes: Sequence[str], *, name: str | None) -> int:
    """Print the claims, and if there is a name save them with the table; 0 if all hold."""
    if name:
        return save_result(name, rows, held, notes)
    print("\n".join(["", *(f"- {claim}" for claim in held), *(f"- note: {note}" for note in notes)]))
    return 0 if all(claim.holds for claim in held) else 1


if __name__ == "__main__":
    finish(main)
