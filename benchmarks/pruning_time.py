"""Pruning to twice the speed: was the time reached, and was it predicted?

    COMPRESS_DATA=... python benchmarks/pruning_time.py [--only resnet20 bert] [--precision int8] [--batch 1]

ResNet-20 and ResNet-56 (published weights, CIFAR-10), MobileNetV2 (32x32, new weights) and a 6-layer BERT (256 wide,
128 tokens, new weights) are cut to `reach: {speedup: 2}` on this machine with one thread, in fp32 and int8, at batch 1
and 32, blocks allowed, the first choice taken. Where 2 is out of reach the speed-up that the message states is asked
instead. The file of what was cut is then exported once more and measured afresh beside the whole one. Nothing is
trained afterwards: time does not depend on values. What is done is kept, so that an interrupted call goes on.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Claim, cifar10, finish, save_result
from torch import Tensor, nn

from compress.bundle import Deployment, TensorSpec
from compress.data.locations import cache_folder
from compress.errors import UsageError
from compress.models.factory import Factory, build
from compress.models.weights import load_weights
from compress.pruning.importance.measures import Given
from compress.pruning.latency.cached import FILES_RULE
from compress.pruning.latency.files import measure_files, timing_file
from compress.pruning.prune import PruneLog
from compress.pruning.reach import Where, emission_for, prune_to_time
from compress.pruning.settings import Pruning
from compress.stage import Silent
from compress.targets.reading import read_target
from compress.targets.settings import TargetSettings

NETWORKS = ("resnet20", "resnet56", "mobilenet_v2", "bert")
WEIGHTS = {"resnet20": "resnet20-12fca82f.th", "resnet56": "resnet56-4bfd9763.th"}
CANDIDATES = 1
"""Choices, in place of 96 that are judged: which of those that take a time is best is not what is looked at here."""
IMAGES = Deployment(
    {"name": "image-classification", "arguments": {}},
    (TensorSpec("image", "float32", ("batch", 3, 32, 32)),),
    (TensorSpec("logits", "float32", ("batch", 10)),),
)
TEXTS = Deployment(
    {"name": "text-classification", "arguments": {}},
    tuple(TensorSpec(name, "int64", ("batch", "sequence")) for name in ("input_ids", "attention_mask")),
    (TensorSpec("logits", "float32", ("batch", 2)),),
    extra={"sizes": {"sequence": 128}},
)


def network(name: str) -> nn.Module:
    """The network, with published weights where there are such."""
    if name == "bert":
        config = {
            "model_type": "bert", "hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 8,
            "intermediate_size": 1024, "vocab_size": 2000, "num_labels": 2,
        }  # fmt: skip
        arguments = {"config": config, "head": "sequence-classification", "inputs": ["input_ids", "attention_mask"]}
        return build(Factory("transformers", "bert", arguments), seed=0).eval()
    more = {"shortcut": "A"} if name.startswith("resnet") else {}
    module = build(Factory("zoo", name, {"num_classes": 10, "in_channels": 3, "width": 1.0, **more}), seed=0)
    if name in WEIGHTS:
        load_weights(module, Path(os.environ["COMPRESS_DATA"]) / "models/resnet_cifar10" / WEIGHTS[name])
    return module.eval()


def examples(name: str) -> list[tuple[tuple[Tensor, ...], Tensor]]:
    """Small batches for importance: CIFAR-10 training images, or made-up texts."""
    if name == "bert":
        draw = torch.Generator().manual_seed(0)
        return [
            ((torch.randint(5, 2000, (8, 128), generator=draw), torch.ones(8, 128, dtype=torch.int64)),
             torch.randint(0, 2, (8,), generator=draw))
            for _ in range(8)
        ]  # fmt: skip
    data = cifar10(256)
    batches = [data.batch(data.train, np.arange(start, start + 8)) for start in range(0, 256, 8)]
    return [((torch.from_numpy(batch.inputs[0]),), torch.from_numpy(batch.targets)) for batch in batches]


def cut(name: str, precision: str, batch: int, speedup: float, target: TargetSettings) -> tuple[nn.Module, PruneLog]:
    """The network without what went for the speed-up."""
    module, batches = network(name), examples(name)
    deployment = TEXTS if name == "bert" else IMAGES
    inputs: Sequence[Tensor] = [tensor[:1] for tensor in batches[0][0]]
    settings = Pruning.model_validate(
        {
            "reach": {"speedup": speedup, "batch": batch, "precision": precision},
            "rounds": 3,
            "round_to": 8,
            "candidates": CANDIDATES,
        }
    )
    where = Where(target, deployment, Silent())
    given = Given(batches, nn.functional.cross_entropy)
    return module, prune_to_time(module, inputs, settings, where, given, lambda choose: choose())


def one(name: str, precision: str, batch: int, speedup: float, target: TargetSettings) -> dict[str, Any]:
    """What was asked, stated, predicted and measured."""
    start, stated = time.perf_counter(), None
    try:
        pruned, log = cut(name, precision, batch, speedup, target)
    except UsageError as error:
        found = re.search(r"fastest reachable is \S+ ms, ([\d.]+)x", str(error))
        if found is None:
            raise
        stated = float(found[1])
        pruned, log = cut(name, precision, batch, stated, target)
    assert log.timing is not None
    deployment, emission = TEXTS if name == "bert" else IMAGES, emission_for(target, precision)
    files = {"whole": timing_file(network(name), deployment, emission)}
    files["pruned"] = timing_file(copy.deepcopy(pruned), deployment, emission)
    faster = measure_files(files, deployment, target, batch, Silent())["pruned"][1]
    return {
        "asked": speedup,
        "stated": stated,
        "predicted": log.timing.whole_ms / log.timing.predicted_ms,
        "measured": faster,
        "whole_ms": log.timing.whole_ms,
        "tries": [(log.timing.whole_ms / before, log.timing.whole_ms / after) for before, after in log.timing.tries],
        "blocks_gone": len(log.dropped),
        "macs_left": log.after["macs"] / log.before["macs"],
        "seconds": time.perf_counter() - start,
    }


def main() -> int:
    """Cut, measure, print, keep; 0 if every time was reached and predicted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--precision", nargs="+", choices=["fp32", "int8"], default=["fp32", "int8"])
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 32])
    parser.add_argument("--speedup", type=float, default=2.0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    target = read_target("local")
    folder = cache_folder() / "benchmarks" / f"pruning_time-{FILES_RULE}"
    folder.mkdir(parents=True, exist_ok=True)
    lines, worst_asked, worst_predicted = [], 0.0, 0.0
    for name in arguments.only:
        for precision in arguments.precision:
            for batch in arguments.batch:
                note = folder / f"{name}-{precision}-{batch}-{arguments.speedup:g}.json"
                if not note.exists():
                    note.write_text(json.dumps(one(name, precision, batch, arguments.speedup, target)))
                found = json.loads(note.read_text())
                wanted = found["stated"] or found["asked"]
                off, wrong = abs(wanted / found["measured"] - 1), abs(found["measured"] / found["predicted"] - 1)
                worst_asked, worst_predicted = max(worst_asked, off), max(worst_predicted, wrong)
                asked = f"{found['asked']:g}x" + (f", fastest stated {wanted:.2f}x" if found["stated"] else "")
                lines.append(
                    {
                        "network": name,
                        "precision": precision,
                        "batch": batch,
                        "whole": f"{found['whole_ms']:.3g} ms",
                        "asked": asked,
                        "predicted": f"{found['predicted']:.2f}x",
                        "measured": f"{found['measured']:.2f}x",
                        "MACs left": f"{found['macs_left']:.0%}",
                        "blocks gone": found["blocks_gone"],
                        "seconds": round(found["seconds"]),
                    }
                )
                print(lines[-1], flush=True)
    claims = [
        Claim("largest miss of the time that was asked or stated", worst_asked, "<=", 0.10, "{:.1%}"),
        Claim("largest error of the prediction", worst_predicted, "<=", 0.10, "{:.1%}"),
    ]
    return save_result("pruning_time", lines, claims, ["one thread; nothing trained"])


if __name__ == "__main__":
    finish(main)
