"""A trained CIFAR-10 ResNet-56, pruned to a measured time and then int8, in one command: faster and how much worse?

    COMPRESS_DATA=... python benchmarks/cifar10_resnet56.py [--full] [--set data.limit.train=19200]

Runs `pipelines/cifar10_resnet56_fast.yaml` and reads its report: the int8 file against the whole network's float file,
at batches 1 and 32, one thread, measured side by side; accuracies are of all 10,000 test images, answered by ONNX
Runtime from the files. Two hours on two cores; a call that was interrupted goes on. `--full` asks for more speed and
trains 100 epochs, for a GPU; times are those of this machine's processor there, too.
"""

from __future__ import annotations

from chain import parser_of, run
from common import Claim, finish, save_result

FULL = [
    "prune.reach.speedup=4.4",
    "prune.recover.epochs=100",
    "prune.recover.batch_size=256",
    "prune.recover.learning_rate=0.03",
    "quantize.epochs=4",
]


def main() -> int:
    """Run, compare, print and save; the exit status says whether every claim held."""
    parser = parser_of(__doc__)
    parser.add_argument("--full", action="store_true", help="4 times and half a point are claimed, after 100 epochs")
    arguments = parser.parse_args()
    chain = run("cifar10_resnet56_fast.yaml", [*(FULL if arguments.full else ()), *arguments.set], arguments.store)
    if chain is None:
        return 0
    faster, worse = (4.0, 0.005) if arguments.full else (3.2, 0.01)
    lost = chain.reference["metrics"]["accuracy"] - chain.int8["metrics"]["accuracy"]
    claims = [*chain.faster(faster), Claim("accuracy lost", lost, "<=", worse, "{:.2%}")]
    name = "cifar10_resnet56_full" if arguments.full else "cifar10_resnet56"
    return save_result(name, chain.lines(), claims, chain.report.get("notes", []))


if __name__ == "__main__":
    finish(main)
