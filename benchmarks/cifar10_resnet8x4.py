"""A resnet32x4 teaches a resnet8x4 on CIFAR-10, which is pruned to a measured time and goes to int8: a GPU's work.

    COMPRESS_DATA=... python benchmarks/cifar10_resnet8x4.py [--set data.limit.train=2000]

Runs `pipelines/cifar10_resnet32x4_to_resnet8x4.yaml` and reads its report: the int8 file against the teacher's float
file at batches 1 and 32, one thread of this machine's processor, and its accuracy against that of the student before
pruning. A call that was interrupted goes on.
"""

from __future__ import annotations

from chain import parser_of, run
from common import Claim, finish, save_result


def main() -> int:
    """Run, compare, print and save; the exit status says whether every claim held."""
    arguments = parser_of(__doc__).parse_args()
    chain = run("cifar10_resnet32x4_to_resnet8x4.yaml", arguments.set, arguments.store)
    if chain is None:
        return 0
    lost = chain.accuracy("student-distill") - chain.int8["metrics"]["accuracy"]
    claims = [*chain.faster(8.0), Claim("points below the float student", lost, "<=", 0.005, "{:.2%}")]
    return save_result("cifar10_resnet8x4", chain.lines(), claims, chain.report.get("notes", []))


if __name__ == "__main__":
    finish(main)
