"""What pruning itself costs: seconds and peak memory for BERT-base (110 million parameters) at half of its MACs.

    python benchmarks/pruning_cost.py

A new BERT-base (Devlin et al. 2018) for sentence classification, 128 tokens, as many threads as `compress` takes by
default. Dependency graph, importance, selection and surgery: with the magnitude of weights; with first-order Taylor,
which reads 32 sentences once (what that takes grows with sentences and rounds, by default 256 and 5); and with
reconstruction from those 32 sentences besides. Each runs in a fresh process. Memory is the most that the process had
allocated during the pruning, looked at every 5 ms, over what it had before the network was built: the network itself is
counted. (Resident memory would not do: of it the system takes pages of files back, libraries among them, as it likes.)
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common import Claim, finish, save_result

WAYS: dict[str, dict[str, Any]] = {
    "magnitude": {"importance": "magnitude", "reconstruct": False},
    "taylor": {"importance": "taylor", "reconstruct": False},
    "magnitude, reconstructed": {"importance": "magnitude"},
}
EXAMPLES, BATCH, TOKENS, VOCABULARY = 32, 2, 128, 30_522
PAUSE = 0.005
"""Seconds between two looks at the memory."""


def measure(way: str) -> None:
    """Prune in this process and print what it took, as JSON."""
    import torch

    from compress.models.factory import Factory, build
    from compress.pruning.prune import prune_module
    from compress.pruning.settings import Pruning
    from compress.threads import default_threads

    torch.set_num_threads(default_threads())
    config = {"model_type": "bert", "vocab_size": VOCABULARY, "num_labels": 2}
    arguments = {"config": config, "head": "sequence-classification", "inputs": ["input_ids", "attention_mask"]}
    small = {**arguments, "config": {**config, "num_hidden_layers": 1, "vocab_size": 100}}
    draw = torch.Generator().manual_seed(0)
    texts = [
        (torch.randint(5, 100, (BATCH, TOKENS), generator=draw), torch.ones(BATCH, TOKENS, dtype=torch.int64))
        for _ in range(EXAMPLES // BATCH)
    ]
    batches = [(text, torch.randint(0, 2, (BATCH,), generator=draw)) for text in texts]
    settings = Pruning.model_validate({"keep": {"macs": 0.5}, "rounds": 1, **WAYS[way]})

    def prune(module: torch.nn.Module) -> float:
        start = time.perf_counter()
        log = prune_module(
            module, [x[:1] for x in texts[0]], settings, batches=batches, loss=torch.nn.functional.cross_entropy
        )
        print(f"{log.reached:.1%} of the MACs left", file=sys.stderr)
        return time.perf_counter() - start

    prune(build(Factory("transformers", "bert", small), seed=0).eval())  # everything is imported and warm
    base = allocated()
    module = build(Factory("transformers", "bert", arguments), seed=0).eval()
    size = sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())
    parameters = sum(parameter.numel() for parameter in module.parameters())
    with watched() as seen:
        seconds = prune(module)
    cost = {"size": size, "peak": max(seen) - base, "seconds": seconds}
    print(json.dumps({"parameters": parameters, "threads": default_threads(), **cost}))


def allocated() -> int:
    """Bytes of this process that no file holds."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


@contextmanager
def watched() -> Iterator[list[int]]:
    """What is allocated inside the block, again and again."""
    seen, done = [allocated()], threading.Event()

    def watch() -> None:
        while not done.wait(PAUSE):
            seen.append(allocated())

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield seen
    finally:
        done.set()
        watching.join()


def main() -> int:
    """Measure all, print, hold the claims."""
    found = {}
    for way in WAYS:
        done = subprocess.run([sys.executable, __file__, way], stdout=subprocess.PIPE, text=True, check=True)
        found[way] = json.loads(done.stdout.splitlines()[-1])
    lines = [
        {
            "pruning": way,
            "parameters": f"{one['parameters']:,}",
            "time": f"{one['seconds']:.1f} s",
            "peak memory": f"{one['peak'] / 1e6:,.0f} MB",
            "over the model's": f"{one['peak'] / one['size']:.2f}x",
        }
        for way, one in found.items()
    ]
    claims = [
        Claim("seconds, the slowest", max(one["seconds"] for one in found.values()), "<=", 60, "{:.1f}"),
        Claim("peak memory over the model's", max(o["peak"] / o["size"] for o in found.values()), "<=", 3, "{:.2f}"),
    ]
    return save_result(
        "pruning_cost", lines, claims, [f"threads: {found['magnitude']['threads']}; the network itself is counted"]
    )


if __name__ == "__main__":
    if sys.argv[1:]:
        measure(sys.argv[1])
    else:
        finish(main)
