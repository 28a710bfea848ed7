"""Files of a language model that need no calibration: time, size and perplexity, beside ONNX Runtime's own quantizers.

    COMPRESS_DATA=... python benchmarks/weight_only.py [--rounds 6] [--set train.epochs=1]

Time and size: a Llama of 13.7 million parameters (6 layers of 384, 8,000 tokens, the embedding is the head) with seeded
weights, without a key-value cache, batch 1, 64 tokens and 1 token, one thread, rounds of fresh processes in which every
file has its turn. Perplexity (per character, of the validation text): the trained teacher of
`pipelines/shakespeare_llama.yaml`. ONNX Runtime's quantizers get a file in which the head has weights of its own, which
they do not find otherwise; blocks of 32, zero points, accuracy level 4.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from common import Claim, finish, save_result
from distillation_shakespeare import PIPELINE, Bench
from onnx import ModelProto, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from torch import nn

from compress.bundle import Deployment, TensorSpec
from compress.config import read_pipeline
from compress.exporting.emissions.weight_only import weight_only
from compress.exporting.rounded import emitted
from compress.exporting.torch_onnx import example_inputs, save, to_proto
from compress.models.factory import build, factory_for
from compress.models.need import Need, TextNeed
from compress.models.settings import ModelSettings
from compress.profiling.answers import answers
from compress.profiling.profile import compare, profile
from compress.targets.settings import TargetSettings

VOCABULARY, LENGTHS, BLOCK = 8000, (64, 1), 32
NETWORK = {
    "model_type": "llama", "hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 6,
    "num_attention_heads": 6, "num_key_value_heads": 6, "tie_word_embeddings": True,
}  # fmt: skip
OURS = ("fp32", "ort-dynamic", "ort-weights8", "ort-weights4")
SYMMETRIC = "ort-weights4, symmetric"
THEIRS = {
    "ort-dynamic": "onnxruntime dynamic",
    "ort-weights8": "onnxruntime 8 bits",
    "ort-weights4": "onnxruntime 4 bits",
}
NAMES = ("input_ids", "attention_mask")


def float_graph(module: Any) -> ModelProto:
    """A language model of `transformers` as an ONNX graph with a free batch and length."""
    vocabulary = module.network.config.vocab_size
    deployment = Deployment(
        task={},
        inputs=tuple(TensorSpec(name, "int64", ("batch", "sequence")) for name in NAMES),
        outputs=(TensorSpec("output", "float32", ("batch", "sequence", vocabulary)),),
    )
    return to_proto(module, deployment, example_inputs(deployment))


def seeded() -> nn.Module:
    """The network whose time is measured."""
    text = TextNeed(VOCABULARY, max_length=256, pad_id=0, bos_id=1, eos_id=2, start_id=1)
    need = Need((), VOCABULARY, "causal-lm", NAMES, text)
    return build(factory_for(ModelSettings(transformers=NETWORK), need), 0).eval()


def write_files(floating: ModelProto, folder: Path) -> dict[str, Path]:
    """Our files and those of ONNX Runtime's quantizers."""
    folder.mkdir()
    files = {name: emitted(floating, name) for name in OURS}
    files[SYMMETRIC] = weight_only(floating, 4, symmetric=True)
    for bits, name in ((8, THEIRS["ort-weights8"]), (4, THEIRS["ort-weights4"])):
        tool = MatMulNBitsQuantizer(untied(floating), bits=bits, block_size=BLOCK, is_symmetric=False, accuracy_level=4)
        tool.process()
        files[name] = tool.model.model
    paths = {}
    for name, proto in files.items():
        paths[name] = folder / f"{name.replace(' ', '-').replace(',', '')}.onnx"
        save(proto, paths[name])
    save(untied(floating), folder / "untied.onnx")
    paths[THEIRS["ort-dynamic"]] = folder / "theirs.onnx"
    quantize_dynamic(folder / "untied.onnx", folder / "theirs.onnx", per_channel=True, weight_type=QuantType.QInt8)
    return paths


def untied(floating: ModelProto) -> ModelProto:
    """A copy in which transposed constants are constants of their own."""
    result = ModelProto()
    result.CopyFrom(floating)
    arrays = {item.name: item for item in result.graph.initializer}
    for node in [node for node in result.graph.node if node.op_type == "Transpose" and node.input[0] in arrays]:
        turned = numpy_helper.to_array(arrays[node.input[0]]).T.copy()
        result.graph.initializer.append(numpy_helper.from_array(turned, node.output[0]))
        result.graph.node.remove(node)
    onnx.checker.check_model(result)
    return result


def main() -> int:
    """Measure, compare, keep; 0 if the claims hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--set", action="append", default=[], help="override a value of the pipeline")
    arguments = parser.parse_args()
    logging.getLogger("onnx_ir").setLevel(logging.WARNING)  # which onnxruntime.quantization has let say all
    target = TargetSettings(rounds=arguments.rounds, seconds=0.3, throughput_batch=8)
    bench = Bench(read_pipeline(PIPELINE, arguments.set), threads=1)
    with tempfile.TemporaryDirectory() as scratch:
        trained = write_files(float_graph(bench.teacher()), Path(scratch) / "trained")
        perplexity = {name: perplexity_of(path, bench, target) for name, path in trained.items()}
        files = write_files(float_graph(seeded()), Path(scratch) / "seeded")
        size = {name: path.stat().st_size for name, path in files.items()}
        profiles = {
            length: profile(files, target.model_copy(update={"shapes": {"sequence": length}})) for length in LENGTHS
        }
    lines = []
    for name in files:
        line: dict[str, Any] = {"file": name, "size": f"{size[name] / 1e6:.1f} MB"}
        for length, found in profiles.items():
            ratio = compare(found["fp32"][0], found[name][0])
            what = _tokens(length)
            line[what] = f"{found[name][0].p50_ms:.2f} ms"
            faster = f"{ratio.value:.2f}x ({ratio.low:.2f} to {ratio.high:.2f})"
            line[f"{what}, faster"] = "" if name == "fp32" else faster
        line["perplexity, trained"] = f"{perplexity[name]:.4f}"
        lines.append(line)
    return save_result("weight_only", lines, claims_of(size, perplexity, profiles), notes_of(profiles))


def _tokens(length: int) -> str:
    return f"{length} token{'' if length == 1 else 's'}"


def perplexity_of(path: Path, bench: Bench, target: TargetSettings) -> float:
    """Of the validation text, by the file."""
    split = bench.data.validation
    found = answers(path, bench.data, split, target, task=bench.task)
    return float(bench.task.metrics(found, split.targets(np.arange(len(split))))["perplexity"])


def claims_of(size: dict[str, int], perplexity: dict[str, float], profiles: dict[int, Any]) -> list[Claim]:
    """What is said of the files."""
    claims = [
        Claim("size of ort-weights4 over fp32", size["ort-weights4"] / size["fp32"], "<=", 0.2),
        Claim("size of ort-weights8 over fp32", size["ort-weights8"] / size["fp32"], "<=", 0.32),
    ]
    for name in OURS[1:]:
        most = 1.02 if name == "ort-weights4" else 1.005
        lost = perplexity[name] / perplexity["fp32"]
        claims.append(Claim(f"perplexity of {name} over fp32", lost, "<=", most, "{:.4f}"))
        over = perplexity[name] / perplexity[THEIRS[name]]
        claims.append(Claim(f"perplexity of {name} over {THEIRS[name]}", over, "<=", 1.001, "{:.4f}"))
        for length, found in profiles.items():
            ours, theirs = found[name][0], found[THEIRS[name]][0]
            claims.append(
                Claim(f"time of {name} over fp32, {_tokens(length)}", ours.p50_ms / found["fp32"][0].p50_ms, "<=", 1.0)
            )
            what = f"time of {name} over {THEIRS[name]}, {_tokens(length)}"
            claims.append(Claim(what, compare(ours, theirs).value, "<=", 1.1))
    return claims


def notes_of(profiles: dict[int, Any]) -> list[str]:
    """What the profiles say of the machine."""
    return [f"{_tokens(length)}: {note}" for length, found in profiles.items() for note in found.notes]


if __name__ == "__main__":
    finish(main)
