"""Peak memory and time of the distillation loss over a large vocabulary: in chunks against the plain formula.

    python benchmarks/chunked_loss.py

Batch 2, 512 tokens, a vocabulary of 128,000; student 256 and teacher 512 wide; KL at temperature 2 plus cross-entropy,
forward and backward, float32. Each way runs in fresh processes, in turn; memory is the peak resident over what the
process held before the loss.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from common import Claim, finish, save_result

BATCH, LENGTH, VOCABULARY, STUDENT, TEACHER = 2, 512, 128_000, 256, 512
ROUNDS = 3


def measure(way: str) -> None:
    """Run one way in this process and print what it took, as JSON."""
    import torch
    from torch.nn.functional import cross_entropy

    from compress.distillation.losses.chunked import chunked_loss, rows_per_chunk
    from compress.distillation.losses.kl import kl

    torch.manual_seed(0)
    rows = BATCH * LENGTH
    hidden = torch.randn(rows, STUDENT, requires_grad=True)
    matrix = (torch.randn(VOCABULARY, STUDENT) / STUDENT**0.5).requires_grad_()
    their_hidden, their_matrix = torch.randn(rows, TEACHER), torch.randn(VOCABULARY, TEACHER) / TEACHER**0.5
    targets = torch.randint(0, VOCABULARY, (rows,))

    def row_loss(student: torch.Tensor, teacher: torch.Tensor | None, labels: torch.Tensor | None) -> torch.Tensor:
        assert teacher is not None
        assert labels is not None
        return len(student) * (0.5 * kl(student, teacher, 2.0) + 0.5 * cross_entropy(student, labels))

    warm = torch.randn(64, 64, requires_grad=True)
    (warm @ warm).log_softmax(1).sum().backward()  # type: ignore[no-untyped-call]
    base, start = resident(), time.perf_counter()
    if way == "plain":
        with torch.no_grad():
            theirs = their_hidden @ their_matrix.T
        loss = row_loss(hidden @ matrix.T, theirs, targets) / rows
    else:
        chunk = rows_per_chunk(VOCABULARY, 2**24)
        loss = chunked_loss(hidden, matrix, their_hidden, their_matrix, targets, row_loss=row_loss, chunk=chunk)
    loss.backward()  # type: ignore[no-untyped-call]
    seconds = time.perf_counter() - start
    assert matrix.grad is not None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - base
    found = {"peak": peak, "seconds": seconds, "loss": loss.item(), "gradient": matrix.grad.norm().item()}
    print(json.dumps(found))


def resident() -> int:
    """Bytes that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def main() -> int:
    """Measure both ways in turn and hold the claims."""
    found: dict[str, list[dict[str, float]]] = {"plain": [], "chunked": []}
    for _ in range(ROUNDS):
        for way, rounds in found.items():
            done = subprocess.run([sys.executable, __file__, way], capture_output=True, text=True, check=True)
            rounds.append(json.loads(done.stdout))
    peak = {way: median(r["peak"] for r in rounds) for way, rounds in found.items()}
    seconds = {way: median(r["seconds"] for r in rounds) for way, rounds in found.items()}
    lines = [
        {
            "way": way,
            "peak memory": f"{peak[way] / 1e6:,.0f} MB",
            "forward and backward": f"{seconds[way]:.2f} s",
            "loss": f"{found[way][0]['loss']:.6f}",
        }
        for way in found
    ]
    plain, chunked = found["plain"][0], found["chunked"][0]
    difference = max(abs(chunked[key] / plain[key] - 1) for key in ("loss", "gradient"))
    claims = [
        Claim("peak memory, chunked over plain", peak["chunked"] / peak["plain"], "<=", 0.25),
        Claim("relative difference of loss and gradient norm", difference, "<=", 1e-4, "{:.1e}"),
    ]
    return save_result(
        "chunked_loss", lines, claims, [f"time, chunked over plain: {seconds['chunked'] / seconds['plain']:.2f}"]
    )


if __name__ == "__main__":
    if len(sys.argv) == 2:
        measure(sys.argv[1])
    else:
        finish(main)
